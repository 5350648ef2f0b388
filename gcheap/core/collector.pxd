"""The collector thread.  See collector.pyx."""
from gcheap.core.layout cimport HeapState

cdef int start_collector(HeapState* h) noexcept nogil     # errno
cdef void stop_collector(HeapState* h) noexcept nogil
