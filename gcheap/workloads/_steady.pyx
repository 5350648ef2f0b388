"""`steady`: a fixed rate of allocation, and latency free of coordinated omission.

A loop that starts an operation when the last one ended cannot see how long others would have
waited: while a pause holds it up it asks for nothing (G. Tene, "How NOT to measure latency", 2013).
Here each mutator replaces 16 rows of a table of its own, about a KiB, at fixed intervals:

    open        operations begin by the clock.  Latency counts from the *intended* begin to the
                end: what somebody who asked at that moment waited.  An operation that is late
                makes the next ones late, and each of them counts.  The time from the actual begin
                is recorded beside it: what a closed loop would have shown (`facts.service_us`)
    closed      the interval follows the end of the operation before; both times are the same

The end of a run omits nobody either.  What was due by then and had not begun counts with what it
had waited: less than it would have waited, but left out it would count as nothing at all, and a
rate beyond the machine would look better the shorter the run.  `facts.not_begun` says how many
these are and how long the oldest had waited; they are no operations otherwise.

Between operations a mutator sleeps outside the heap, and polls for the last 100 us.
"""
from gcheap.core.records cimport HISTOGRAM_SLOTS, Histogram
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from gcheap._fastpath cimport gc_enter, gc_leave, gc_poll
from gcheap.core.events cimport hist_record, hist_slot, hist_upper, new_histogram
from gcheap.core.native cimport clock_ns, cpu_relax, load32_relaxed, sleep_ns
from gcheap.workloads._record cimport STOP, record_timed, record_turn
from gcheap.workloads._rows cimport Rows

import numpy as np

from gcheap.errors import OptionError
from gcheap.options import format_size
from gcheap.percentiles import of_histogram

cdef enum:
    ROWS = 16                   # an operation
    OPERATION_BYTES = 16 * 72   # what it allocates
    SPIN_NS = 100000
    SLICE_NS = 5000000          # of sleep, between two looks whether the run is over

QUANTILES = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999, "max": 1.0}


cdef bint wait_until(Steady s, uint64_t moment, uint64_t* now) noexcept nogil:
    """Whether it came to be `moment` before the run was over; the time then.  A safepoint."""
    now[0] = clock_ns()
    while now[0] < moment:
        if not s.goes_on():
            return False
        if moment - now[0] > SPIN_NS:
            gc_leave(s.m)
            sleep_ns(min(moment - now[0] - SPIN_NS, <uint64_t>SLICE_NS))
            gc_enter(s.m)
        else:
            gc_poll(s.m)
            cpu_relax()
        now[0] = clock_ns()
    return True


cdef void record_series(Histogram* h, uint64_t longest, uint64_t step,
                        uint64_t count) noexcept nogil:
    """hist_record of longest, longest - step, …: `count` values, none of them negative.

    By slots: at 8 GiB a second a run of a minute may leave 400 million behind.
    """
    cdef uint64_t slot, lowest, n
    h.max = max(h.max, longest)
    while count:
        slot = min(hist_slot(longest), <uint64_t>HISTOGRAM_SLOTS - 1)
        lowest = hist_upper(slot - 1) + 1 if slot else 0
        n = min(count, (longest - lowest) // step + 1)
        h.counts[slot] += n
        h.count += n
        h.total += n * (longest - (n - 1) * step // 2)
        count -= n
        longest -= min(longest, n * step)


cdef class Steady(Rows):
    """One mutator of `steady`."""
    cdef Histogram* service     # ns from the actual begin of an operation to its end
    cdef uint64_t interval
    cdef uint64_t behind        # ns, the most that an operation began, or was to begin, too late
    cdef uint64_t since         # begin of the measurement that these are of
    cdef uint64_t not_begun     # operations that were due when the run was over
    cdef uint64_t waited        # ns, the oldest of them
    cdef bint open

    def __cinit__(self, heap, part):
        self.interval = <uint64_t>OPERATION_BYTES * 1_000_000_000 // part.settings["rate"]
        self.open = part.settings["loop"] == "open"
        self.service = new_histogram()
        if self.service == NULL:
            raise MemoryError("no memory for a histogram")

    def __dealloc__(self):
        free(self.service)

    cdef void loop(self) noexcept nogil:
        cdef uint64_t intended = clock_ns(), begin = 0, end = intended
        cdef bint more = True
        while more and not self.hopeless():
            if not wait_until(self, intended, &begin):
                self.close(intended, begin)
                return
            if not self.turn_over(ROWS):
                self.r.exhausted = 1
                return
            self.operations += 1
            end = clock_ns()
            more = record_timed(self.r, begin, end, end - intended if self.open else end - begin)
            if not self.turned():
                hist_record(self.service, end - begin)
                self.behind = max(self.behind, begin - intended)
            intended = (intended if self.open else end) + self.interval
        self.close(intended, end)

    cdef bint goes_on(self) noexcept nogil:
        """Looks what the run is to do: at a low rate the next operation's end may be far."""
        cdef uint32_t state = load32_relaxed(&self.r.control.state)     # as in count_operation
        if state != self.r.state:
            record_turn(self.r, state)
            self.turned()
        return state != STOP

    cdef bint turned(self) noexcept nogil:
        """Whether the measurement has just begun; what the warm-up left here is dropped then."""
        if self.since == self.r.begin_ns:
            return False
        self.since = self.r.begin_ns
        self.behind = self.not_begun = self.waited = 0
        memset(self.service, 0, sizeof(Histogram))
        return True

    cdef void close(self, uint64_t intended, uint64_t now) noexcept nogil:
        """The run is over; the next operation was to begin at `intended`."""
        if self.r.begin_ns == 0:
            return
        self.r.last_ns = now                # the wait since the last operation was measured too
        if self.open and intended <= now:
            self.waited = now - intended
            self.not_begun = self.waited // self.interval + 1
            self.behind = max(self.behind, self.waited)
            record_series(&self.r.latency, self.waited, self.interval, self.not_begun)

    def histogram(self):
        """Of service times: (upper edges in ns, counts, maximum), as Recording.histogram()."""
        cdef uint64_t slot
        counts = np.array([self.service.counts[slot] for slot in range(HISTOGRAM_SLOTS)], "u8")
        used = counts.nonzero()[0]
        return np.array([hist_upper(slot) for slot in used], "u8"), counts[used], self.service.max

    def counts(self):
        return {}

    def sizes(self):
        return super().sizes() | {"interval_us": self.interval / 1e3}

    @staticmethod
    def together(workers):
        """Service times of all mutators, in us; with more than one the worst, as elsewhere."""
        rows = [worker.histogram() for worker in workers]

        def worst(quantile):
            values = [value for row in rows if (value := of_histogram(*row, quantile)) is not None]
            return max(values) / 1e3 if values else None

        behind, count, waited = zip(*(worker.lateness for worker in workers), strict=True)
        return {"service_us": {name: worst(quantile) for name, quantile in QUANTILES.items()},
                "most_behind_ms": max(behind) / 1e6,
                "not_begun": {"count": sum(count), "oldest_ms": max(waited) / 1e6}}

    @property
    def lateness(self):
        """(ns that an operation was late at most, how many were due at the end of the run and
        had not begun, ns that the oldest of these had waited)."""
        return self.behind, self.not_begun, self.waited


def check(config):
    """OptionError for a rate that is no rate."""
    rate = config.settings["rate"]
    if not OPERATION_BYTES <= rate <= 1 << 33:
        raise OptionError(
            f"rate {format_size(rate)} a second: an operation allocates {OPERATION_BYTES} bytes; "
            f"accepted is one operation a second to {format_size(1 << 33)} a second")
