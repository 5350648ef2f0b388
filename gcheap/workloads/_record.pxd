"""What a workload's mutator records while it runs: operations, latencies, gaps, failures.

Each mutator owns one `Recorder`, on cache lines of its own; the supervising thread only
reads `ops` and `begin_ns` (relaxed) for the live display, and everything else after the
mutator's thread has ended.  One `Control` tells all mutators what to do.
"""
from gcheap.core.events cimport hist_record
from gcheap.core.layout cimport HeapState, PHASE_RELOCATE
from gcheap.core.native cimport clock_ns, load32_relaxed, store64_relaxed, unlikely
from gcheap.core.records cimport Histogram
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    GAP_NS = 20000              # an operation longer than this is a gap
    GAP_ROOM = 1 << 22          # gaps kept (64 MiB of address space, touched as they come)
    FAILURES_BEFORE_STOP = 1000
    CACHE_LINES = 128           # bytes: two lines, because the prefetcher pairs them

cdef enum ControlState:         # only ever goes up
    WARM_UP = 0
    MEASURE = 1
    STOP = 2

cdef enum FailureKind:
    NO_FAILURE = 0
    BAD_LINK = 1                # a null where a node or an array must be
    BAD_ID = 2                  # an object that is not the one that belongs here
    BAD_SHAPE = 3               # the right id in an object of another shape
    BAD_FILLER = 4              # a node's filler
    BAD_BYTES = 5               # a byte array's contents
    BAD_RING = 6                # a young node that is not the one put there
    BAD_SUM = 7                 # the audit: a replacement was lost
    BAD_COUNT = 8               # a tree with another number of nodes than built
    BAD_SLOT = 9                # a slot with another value or reference than was stored
    BAD_ORDER = 10              # something that came before or after its turn
    BAD_WEAK = 11               # weak: a live object's is gone, or a dead one's is still there

cdef struct Control:
    uint32_t state              # ControlState; written by the supervising thread only

cdef struct Gap:
    uint64_t start_ns           # by clock_ns()
    uint64_t duration_ns

cdef struct Failure:
    uint64_t kind               # FailureKind
    uint64_t place              # which tree (or array) and where in it
    uint64_t found
    uint64_t expected

cdef struct Recorder:
    Control* control
    HeapState* heap
    uint64_t last_ns            # the end of the operation before
    uint64_t ops                # ever ended; relaxed stores of the owner
    uint64_t warm_up_ops        # ... of which before the measurement
    uint64_t relocate_ops       # ended between a flip and the last unit placed
    uint64_t begin_ns           # of the measurement; 0 while warming up
    uint32_t state              # the ControlState this mutator follows
    uint32_t exhausted          # the heap was: the run ended early
    uint64_t gap_count
    uint64_t gaps_lost          # came after the log was full
    Gap* gaps
    uint64_t failures
    Failure first               # the first of them
    Histogram latency           # ns per measured operation


# Zeroed memory that begins on a cache line, to be freed by free(); MemoryError.
cdef void* own_lines(uint64_t nbytes, str whose) except NULL
cdef void record_turn(Recorder* r, uint32_t state) noexcept nogil
cdef void record_gap(Recorder* r, uint64_t duration_ns) noexcept nogil
cdef void record_failure(Recorder* r, uint64_t kind, uint64_t place, uint64_t found,
                         uint64_t expected) noexcept nogil


cdef inline uint64_t whole_lines(uint64_t nbytes) noexcept nogil:
    """Rounded up to cache lines: so many bytes apart, no two mutators share one."""
    return (nbytes + CACHE_LINES - 1) // CACHE_LINES * CACHE_LINES


cdef inline bint count_operation(Recorder* r) noexcept nogil:
    """Counts an operation and looks what the run is to do; false when it is over."""
    # Relaxed: a progress counter publishes nothing but itself.
    store64_relaxed(&r.ops, r.ops + 1)
    if unlikely(load32_relaxed(&r.heap.phase) == PHASE_RELOCATE):
        r.relocate_ops += 1
    # Relaxed: the state is all the supervisor says; a late look costs one operation.
    cdef uint32_t state = load32_relaxed(&r.control.state)
    if unlikely(state != r.state):
        record_turn(r, state)
    return r.state != STOP


cdef inline bint record_operation(Recorder* r) noexcept nogil:
    """Ends an operation; false when the run is over.

    The one clock read of an operation: it lasts from the end of the one before, so that no
    time is lost between them.
    """
    cdef uint64_t now = clock_ns()
    cdef uint64_t duration = now - r.last_ns
    r.last_ns = now
    hist_record(&r.latency, duration)
    if unlikely(duration > GAP_NS):
        record_gap(r, duration)
    return count_operation(r)


cdef inline bint record_timed(Recorder* r, uint64_t begin, uint64_t end,
                              uint64_t latency) noexcept nogil:
    """Ends an operation that did not begin when the one before ended; false when the run is over.

    Its latency is what it says, its gap, if it is one, from begin to end.
    """
    r.last_ns = end
    hist_record(&r.latency, latency)
    if unlikely(end - begin > GAP_NS):
        record_gap(r, end - begin)
    return count_operation(r)


cdef inline bint stop_wanted(Recorder* r) noexcept nogil:
    """For loops that are no operations (population, audits)."""
    return load32_relaxed(&r.control.state) == STOP     # relaxed: see record_operation


cdef class RunControl:
    cdef Control* control

cdef class Recording:
    cdef Recorder* r
    cdef RunControl owner       # keeps the Control alive
    cdef str message            # the first failure told by a workload in plain Python
