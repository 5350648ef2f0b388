"""Minimum mutator utilization (MMU), exact for any window, from a mutator's gaps.

The utilization of a window is the share of it that lies in no gap; the MMU of a window
length is the least over all positions of such a window in the run (P. Cheng, G. Blelloch,
"A parallel, real-time garbage collector", 2001).  As the window slides, its overlap with
the gaps is piecewise linear, so its greatest value is found where the window starts with a
gap, ends with one, or touches an end of the run: those positions are tried, no others.
"""

from __future__ import annotations

import numpy as np


def minimum_utilization(starts, durations, begin: int, end: int, window: int) -> float | None:
    """The MMU of windows of `window` ns in the run [begin, end].

    `starts` and `durations` (ns) are the gaps, in order and without overlap; what lies
    outside the run does not count.  None when no window fits: the run is shorter.
    """
    if window <= 0:
        raise ValueError(f"window {window}: a window is a positive number of nanoseconds")
    if end - begin < window:
        return None
    starts, ends = _clip(starts, durations, begin, end)
    if starts.size == 0:
        return 1.0
    before = np.concatenate(([0], np.cumsum(ends - starts)))
    last = end - window

    def gap_time(until):
        """Gap time from the start of the run until each of the given moments."""
        entered = np.searchsorted(starts, until, side="right")
        unfinished = np.where(entered > 0, ends[entered - 1] - until, 0)
        return before[entered] - np.maximum(unfinished, 0)

    at = np.concatenate((starts, ends - window, [begin, last]))
    at = np.clip(at, begin, last)
    worst = int(np.max(gap_time(at + window) - gap_time(at)))
    return 1.0 - worst / window


def _clip(starts, durations, begin, end):
    """Start and end of each gap within [begin, end], as int64."""
    starts = np.asarray(starts).astype(np.int64)
    ends = starts + np.asarray(durations).astype(np.int64)
    starts, ends = np.maximum(starts, begin), np.minimum(ends, end)
    inside = ends > starts
    return starts[inside], ends[inside]
