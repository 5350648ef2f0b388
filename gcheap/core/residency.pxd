"""Which parts of a range have pages.  See residency.pyx."""
from gcheap.core.layout cimport word

cdef int open_pagemap() noexcept nogil
cdef void close_pagemap(int pagemap) noexcept nogil
cdef bint first_pages(int pagemap, word* low, word* high) noexcept nogil
