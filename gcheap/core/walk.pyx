"""Walking over everything reachable in parts, while the heap changes between them.

Each part is found in a pause of its own (inspect.pyx): the whole graph is looked at, and the next
objects in order are given out.  Two handles mark the place: that of the last object given out,
and that of the object which was last of all when the walk began.  They are roots, so compaction
carries them along, and sliding keeps the order of objects; nothing else is remembered.
"""
from gcheap.core.addresses cimport set_next
from gcheap.core.inspect cimport (
    FOUND_WORDS, Inspection, begin_inspection, drop_observer, end_inspection, observe, reach_roots,
    traverse)
from gcheap.core.layout cimport HeapState, OBSERVER_CURSOR, OBSERVER_REF, WORD, word
from gcheap.core.roots cimport handle_value
from gcheap.core.words cimport Words, words_free
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

cdef enum:
    LEAST_CHUNK = 8192          # objects that a walk holds at once, at least
    CHUNKS = 16                 # ... and about how many pauses it takes at most


cdef uint64_t place_of(HeapState* h, word obj) noexcept nogil:
    """Where an object stands in the order of a walk: the current half, then everything else, each
    by address.  Sliding keeps that order."""
    cdef uint64_t offset = obj - h.base[h.current]
    return offset if offset < h.half_bytes else h.half_bytes + (obj - h.reservation)


cdef word next_in_order(Inspection* k, uint64_t place) noexcept nogil:
    """The first object seen at or after a place; 0: there is none."""
    cdef HeapState* h = k.heap
    cdef word low = h.base[h.current], high = low + h.half_bytes, at
    if place < h.half_bytes:
        at = set_next(&k.seen, low + place, high)
        if at:
            return at
        place = h.half_bytes
    at = h.reservation + (place - h.half_bytes)
    if at < low:
        at = set_next(&k.seen, at, low)
        if at:
            return at
    at = max(h.reservation + (place - h.half_bytes), high)
    return set_next(&k.seen, at, h.reservation + h.reservation_bytes)


cdef word last_in_order(Inspection* k) noexcept nogil:
    """The last of the objects seen; 0: there is none."""
    cdef HeapState* h = k.heap
    cdef uint64_t i, place, most = 0
    cdef word last = 0
    for i in range(k.queue.count):
        place = place_of(h, k.queue.at[i])
        if last == 0 or place > most:
            most = place
            last = k.queue.at[i]
    return last


cdef uint32_t bookmark(Inspection* k, word obj) noexcept nogil:
    """A handle that keeps an object, and says nothing about it.  0: `k.error` is set."""
    cdef Words one
    cdef uint32_t handle = 0
    memset(&one, 0, sizeof(one))
    observe(k, obj, 0, OBSERVER_CURSOR, &one)
    if k.error == 0:
        handle = <uint32_t>one.at[0]
    words_free(&one)
    return handle


cdef int walk_on(HeapState* h, Bookmark* mark, Words* found) noexcept nogil:
    """The next objects of a walk, in order; none: it is over.

    Objects after the one that was last when the walk began are not its concern: they were
    allocated since.
    """
    cdef Inspection k
    cdef uint64_t place = 0, end
    cdef uint32_t before = mark.at
    cdef word obj = 0, last
    cdef int error = begin_inspection(&k, h, OBSERVER_CURSOR)
    if error:
        return error
    # The end is looked for in the queue, so the first chunk needs all of it.
    k.keep = mark.end == 0
    reach_roots(&k)
    traverse(&k, NULL, NULL, NULL)
    if k.error == 0 and mark.end == 0 and k.queue.count:
        mark.chunk = max(<uint64_t>LEAST_CHUNK, k.queue.count // CHUNKS)
        mark.end = bookmark(&k, last_in_order(&k))
    if k.error == 0 and mark.end:
        if before:
            place = place_of(h, handle_value(h, before)[0]) + WORD
        end = place_of(h, handle_value(h, mark.end)[0])
        while k.error == 0 and found.count < mark.chunk * FOUND_WORDS and place <= end:
            last = next_in_order(&k, place)
            if last == 0 or place_of(h, last) > end:
                break
            obj = last
            observe(&k, obj, 0, OBSERVER_REF, found)
            place = place_of(h, obj) + WORD
    if k.error == 0 and obj:
        mark.at = bookmark(&k, obj)
        if mark.at == 0:
            mark.at = before
        elif before:
            drop_observer(h, before)
    return end_inspection(&k)
