"""Placing: making assembled pages appear in to-space.  See place.pyx."""
from gcheap.core.layout cimport HeapState, word
from libc.stdint cimport uint32_t, uint64_t

cdef enum Site:                 # whose call it is: which failpoints it passes
    BY_COMPACTOR = 0
    BY_MUTATOR = 1              # serving a fault; in fault mode `handler` that thread
    OF_LARGE = 2                # grains of large objects, whoever moves them

cdef bint place(HeapState* h, word dst, word src, uint64_t nbytes, bint holes,
                uint32_t site) noexcept nogil
cdef bint place_hole(HeapState* h, word page) noexcept nogil
