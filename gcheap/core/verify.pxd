"""Verification: what is checked at which level, and when.  See verify.pyx."""
from gcheap.core.layout cimport HeapState

cdef void verify_mark_start(HeapState* h) noexcept nogil
cdef void verify_mark_end(HeapState* h) noexcept nogil
cdef void verify_planned(HeapState* h) noexcept nogil
cdef void verify_relocated(HeapState* h) noexcept nogil
cdef void verify_cycle_end(HeapState* h, bint relocated) noexcept nogil
