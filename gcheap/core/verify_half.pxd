"""Verification, level 3: the old half is inaccessible between relocations.  See verify_half.pyx."""
from gcheap.core.layout cimport HeapState

cdef void close_old_half(HeapState* h) noexcept nogil
cdef void open_old_half(HeapState* h) noexcept nogil
