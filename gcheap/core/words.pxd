"""An array of words that grows without copying.  See words.pyx."""
from gcheap.core.native cimport likely
from libc.stdint cimport uint64_t

cdef struct Words:              # zeroed: empty
    uint64_t* at
    uint64_t count
    uint64_t room               # words mapped

cdef bint words_grow(Words* w) noexcept nogil           # False: no memory
cdef void words_free(Words* w) noexcept nogil
cdef void words_forget(Words* w, uint64_t first, uint64_t last) noexcept nogil


cdef inline bint words_push(Words* w, uint64_t value) noexcept nogil:
    """False: no memory; the array is as it was."""
    if not likely(w.count < w.room) and not words_grow(w):
        return False
    w.at[w.count] = value
    w.count += 1
    return True
