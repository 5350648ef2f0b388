"""Mutators and pauses.  See safepoint.pyx for the protocol."""
from gcheap.core.layout cimport HeapState, MutatorState
from gcheap.core.records cimport PauseRecord

cdef int attach_mutator(HeapState* h, const char* name, MutatorState** out) noexcept nogil  # errno
cdef void detach_mutator(MutatorState* m) noexcept nogil
cdef void drop_owner(MutatorState* m) noexcept nogil
cdef MutatorState* thread_mutator(HeapState* h) noexcept nogil  # NULL: not attached
cdef MutatorState* running_mutator() noexcept nogil             # of any heap
cdef void enter_running(MutatorState* m) noexcept nogil
cdef void leave_running(MutatorState* m) noexcept nogil
cdef void park(MutatorState* m) noexcept nogil
cdef void begin_stall(MutatorState* m) noexcept nogil
cdef void end_stall(MutatorState* m) noexcept nogil
cdef void stop_world(HeapState* h, PauseRecord* pause) noexcept nogil
cdef void resume_world(HeapState* h, PauseRecord* pause) noexcept nogil
cdef bint everyone_outside(HeapState* h) noexcept nogil
cdef void park_this_thread() noexcept nogil             # for a fork
cdef void unpark_this_thread() noexcept nogil
cdef void keep_only_this_thread(HeapState* h) noexcept nogil
cdef void set_name(MutatorState* m, const char* name) noexcept nogil
