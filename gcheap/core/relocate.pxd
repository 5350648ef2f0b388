"""Concurrent relocation: the compactor.  See relocate.pyx."""
from gcheap.core.layout cimport HeapState, MutatorState
from libc.stdint cimport uint64_t

cdef void compact(HeapState* h) noexcept nogil
cdef void compact_large(HeapState* h) noexcept nogil
cdef void build_unit(HeapState* h, MutatorState* m, uint64_t unit) noexcept nogil
