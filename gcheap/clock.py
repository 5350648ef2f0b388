"""The clock of every moment and duration that gcheap tells: CLOCK_MONOTONIC_RAW.

Native code reads the same one (`include/gcheap/native/sync.h`).  Unlike CLOCK_MONOTONIC it is not
slewed by NTP, so durations are the counter's own.
"""
from __future__ import annotations

import time


def clock_ns() -> int:
    """Now, in nanoseconds of CLOCK_MONOTONIC_RAW.

    Times of `Heap.pauses()`, `Heap.cycles()`, traces and documents compare with this, not with
    `time.monotonic_ns()`, from which it drifts by up to 500 parts in a million.  Any thread.
    """
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
