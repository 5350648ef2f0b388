"""Allocation stalls: counted, measured, reported.

A stall is the wait of a thread whose allocation found no room, until a cycle has made some.  It
waits PARKED or OUTSIDE, so here it may take a lock and write.  A stall longer than the option
`stall_warning_ms` puts one line on standard error, by write(2), without the GIL: at most one a
second for a heap; how many were not shown is said in the next line.
"""
from gcheap.core.events cimport hist_record, record_stall
from gcheap.core.layout cimport HeapState, MutatorState
from gcheap.core.native cimport (
    add32_seq, add64_relaxed, cas64, clock_ns, load64_relaxed, mutex_lock, mutex_unlock,
    store64_relaxed, sub32_seq, sub64_relaxed)
from gcheap.core.records cimport StallRecord, TRACE_STALL
from gcheap.core.trace cimport trace_slice, tracing
from libc.stdint cimport uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

cdef extern from "<unistd.h>" nogil:
    ssize_t posix_write "write"(int fd, const void* data, size_t count)

cdef enum:
    STDERR = 2
    LINE = 320
    QUIET_NS = 1000000000       # between two lines of one heap


cdef inline double mebibytes(uint64_t nbytes) noexcept nogil:
    return <double>nbytes / (1 << 20)


cdef void warn(const Stall* s, MutatorState* m, uint64_t waited_ns) noexcept nogil:
    """Writes the line, unless another one was written less than a second ago."""
    cdef HeapState* h = m.heap
    cdef uint64_t now = clock_ns(), last = load64_relaxed(&h.stalls.warned_ns), hidden
    cdef char line[LINE]
    cdef char more[64]
    cdef int n
    if (last and now - last < QUIET_NS) or not cas64(&h.stalls.warned_ns, last, now):
        add64_relaxed(&h.stalls.suppressed, 1)
        return
    hidden = load64_relaxed(&h.stalls.suppressed)
    sub64_relaxed(&h.stalls.suppressed, hidden)
    more[0] = 0
    if hidden:
        snprintf(more, sizeof(more), b" (%llu more since the last line)",
                 <unsigned long long>hidden)
    n = snprintf(
        line, sizeof(line), b"gcheap: mutator '%s' stalled for %.1f ms (allocating %llu bytes): "
        b"%.1f of %.1f MiB used before, %.1f after, %.1f MiB live%s\n", m.name, waited_ns / 1e6,
        <unsigned long long>s.bytes, mebibytes(s.used), mebibytes(h.capacity),
        mebibytes(load64_relaxed(&h.used)), mebibytes(load64_relaxed(&h.live_bytes)), more)
    # One call, so that lines of several threads do not mix; nobody is told when it fails.
    posix_write(STDERR, line, min(n, LINE - 1))


cdef void stall_begins(Stall* s, HeapState* h, uint64_t nbytes) noexcept nogil:
    """Before the first request for a cycle: marking then counts by shape."""
    s.bytes = nbytes
    s.began_ns = clock_ns()
    s.used = load64_relaxed(&h.used)
    add32_seq(&h.stalls.waiting, 1)


cdef void stall_ended(Stall* s, MutatorState* m) noexcept nogil:
    """Counts a stall of the calling thread, which is not RUNNING."""
    cdef HeapState* h = m.heap
    cdef uint64_t waited_ns = clock_ns() - s.began_ns
    cdef StallRecord record
    record.start_ns = s.began_ns
    record.wait_ns = waited_ns
    record.bytes = s.bytes
    record.thread_id = m.thread_id
    memcpy(record.name, m.name, sizeof(record.name))
    sub32_seq(&h.stalls.waiting, 1)
    # Relaxed: stats() of another thread reads them.
    store64_relaxed(&m.stalls, m.stalls + 1)
    store64_relaxed(&m.stall_ns, m.stall_ns + waited_ns)
    store64_relaxed(&m.stall_max_ns, max(m.stall_max_ns, waited_ns))
    mutex_lock(&h.stalls.lock)
    hist_record(h.stalls.hist, waited_ns)
    mutex_unlock(&h.stalls.lock)
    record_stall(h.events, &record)
    if tracing(h):
        trace_slice(m, TRACE_STALL, 0, s.bytes, s.began_ns)
    if h.stalls.warning_ns and waited_ns >= h.stalls.warning_ns:
        warn(s, m, waited_ns)
