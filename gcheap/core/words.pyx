"""An array of words that grows without copying.

Growth is mremap: page tables are edited, no word is copied, and what is not used yet is not
memory.  So nobody has to know in advance how many words there will be, and a queue of a hundred
million objects costs no more than its words.
"""
from gcheap.core.failpoint cimport FP_MEMORY_INSPECT, failpoint
from gcheap.core.layout cimport word
from gcheap.core.mapping cimport map_memory, unmap_memory
from libc.stdint cimport uint64_t
from posix.mman cimport MADV_DONTNEED, MAP_FAILED, madvise

cdef extern from "<sys/mman.h>" nogil:
    int MREMAP_MAYMOVE
    void* mremap(void* at, size_t before, size_t after, int flags)

cdef enum:
    FIRST_WORDS = 1 << 16


cdef bint words_grow(Words* w) noexcept nogil:
    cdef uint64_t room = 2 * w.room if w.room else <uint64_t>FIRST_WORDS
    cdef void* at
    if failpoint(FP_MEMORY_INSPECT):
        return False
    if w.room:
        at = mremap(w.at, w.room * 8, room * 8, MREMAP_MAYMOVE)
    else:
        at = <void*>map_memory(room * 8, True)
    if at == NULL or at == MAP_FAILED:
        return False
    w.at = <uint64_t*>at
    w.room = room
    return True


cdef void words_free(Words* w) noexcept nogil:
    if w.room:
        unmap_memory(<word>w.at, w.room * 8)
    w.at = NULL
    w.count = w.room = 0


cdef void words_forget(Words* w, uint64_t first, uint64_t last) noexcept nogil:
    """Gives the memory of words [first, last) back; both are multiples of FIRST_WORDS."""
    madvise(&w.at[first], (last - first) * 8, MADV_DONTNEED)
