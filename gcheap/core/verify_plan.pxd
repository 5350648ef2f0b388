"""Verification, level 2: the plan of the slide.  See verify_plan.pyx."""
from gcheap.core.layout cimport HeapState

cdef void check_plan(HeapState* h) noexcept nogil
