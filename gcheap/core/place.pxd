"""Placing: making assembled pages appear in to-space.  See place.pyx."""
from gcheap.core.layout cimport HeapState, word
from libc.stdint cimport uint64_t

cdef bint place(HeapState* h, word dst, word src, uint64_t nbytes, bint holes) noexcept nogil
cdef bint place_hole(HeapState* h, word page) noexcept nogil
