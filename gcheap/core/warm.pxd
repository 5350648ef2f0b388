"""What a pause will look at, fetched before it.  See warm.pyx."""
from gcheap.core.layout cimport HeapState

cdef void warm_roots(HeapState* h) noexcept nogil
