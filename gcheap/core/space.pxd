"""Address space: the halves, the side tables.  See space.pyx."""
from gcheap.core.layout cimport HeapState, word
from libc.stdint cimport uint64_t

cdef int reserve_space(HeapState* h) noexcept nogil             # errno
cdef void release_space(HeapState* h, bint keep_pinned) noexcept nogil
cdef void release_pinned(HeapState* h) noexcept nogil
cdef void release_heap(HeapState* h) noexcept nogil
cdef uint64_t resident_in(word at, uint64_t nbytes, uint64_t page,
                          unsigned char* vec) noexcept nogil
cdef uint64_t resident_bytes(HeapState* h) noexcept nogil
cdef void release_pages(HeapState* h, word at, uint64_t nbytes) noexcept nogil
cdef int new_bounce(HeapState* h, word* at) noexcept nogil      # errno
cdef void free_bounce(HeapState* h, word at) noexcept nogil
cdef bint empty_half(word* base, int which, uint64_t nbytes, bint registered) noexcept nogil
