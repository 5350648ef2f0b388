"""Address space: the two halves, the side tables, and handing out units.  See space.pyx."""
from gcheap.core.layout cimport HeapState, MutatorState, word
from libc.stdint cimport uint32_t, uint64_t

cdef enum TakeResult:
    TAKEN = 0
    NO_ROOM = 1                 # by capacity or by alloc_limit: a cycle may help
    NO_PLACE = 2                # the free pages for pinned arrays are scattered

cdef int reserve_space(HeapState* h) noexcept nogil             # errno
cdef void release_space(HeapState* h, bint keep_pinned) noexcept nogil
cdef void release_pinned(HeapState* h) noexcept nogil
cdef void release_heap(HeapState* h) noexcept nogil
cdef int charge(HeapState* h, uint64_t count) noexcept nogil    # TakeResult
cdef void discharge(HeapState* h, uint64_t count) noexcept nogil
cdef bint small_room(HeapState* h) noexcept nogil
cdef int take_tlab(HeapState* h, MutatorState* m) noexcept nogil
cdef void retire_tlab(MutatorState* m) noexcept nogil
cdef uint64_t allocated_by(MutatorState* m) noexcept nogil
cdef uint64_t resident_bytes(HeapState* h) noexcept nogil
# 0 when refused, and errno says why.
cdef word map_memory(word at, uint64_t nbytes, int protection) noexcept nogil
cdef void release_pages(HeapState* h, word at, uint64_t nbytes) noexcept nogil
cdef int new_bounce(HeapState* h, word* at) noexcept nogil      # errno
cdef void free_bounce(HeapState* h, word at) noexcept nogil
cdef void empty_half(word* base, int which, uint64_t nbytes, bint registered) noexcept nogil
