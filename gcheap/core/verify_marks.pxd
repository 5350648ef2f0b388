"""Verification, level 2: the tri-colour invariant.  See verify_marks.pyx."""
from gcheap.core.layout cimport HeapState

cdef void check_marks(HeapState* h) noexcept nogil
