"""Recordings: what a workload's mutator measured, and the Python view of it.

A measurement starts when the mutator first sees MEASURE: whatever the warm-up recorded is
dropped and the clock is read again, so that clearing is no part of the first operation.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from gcheap.core.records cimport HISTOGRAM_SLOTS, Histogram
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from posix.stdlib cimport posix_memalign

from gcheap.core.events cimport hist_upper
from gcheap.core.layout cimport MutatorState
from gcheap.core.native cimport clock_ns, load64_relaxed, store32_relaxed, store64_relaxed

import numpy as np

GAP = np.dtype([("start_ns", "u8"), ("duration_ns", "u8")])

_FAILURES = {
    BAD_LINK: "a null link",
    BAD_ID: "another object's id",
    BAD_SHAPE: "an object of another shape",
    BAD_FILLER: "wrong filler",
    BAD_BYTES: "wrong bytes in an array",
    BAD_RING: "another node in the ring of young ones",
    BAD_SUM: "a lost replacement (sum of generations)",
    BAD_COUNT: "another number of nodes than the tree was built with",
    BAD_SLOT: "another value in a slot",
    BAD_ORDER: "out of order",
    BAD_WEAK: "a weak reference or table entry that is wrong",
}


cdef void* own_lines(uint64_t nbytes, str whose) except NULL:
    cdef void* at = NULL
    if posix_memalign(&at, CACHE_LINES, nbytes) != 0:
        raise MemoryError(f"no memory for {whose}")
    memset(at, 0, nbytes)
    return at


cdef void record_turn(Recorder* r, uint32_t state) noexcept nogil:
    r.state = state
    if state == MEASURE:
        r.warm_up_ops = r.ops
        memset(&r.latency, 0, sizeof(Histogram))
        r.relocate_ops = r.gap_count = r.gaps_lost = 0
        r.last_ns = clock_ns()
        store64_relaxed(&r.begin_ns, r.last_ns)     # relaxed: for the display


cdef void record_gap(Recorder* r, uint64_t duration_ns) noexcept nogil:
    if r.gap_count == GAP_ROOM:
        r.gaps_lost += 1
        return
    r.gaps[r.gap_count].start_ns = r.last_ns - duration_ns
    r.gaps[r.gap_count].duration_ns = duration_ns
    r.gap_count += 1


cdef void record_failure(Recorder* r, uint64_t kind, uint64_t place, uint64_t found,
                         uint64_t expected) noexcept nogil:
    if r.failures == 0:
        r.first = Failure(kind, place, found, expected)
    r.failures += 1


cdef class RunControl:
    """Tells the mutators of one run to warm up, to measure, to stop.

    Any thread may call the methods; the mutators see a change at their next operation.
    The state never goes back.
    """

    def __cinit__(self):
        self.control = <Control*>own_lines(CACHE_LINES, "the run's control word")
        self.control.state = WARM_UP

    def __dealloc__(self):
        free(self.control)

    def measure(self):
        """Ends the warm-up."""
        # Relaxed: nothing else is published with it.
        if self.control.state < MEASURE:
            store32_relaxed(&self.control.state, MEASURE)

    def stop(self):
        """Ends the run: every mutator leaves its loop after the operation it is in."""
        store32_relaxed(&self.control.state, STOP)

    @property
    def stopped(self):
        return self.control.state == STOP


cdef class Recording:
    """What one mutator measured: to be read once its thread has ended, but for `total_ops`."""

    def __cinit__(self, RunControl control not None):
        self.owner = control
        self.r = <Recorder*>own_lines(sizeof(Recorder), "a mutator's recorder")
        self.r.control = control.control
        self.r.gaps = <Gap*>calloc(GAP_ROOM, sizeof(Gap))      # untouched until used
        if self.r.gaps == NULL:
            raise MemoryError("no memory for a mutator's log of gaps")

    def __dealloc__(self):
        if self.r != NULL:
            free(self.r.gaps)
            free(self.r)

    def bind(self, mutator):
        """Connects the recorder to its mutator's heap and starts its clock."""
        cdef MutatorState* m = <MutatorState*><uintptr_t>mutator.native()
        self.r.heap = m.heap
        self.r.last_ns = clock_ns()

    def begin(self):
        """A run begins: the clock of its first operation starts."""
        self.r.last_ns = clock_ns()

    def operation(self):
        """Ends an operation of a workload in plain Python; false when the run is over."""
        return record_operation(self.r) and self.r.failures <= FAILURES_BEFORE_STOP

    def fail(self, str message not None):
        """A check of a workload in plain Python failed; the first message is kept."""
        if self.r.failures == 0:
            self.message = message
        record_failure(self.r, NO_FAILURE, 0, 0, 0)

    def follow(self, RunControl control not None):
        """From now on another run's control tells the mutator what to do, which starts with its
        warm-up.  Between two runs of the session only.
        """
        self.owner = control
        self.r.control = control.control
        self.r.state = WARM_UP

    @property
    def ops(self):
        """Operations measured."""
        return self.r.ops - self.r.warm_up_ops if self.r.begin_ns else 0

    @property
    def total_ops(self):
        """Operations with those of the warm-up; from any thread."""
        return load64_relaxed(&self.r.ops)      # relaxed: a progress counter

    @property
    def relocate_ops(self):
        """Operations that ended while pages were travelling."""
        return self.r.relocate_ops

    @property
    def begin_ns(self):
        """`clock_ns` at the start of the measurement; 0 when it never began."""
        return self.r.begin_ns

    @property
    def end_ns(self):
        """`clock_ns` at the end of the last operation; 0 when none was measured."""
        return self.r.last_ns if self.r.begin_ns else 0

    @property
    def exhausted(self):
        return self.r.exhausted != 0

    @property
    def failures(self):
        """Checks that failed, of all kinds, warm-up and audit included."""
        return self.r.failures

    @property
    def gaps_lost(self):
        """Gaps that came after the log was full (it holds 4 million)."""
        return self.r.gaps_lost

    def histogram(self):
        """(upper edges of the nonempty buckets in ns, their counts, the exact maximum in ns)."""
        cdef uint64_t slot
        values, counts = [], []
        for slot in range(HISTOGRAM_SLOTS):
            if self.r.latency.counts[slot]:
                values.append(hist_upper(slot))
                counts.append(self.r.latency.counts[slot])
        return np.array(values, "u8"), np.array(counts, "u8"), int(self.r.latency.max)

    def gaps(self):
        """Operations longer than 20 us, in order: a structured array (start_ns, duration_ns)."""
        return np.frombuffer(
            PyBytes_FromStringAndSize(<char*>self.r.gaps, self.r.gap_count * sizeof(Gap)), GAP)

    def first_failure(self):
        """One sentence about the first failed check, or None."""
        cdef Failure f = self.r.first
        if self.r.failures == 0:
            return None
        if self.message is not None:
            return self.message
        what = _FAILURES.get(f.kind, f"failure {f.kind}")
        return f"{what} at {f.place:#x}: found {f.found:#x}, expected {f.expected:#x}"
