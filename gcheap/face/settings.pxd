"""A heap's pacing and stall settings, from its options.  See settings.pyx."""
from gcheap.core.layout cimport HeapState

cdef int apply_settings(HeapState* h, options) except -1
