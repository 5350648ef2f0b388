"""Giving up a cycle before its flip, because a fork waits.  See abandon.pyx."""
from gcheap.core.layout cimport HeapState
from gcheap.core.mark cimport Marker
from gcheap.core.native cimport load32_relaxed
from gcheap.core.records cimport PauseRecord

cdef bint trace_until_held(Marker* k) noexcept nogil
cdef void abandon(HeapState* h, Marker* k, PauseRecord* pause) noexcept nogil


cdef inline bint held(HeapState* h) noexcept nogil:
    """Whether a fork waits for this cycle.  Relaxed: a late look only lengthens its wait."""
    return load32_relaxed(&h.hold) != 0
