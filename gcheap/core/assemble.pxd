"""Assembly: building the contents of one to-space unit.  See assemble.pyx."""
from gcheap.core.layout cimport HeapState, ShapeInfo, word
from libc.stdint cimport uint64_t

cdef void assemble_unit(HeapState* h, uint64_t unit, word buffer) noexcept nogil
cdef void fix_black_unit(HeapState* h, uint64_t from_unit) noexcept nogil
cdef void fix_dense_unit(HeapState* h, uint64_t unit) noexcept nogil
cdef void fix_slots(HeapState* h, const ShapeInfo* shape, word* at, uint64_t count) noexcept nogil
