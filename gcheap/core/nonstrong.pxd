"""Concurrent Process Non-Strong References.  See nonstrong.pyx."""
from gcheap.core.layout cimport HeapState
from gcheap.core.mark cimport Marker

cdef void block_weak_reads(HeapState* h) noexcept nogil
cdef void process_non_strong(Marker* k) noexcept nogil
cdef void forward_non_strong(HeapState* h, bint rehearse) noexcept nogil
cdef void announce_cleared(HeapState* h) noexcept nogil
