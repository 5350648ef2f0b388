"""Hooks for tests of tracing."""
from gcheap.core.events cimport record_pause
from gcheap.core.layout cimport MutatorState
from gcheap.core.native cimport clock_ns
from gcheap.core.records cimport PAUSE_INSPECT, PauseRecord, TRACE_SAFEPOINT, TraceRing
from gcheap.core.safepoint cimport enter_running, leave_running
from gcheap.core.trace cimport trace_slice, trace_start
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memset


def write_slices(uintptr_t mutator, uint64_t count):
    """Writes so many slices of a stop to the calling thread's ring.

    mutator   Mutator.native() of the calling thread
    """
    cdef MutatorState* m = <MutatorState*>mutator
    cdef uint64_t i
    with nogil:
        enter_running(m)
        for i in range(count):
            trace_slice(m, TRACE_SAFEPOINT, 0, i, trace_start(m.heap))
        leave_running(m)


def record_pauses(uintptr_t mutator, uint64_t count):
    """Records so many pauses of introspection that never were, of a mutator's heap."""
    cdef PauseRecord pause
    cdef uint64_t _i
    memset(&pause, 0, sizeof(pause))
    pause.kind = PAUSE_INSPECT
    pause.start_ns = clock_ns()
    for _i in range(count):
        record_pause((<MutatorState*>mutator).heap.events, &pause)


def rings(uintptr_t mutator):
    """How many rings a mutator's heap has made."""
    cdef TraceRing* ring = (<MutatorState*>mutator).heap.tracing.rings
    n = 0
    while ring != NULL:
        n += 1
        ring = ring.next
    return n
