"""Anonymous memory of the heap's own.  See mapping.pyx."""
from gcheap.core.layout cimport word
from libc.stdint cimport uint64_t

cdef word map_memory(uint64_t nbytes, bint usable) noexcept nogil   # 0: refused, errno says why
cdef void unmap_memory(word at, uint64_t nbytes) noexcept nogil
