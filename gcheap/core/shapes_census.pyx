"""What fills the heap, by shape: counted by the marker, asked for when an allocation fails.

A thread announces its stall (`stalls.waiting`) before it asks for the cycle that decides whether
its allocation fails, and marking begins after that: so that cycle is always surveyed.  What was
allocated black since then is in `used`, but in no survey.
"""
from gcheap.core.layout cimport HeapState, SURVEY_TOP, ShapeTotal, Survey
from gcheap.core.native cimport load32_acquire, load32_seq, mutex_lock, mutex_unlock
from libc.stdint cimport uint32_t
from libc.string cimport memset


cdef ShapeTotal* begin_survey(HeapState* h) noexcept nogil:
    """The totals to count in, all zero; NULL when no thread stalls.  Collector, marking begins."""
    if load32_seq(&h.stalls.waiting) == 0:
        return NULL
    memset(h.survey.count, 0, load32_acquire(&h.shape_count) * sizeof(ShapeTotal))
    return h.survey.count


cdef void rank(Survey* s, uint32_t shape, ShapeTotal total) noexcept nogil:
    """Enters a shape among the largest, where it belongs."""
    cdef uint32_t at = s.found, i
    while at > 0 and s.top[at - 1].bytes < total.bytes:
        at -= 1
    if at == SURVEY_TOP:
        return
    if s.found < SURVEY_TOP:
        s.found += 1
    for i in range(s.found - 1, at, -1):
        s.top[i] = s.top[i - 1]
        s.top_shape[i] = s.top_shape[i - 1]
    s.top[at] = total
    s.top_shape[at] = shape


cdef void end_survey(HeapState* h) noexcept nogil:
    """Marking has ended: the largest shapes and the sums.  Collector, outside of pauses or, under
    stw, inside one: who holds the lock is never RUNNING, and copies a few words."""
    cdef Survey* s = &h.survey
    cdef uint32_t shape
    mutex_lock(&s.lock)
    s.found = 0
    s.all.bytes = s.all.objects = 0
    for shape in range(load32_acquire(&h.shape_count)):
        if s.count[shape].objects:
            s.all.bytes += s.count[shape].bytes
            s.all.objects += s.count[shape].objects
            rank(s, shape, s.count[shape])
    mutex_unlock(&s.lock)


cdef void largest_shapes(HeapState* h, Survey* into) noexcept nogil:
    """A copy of the last survey: `found` shapes, largest first, and the sums over all shapes.

    Any thread that is not RUNNING.  `all.objects` is 0 when no cycle was surveyed yet.
    """
    cdef Survey* s = &h.survey
    cdef int i
    mutex_lock(&s.lock)
    into.found = s.found
    into.all = s.all
    for i in range(SURVEY_TOP):
        into.top[i] = s.top[i]
        into.top_shape[i] = s.top_shape[i]
    mutex_unlock(&s.lock)
