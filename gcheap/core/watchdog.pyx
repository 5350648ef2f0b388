"""The safepoint watchdog: says which mutator keeps a pause waiting, and for which pause.

A mutator that stays RUNNING without a poll stops every other one with the next pause: a
program that stands still without a word.  So the wait of `stop_world` is timed.  When it has
lasted `safepoint_warning_ms`, one line on standard error names the mutator, and another when
it has lasted twice as long, four times, and so on: a few lines, however long it takes.

The line is written by the collector thread, inside the pause: by write(2), from its own stack,
without the GIL or an allocation, and only when standard error takes it at once.  A full pipe
loses the line instead of holding the pause.

Source: HotSpot's SafepointTimeout and SafepointTimeoutDelay (share/runtime/safepoint.cpp).
"""
from gcheap.core.layout cimport HeapState, MutatorState
from gcheap.core.native cimport add64_relaxed, clock_ns, futex_wait
from gcheap.core.records cimport PauseRecord
from gcheap.core.slow_pause cimport kind_name, say_at_once
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf

cdef enum:
    MS = 1000000                # nanoseconds


cdef void warn(MutatorState* m, const PauseRecord* pause, uint64_t waited_ns) noexcept nogil:
    cdef char line[320]
    cdef int length
    # glibc's snprintf allocates nothing for these conversions.
    length = snprintf(
        line, sizeof(line),
        b"gcheap: the pause %s has waited %llu ms for mutator '%s' (thread %lld): it is running "
        b"in the heap and neither polls nor leaves it, and no other mutator can run\n",
        kind_name(pause.kind), <unsigned long long>(waited_ns // MS), m.name,
        <long long>m.thread_id)
    say_at_once(line, length)


cdef uint64_t wait_for_stop(HeapState* h, MutatorState* m, const PauseRecord* pause,
                            uint32_t seen, uint64_t warn_after) noexcept nogil:
    """Sleeps until a mutator stops, or until a warning of `m` is due; may return early.

    seen         `h.arrivals` before `m` was found RUNNING
    warn_after   ns after pause.start_ns at which the next warning is due; 0: never

    Returns the next `warn_after`.  The collector thread holds list_lock, so `m` exists.
    """
    cdef uint64_t waited
    if warn_after == 0:
        futex_wait(&h.arrivals, seen, 0)
        return 0
    waited = clock_ns() - pause.start_ns
    if waited >= warn_after:
        if warn_after == h.safepoint_warning_ns:
            add64_relaxed(&h.slow_safepoints, 1)        # once for each stop
        warn(m, pause, waited)
        while warn_after <= waited:
            warn_after *= 2
    futex_wait(&h.arrivals, seen, warn_after - waited)
    return warn_after
