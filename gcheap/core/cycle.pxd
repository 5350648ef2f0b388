"""One collection cycle, phase by phase.  See cycle.pyx."""
from gcheap.core.layout cimport HeapState

cdef bint run_cycle(HeapState* h, bint full) noexcept nogil    # False: abandoned for a fork
