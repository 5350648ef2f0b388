"""Giving side tables back to the kernel.  See shrink.pyx."""
from gcheap.core.layout cimport HeapState
from libc.stdint cimport uint64_t

cdef void release_tables(HeapState* h, uint64_t keep) noexcept nogil
cdef void release_large_tables(HeapState* h) noexcept nogil
