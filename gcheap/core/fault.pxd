"""The fault path: SIGBUS on a page that has not arrived.  See fault.pyx."""
from gcheap.core.layout cimport HeapState, MutatorState, word
from libc.stdint cimport uint64_t

cdef bint serve(HeapState* h, MutatorState* m, word address) noexcept nogil
cdef void fault_ended(MutatorState* m, uint64_t started, uint64_t pages,
                      uint64_t waits) noexcept nogil
cdef int watch_heap(HeapState* h) noexcept nogil          # errno; installs the handler
cdef void unwatch_heap(HeapState* h) noexcept nogil
cdef void ensure_handler(HeapState* h) noexcept nogil
cdef void lock_fault_path() noexcept nogil      # both locks of this module, for a fork
cdef void unlock_fault_path() noexcept nogil
