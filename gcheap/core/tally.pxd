"""What a heap has counted so far.  See tally.pyx."""
from gcheap.core.layout cimport HeapState
from gcheap.core.records cimport Tally

cdef void take_tally(HeapState* h, Tally* into) noexcept nogil
