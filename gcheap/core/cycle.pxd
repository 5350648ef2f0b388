"""One collection cycle, phase by phase.  See cycle.pyx."""
from gcheap.core.layout cimport HeapState

cdef void run_cycle(HeapState* h, bint full) noexcept nogil
