"""The part of a result document that is drawn: records, series, histograms, curves, a page map.

Tables are columns: {"columns": {name: [...]}} with as many entries each.  Times are ns, and
moments count from `begin_ns`, the start of the measurement.  docs/reference/document.md says how
each figure is formed, and what is left out of a long run.
"""

from __future__ import annotations

import numpy as np

from gcheap.percentiles import difference, histogram_of, merged
from gcheap.workloads.mmu import minimum_utilization

MOST_RECORDS = 4000  # the last cycles, and the last pauses, that a document holds
MANY_GAPS = 200_000  # a longer log of gaps gets a coarser MMU curve
STEPS, COARSE_STEPS = (1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.3, 8), (1, 2, 5)  # of a decade
LEAST_WINDOW_NS = 100_000


def details(outcome, begin, end, cycles, pauses) -> dict:
    """`cycles` and `pauses` are the records within the measurement; the rest is the outcome's."""
    recordings = [r for r in outcome.recordings if r.ops]
    noise = outcome.noise if outcome.noise is not None and outcome.noise.ops else None
    histograms = {
        "operation": merged([r.histogram() for r in recordings]),
        "fault": difference(begin.fault, end.fault),
        "stall": difference(begin.stall, end.stall),
        "time_to_safepoint": difference(begin.reach, end.reach),
        "pause": histogram_of(pauses["work_ns"]),
    }
    if noise is not None:
        histograms["noise_floor"] = noise.histogram()
    return {
        "begin_ns": begin.at_ns,
        "end_ns": end.at_ns,
        "cycles": _records(cycles, begin.at_ns),
        "pauses": _records(pauses, begin.at_ns),
        "histograms": {name: _histogram(histogram) for name, histogram in histograms.items()},
        "mmu": _curve(recordings, noise),
        "series": outcome.series,
        "page_map": outcome.page_map,
    }


def _records(rows, begin_ns):
    kept = rows[-MOST_RECORDS:]
    columns = {name: kept[name].tolist() for name in kept.dtype.names}
    columns["start_ns"] = [start - begin_ns for start in columns["start_ns"]]
    return {"seen": len(rows), "columns": columns}


def _histogram(histogram):
    values, counts, maximum = histogram
    return {"count": int(counts.sum()), "max_ns": int(maximum),
            "columns": {"value_ns": values.tolist(), "count": counts.tolist()}}


def _curve(recordings, noise):
    """MMU over windows from 0.1 ms to the length of the run, of the mutator that is worst off."""
    logs = [_log(r) for r in recordings]
    longest = max((end - begin for _, _, begin, end in logs), default=0)
    steps = COARSE_STEPS if sum(len(log[0]) for log in logs) > MANY_GAPS else STEPS
    windows, decade = [], LEAST_WINDOW_NS
    while decade <= longest:
        windows += [int(step * decade) for step in steps if step * decade <= longest]
        decade *= 10
    quiet = [_log(noise)] if noise is not None else []
    return {"columns": {"window_ns": windows,
                        "worst_mutator": [_worst(logs, window) for window in windows],
                        "noise_floor": [_worst(quiet, window) for window in windows]}}


def _log(recording):
    """The gaps of a mutator, and the stretch of time in which the log is whole."""
    gaps, end = recording.gaps(), recording.end_ns
    if recording.gaps_lost:
        end = int(gaps["start_ns"][-1] + gaps["duration_ns"][-1])
    return gaps["start_ns"], gaps["duration_ns"], recording.begin_ns, end


def _worst(logs, window):
    values = [minimum_utilization(*log, window) for log in logs]
    known = [value for value in values if value is not None]
    return min(known) if known else None


class Thinned:
    """Rows of a time series, at most so many: when there are more, every second one goes, and from
    then on rows come half as often.

    `columns` are the names; `due(now)` says whether a row is wanted at a time in seconds.
    """

    MOST = 2000

    def __init__(self, columns, seconds):
        self._names = columns
        self._rows = []
        self._seconds = seconds
        self._next = 0.0

    def due(self, now):
        return now >= self._next

    def add(self, now, row, cost=0.0):
        """A row that was taken from `now` on; `cost`: the least time in seconds until the next."""
        self._rows.append(row)
        if len(self._rows) > self.MOST:
            del self._rows[1::2]
            self._seconds *= 2
        self._next = now + max(self._seconds, cost)

    def document(self):
        columns = np.array(self._rows, dtype=object).reshape(-1, len(self._names)).T
        return {"interval_ns": int(self._seconds * 1e9),
                "columns": {name: list(column)
                            for name, column in zip(self._names, columns, strict=True)}}
