"""The end of a pause: it is recorded, and one that took long is said on standard error.

A pause is slow when its work, from the last mutator's stop until they were released, took
`pause_warning_ms`; a stop that takes long is the watchdog's.  The line is written after the pause,
by whoever made it (mostly the collector thread), as the watchdog writes its own: by write(2),
without the GIL or an allocation, and only when standard error takes it at once.  At most one line a
second for a heap; how many were left out is said in the next.  A heap that verifies its cycles says
nothing: its pauses are long.
"""
from gcheap.core.events cimport record_pause
from gcheap.core.layout cimport HeapState
from gcheap.core.native cimport clock_ns, mutex_lock, mutex_unlock
from gcheap.core.poll cimport POLLOUT, poll, pollfd
from gcheap.core.records cimport (
    PAUSE_FORK, PAUSE_INSPECT, PAUSE_MARK_END, PAUSE_MARK_START, PAUSE_RELOCATE_START, PAUSE_VERIFY,
    PauseRecord)
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf
from posix.unistd cimport write

cdef enum:
    STANDARD_ERROR = 2
    QUIET_NS = 1000000000       # between two lines of one heap


cdef const char* kind_name(uint32_t kind) noexcept nogil:
    """As Heap.pauses() calls it."""
    if kind == PAUSE_MARK_START:
        return b"mark_start"
    if kind == PAUSE_MARK_END:
        return b"mark_end"
    if kind == PAUSE_RELOCATE_START:
        return b"relocate_start"
    if kind == PAUSE_INSPECT:
        return b"inspect"
    if kind == PAUSE_FORK:
        return b"fork"
    return b"verify" if kind == PAUSE_VERIFY else b"full"


cdef bint say_at_once(const char* line, int length) noexcept nogil:
    """Writes a line to standard error, unless that would wait."""
    cdef pollfd target
    target.fd = STANDARD_ERROR
    target.events = POLLOUT
    target.revents = 0
    return (poll(&target, 1, 0) == 1 and target.revents & POLLOUT
            and write(STANDARD_ERROR, line, length) == length)


cdef void warn(const PauseRecord* pause, uint64_t unsaid) noexcept nogil:
    cdef char line[320]
    cdef char more[64]
    cdef char cycle[32]
    cdef int length
    more[0] = cycle[0] = 0
    if unsaid:
        snprintf(more, sizeof(more), b" (%llu more since the last line)",
                 <unsigned long long>unsaid)
    if pause.cycle:
        snprintf(cycle, sizeof(cycle), b" of cycle %llu", <unsigned long long>pause.cycle)
    length = snprintf(
        line, sizeof(line), b"gcheap: slow pause %s%s: %.1f ms (%.1f ms of CPU), %.1f ms to stop "
        b"%u mutators%s\n", kind_name(pause.kind), cycle, pause.work_ns / 1e6,
        pause.cpu_ns / 1e6, pause.reach_ns / 1e6, pause.mutators, more)
    say_at_once(line, length)


cdef void pause_ended(HeapState* h, const PauseRecord* pause) noexcept nogil:
    """Records a pause that has ended, and reports it if it was slow."""
    cdef uint64_t now, unsaid = 0
    cdef bint due = False
    record_pause(h.events, pause)
    if h.pause_warning_ns == 0 or h.verify or pause.work_ns < h.pause_warning_ns:
        return
    now = clock_ns()
    mutex_lock(&h.events.lock)          # pauses of the collector and of others end side by side
    due = h.pause_warned_ns == 0 or now - h.pause_warned_ns >= QUIET_NS
    if due:
        unsaid = h.pauses_unsaid
        h.pauses_unsaid = 0
        h.pause_warned_ns = now
    else:
        h.pauses_unsaid += 1
    mutex_unlock(&h.events.lock)
    if due:
        warn(pause, unsaid)
