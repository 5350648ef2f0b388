"""Handing out capacity and units.  See tlab.pyx."""
from gcheap.core.layout cimport HeapState, MutatorState
from libc.stdint cimport uint64_t

cdef enum TakeResult:
    TAKEN = 0
    NO_ROOM = 1                 # by capacity or by alloc_limit: a cycle may help
    NO_PLACE = 2                # the free pages for pinned arrays are scattered

cdef int charge(HeapState* h, uint64_t count) noexcept nogil    # TakeResult
cdef void discharge(HeapState* h, uint64_t count) noexcept nogil
cdef bint small_room(HeapState* h) noexcept nogil
cdef int take_tlab(HeapState* h, MutatorState* m) noexcept nogil
cdef void retire_tlab(MutatorState* m) noexcept nogil
cdef uint64_t allocated_by(MutatorState* m) noexcept nogil
