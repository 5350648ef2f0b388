"""Verification, level 4: marks against a second marking.  See verify_exact.pyx."""
from gcheap.core.layout cimport HeapState

cdef void compare_marks(HeapState* h) noexcept nogil
