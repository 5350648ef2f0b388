"""What a heap has counted so far.  See tally.pyx."""
from gcheap.core.layout cimport HeapState, Tally

cdef void take_tally(HeapState* h, Tally* into) noexcept nogil
