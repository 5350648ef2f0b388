"""Guardians, natively.  See guardian.pyx.

For native mutators: a function with an `m` is called RUNNING on m's thread and is no safepoint.
"""
from gcheap.core.layout cimport HeapState, MutatorState, word
from gcheap.core.mark cimport Marker
from gcheap.core.weakdata cimport Guardian
from gcheap.core.weaktable cimport ValueVisitor

cdef Guardian* new_guardian(HeapState* h) noexcept nogil        # NULL: no memory; any thread
cdef void drop_guardian(Guardian* g) noexcept nogil             # any thread; lock-free
# False: no memory.
cdef bint guard(MutatorState* m, Guardian* g, word obj, word agent) noexcept nogil
cdef word guardian_poll(MutatorState* m, Guardian* g) noexcept nogil    # 0: nothing

# Stopped world: visits what guardians keep alive, agents and what poll() would return.
cdef void read_guarded(HeapState* h, ValueVisitor visit, void* context) noexcept nogil

cdef void mark_held(Marker* k) noexcept nogil
cdef void find_due(HeapState* h) noexcept nogil
cdef void mark_due(Marker* k) noexcept nogil
cdef void publish_due(HeapState* h) noexcept nogil
cdef void forward_guardians(HeapState* h, bint rehearse) noexcept nogil
