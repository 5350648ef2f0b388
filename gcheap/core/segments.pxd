"""Arrays that grow without moving: segment s holds 16 << s items, so that a pointer to an item
stays good and growing copies nothing.

Who appends holds the array's lock, makes the segment first, and publishes the new length by a
release store; who reads below a length that it loaded with acquire needs no lock.
"""
from gcheap.core.native cimport count_leading_zeros
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    FIRST_SEGMENT = 16          # items
    SEGMENTS = 40


cdef inline unsigned segment_of(uint64_t index) noexcept nogil:
    return 59 - count_leading_zeros(index + FIRST_SEGMENT)


cdef inline void* segment_item(void** segments, uint64_t index, uint64_t nbytes) noexcept nogil:
    """Item `index` of an array of items of `nbytes` bytes; its segment exists."""
    cdef unsigned s = segment_of(index)
    return <char*>segments[s] + (index + FIRST_SEGMENT - (<uint64_t>FIRST_SEGMENT << s)) * nbytes


cdef inline bint make_segment(void** segments, uint64_t index, uint64_t nbytes) noexcept nogil:
    """Makes the segment of item `index`, zeroed, unless it exists.  False: no memory."""
    cdef unsigned s = segment_of(index)
    if segments[s] == NULL:
        segments[s] = calloc(<uint64_t>FIRST_SEGMENT << s, nbytes)
    return segments[s] != NULL


cdef inline void free_segments(void** segments) noexcept nogil:
    cdef int s
    for s in range(SEGMENTS):
        free(segments[s])
        segments[s] = NULL
