"""Rewriting roots in the flip, without waiting for memory.  See ahead.pyx."""
from gcheap.core.layout cimport HeapState, word
from libc.stdint cimport uint64_t

cdef struct Ahead:              # by handle; the collector's own
    uint64_t count              # handles that existed; 0: nothing was computed
    word* old                   # what a handle held, if that was below TAMS; else 0
    word* new                   # and where that object goes

cdef void forward_ahead(HeapState* h, Ahead* ahead) noexcept nogil
cdef void rewrite_roots(HeapState* h, const Ahead* ahead) noexcept nogil
cdef void end_ahead(Ahead* ahead) noexcept nogil
