"""Assembly: building the contents of one to-space unit.  See assemble.pyx."""
from gcheap.core.layout cimport HeapState, word
from libc.stdint cimport uint64_t

cdef void assemble_unit(HeapState* h, uint64_t unit, word buffer) noexcept nogil
cdef void fix_black_unit(HeapState* h, uint64_t from_unit) noexcept nogil
