"""Giving up a cycle before its flip, because a fork waits for the collector to stand still.

Until the flip a cycle has changed nothing that anybody relies on: marks are cleared when the next
one begins, and the plan is made anew.  What has to be undone is what mutators see: the barrier, its
log, and the limit of allocation.  After the flip there is no way back; a fork waits for the rest.
"""
from gcheap.core.failpoint cimport FP_CYCLE_ABANDONED, failpoint
from gcheap.core.large cimport stay_large
from gcheap.core.layout cimport HeapState, MutatorState, PHASE_IDLE
from gcheap.core.mark cimport (
    Marker, end_marking, free_spent, mark_logged, mark_open_logs, top_slots, trace)
from gcheap.core.mark_team cimport gather_marks, trace_together
from gcheap.core.native cimport store32_relaxed, store32_release, store64_relaxed
from gcheap.core.records cimport PAUSE_MARK_END, PauseRecord
from gcheap.core.requests cimport announce_progress
from gcheap.core.safepoint cimport resume_world, stop_world
from gcheap.core.satb cimport discard_log, hand_over
from gcheap.core.slow_pause cimport pause_ended

cdef enum:
    SLICE = 1 << 16             # slots traced between two looks at a fork's wish


cdef bint trace_until_held(Marker* k) noexcept nogil:
    """Traces what there is, and what the barrier logs meanwhile, until mutators' own buffers hold
    nothing new either.  False: a fork waits.

    In slices; an object larger than that is one of its own.  Logs are read by the collector alone.
    """
    while not held(k.heap):
        free_spent(k)
        if k.heap.team != NULL:
            if not trace_together(k, True):
                return False
        elif not trace(k, SLICE + top_slots(k)):
            continue
        if not mark_logged(k) and not mark_open_logs(k):
            return True
    return False


cdef void abandon(HeapState* h, Marker* k, PauseRecord* pause) noexcept nogil:
    """Ends a cycle without effect: the objects stay where they are, and its ticket stays pending.

    `pause` has its cycle's number.  Collector thread; PHASE_MARK or PHASE_PLAN, nothing registered.
    """
    cdef MutatorState* m
    pause.kind = PAUSE_MARK_END         # before the stop: a warning of a slow one names it
    stop_world(h, pause)
    store32_relaxed(&h.marking, 0)
    m = h.mutators
    while m != NULL:
        hand_over(m)
        m = m.next
    discard_log(h)
    store64_relaxed(&h.alloc_limit, h.half_bytes)
    stay_large(h)
    resume_world(h, pause)
    pause_ended(h, pause)
    gather_marks(k)
    end_marking(k)
    store32_release(&h.phase, PHASE_IDLE)
    announce_progress(h)
    failpoint(FP_CYCLE_ABANDONED)
