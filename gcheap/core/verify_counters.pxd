"""Verification, level 1: counters and states that must agree.  See verify_counters.pyx."""
from gcheap.core.layout cimport HeapState

cdef void check_placed(HeapState* h) noexcept nogil
cdef void check_counters(HeapState* h, bint relocated) noexcept nogil
