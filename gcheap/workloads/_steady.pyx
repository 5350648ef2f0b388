"""`steady`: a fixed rate of allocation, and latency free of coordinated omission.

A loop that starts an operation when the last one ended cannot see how long others would have
waited: while a pause holds it up it asks for nothing (G. Tene, "How NOT to measure latency", 2013).
Here each mutator replaces 16 rows of a table of its own, about a KiB, at fixed intervals:

    open        operations begin by the clock.  Latency counts from the *intended* begin to the
                end: what somebody who asked at that moment waited.  An operation that is late
                makes the next ones late, and each of them counts.  The time from the actual begin
                is recorded beside it: what a closed loop would have shown (`facts.service_us`)
    closed      the interval follows the end of the operation before; both times are the same

Between operations a mutator sleeps outside the heap, and polls for the last 100 us.
"""
from gcheap.core.records cimport HISTOGRAM_SLOTS, Histogram
from libc.stdint cimport uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from gcheap._fastpath cimport gc_enter, gc_leave, gc_poll
from gcheap.core.events cimport hist_record, hist_upper, new_histogram
from gcheap.core.native cimport clock_ns, cpu_relax, sleep_ns
from gcheap.workloads._record cimport MEASURE, record_timed
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


cdef uint64_t wait_until(Steady s, uint64_t moment) noexcept nogil:
    """Returns when it is `moment`, or the run over; the time then.  A safepoint."""
    cdef uint64_t now = clock_ns()
    while now < moment and not s.stopping():
        if moment - now > SPIN_NS:
            gc_leave(s.m)
            sleep_ns(min(moment - now - SPIN_NS, <uint64_t>SLICE_NS))
            gc_enter(s.m)
        else:
            gc_poll(s.m)
            cpu_relax()
        now = clock_ns()
    return now


cdef class Steady(Rows):
    """One mutator of `steady`."""
    cdef Histogram* service     # ns from the actual begin of an operation to its end
    cdef uint64_t interval
    cdef uint64_t behind        # ns, the most that an operation began too late
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
        cdef uint64_t intended = clock_ns(), begin, end
        cdef bint measuring = False, more = True
        while more and not self.hopeless():
            begin = wait_until(self, intended)
            if not self.turn_over(ROWS):
                self.r.exhausted = 1
                return
            self.operations += 1
            end = clock_ns()
            more = record_timed(self.r, begin, end, end - intended if self.open else end - begin)
            if self.r.state == MEASURE and not measuring:
                measuring = True
                memset(self.service, 0, sizeof(Histogram))
                self.behind = 0
            else:
                hist_record(self.service, end - begin)
                self.behind = max(self.behind, begin - min(begin, intended))
            intended = (intended if self.open else end) + self.interval

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

        return {"service_us": {name: worst(quantile) for name, quantile in QUANTILES.items()},
                "most_behind_ms": max(worker.most_behind for worker in workers) / 1e6}

    @property
    def most_behind(self):
        """ns, the most that an operation began after its time."""
        return self.behind


def check(config):
    """OptionError for a rate that is no rate."""
    rate = config.settings["rate"]
    if not OPERATION_BYTES <= rate <= 1 << 33:
        raise OptionError(
            f"rate {format_size(rate)} a second: an operation allocates {OPERATION_BYTES} bytes; "
            f"accepted is one operation a second to {format_size(1 << 33)} a second")
