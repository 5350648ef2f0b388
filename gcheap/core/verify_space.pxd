"""Verification, level 2: to-space after relocation.  See verify_space.pyx."""
from gcheap.core.layout cimport HeapState

cdef void check_space(HeapState* h) noexcept nogil
