"""Verification of weak references, weak tables and guardians.  See weakverify.pyx."""
from gcheap.core.layout cimport HeapState

cdef void verify_weak(HeapState* h, bint marked) noexcept nogil
cdef void verify_cleared(HeapState* h) noexcept nogil
