"""The log of the write barrier: old values on their way from mutators to the marker.

Each mutator fills a buffer of its own and pushes it, when full, on a lock-free chain; the marker
takes the whole chain with one exchange, so there is no ABA.  Inside a pause the collector hands
over what stands in the mutators' buffers.  Values that need no marking are not logged: tagged
values, objects allocated since marking began (black), objects marked already.
"""
from gcheap.core.failpoint cimport FP_LOG_PUSH, FP_LOG_TAKE, failpoint
from gcheap.core.layout cimport (
    HeapState, MutatorState, SATB_ENTRIES, SatbBuffer, ShapeInfo, word)
from gcheap.core.lockfree cimport push_link
from gcheap.core.mark cimport reached
from gcheap.core.native cimport (
    check_that, exchange64_acq_rel, load64_relaxed, store64_relaxed, store64_release)
from gcheap.core.objects cimport is_reference, shape_of_header
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc


cdef void hand_over(MutatorState* m) noexcept nogil:
    """Pushes a mutator's buffer for the marker: the mutator itself, or the collector in a pause."""
    cdef SatbBuffer* buffer = m.satb
    if buffer == NULL:
        return
    failpoint(FP_LOG_PUSH)
    store64_relaxed(<uint64_t*>&m.satb, 0)
    push_link(&m.heap.satb_full, buffer, <uint64_t*>&buffer.next)


cdef SatbBuffer* take_full(HeapState* h) noexcept nogil:
    """The marker takes all buffers there are; it frees them."""
    if load64_relaxed(&h.satb_full) == 0:
        return NULL
    failpoint(FP_LOG_TAKE)
    return <SatbBuffer*>exchange64_acq_rel(&h.satb_full, 0)


cdef void discard_log(HeapState* h) noexcept nogil:
    """Frees what has been handed over: marking was abandoned."""
    cdef SatbBuffer* buffer = take_full(h)
    cdef SatbBuffer* following
    while buffer != NULL:
        following = buffer.next
        free(buffer)
        buffer = following


cdef void log_old(MutatorState* m, word obj, word old) noexcept nogil:
    """The slow path of the barrier: `old` stood in a slot of `obj` and is being overwritten."""
    cdef HeapState* h = m.heap
    cdef ShapeInfo* shape = &h.shapes[shape_of_header(load64_relaxed(<word*>obj))]
    if is_reference(shape.tag_mask, shape.tag_bits, old):
        log_target(m, old & ~shape.tag_mask)


cdef void log_target(MutatorState* m, word target) noexcept nogil:
    """Has the marker mark `target`: an old value of a slot, or what a weak read hands out.
    The mutator is RUNNING and marking is on."""
    cdef SatbBuffer* buffer = m.satb
    if reached(m.heap, target):
        return
    if buffer != NULL and buffer.count == SATB_ENTRIES:
        hand_over(m)
        buffer = NULL
    if buffer == NULL:
        # malloc's lock is short and never held by a thread that waits for this one (I5).
        buffer = <SatbBuffer*>malloc(sizeof(SatbBuffer))
        check_that(buffer != NULL, b"no memory for the write barrier's log (bytes)",
                   sizeof(SatbBuffer), 0)
        buffer.count = buffer.read = 0
        store64_release(<uint64_t*>&m.satb, <uint64_t>buffer)
    buffer.entry[buffer.count] = target
    # Release, as above: mark_open_logs reads what this mutator has not handed over.
    store64_release(&buffer.count, buffer.count + 1)
