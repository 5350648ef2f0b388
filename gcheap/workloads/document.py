"""The result document of a stress run: from counters, records and histograms to plain JSON.

Everything counts from the end of the warm-up (a `Look` at the heap) to the end of the run
(another one).  With several mutators each figure of `op_latency_us` and `mmu` is that of the
mutator for which it is worst; counts are sums.  A percentile with no sample is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gcheap.percentiles import difference, of_histogram, of_samples
from gcheap.workloads.cpu import CpuTime
from gcheap.workloads.details import details
from gcheap.workloads.mmu import minimum_utilization

FORMAT = {"name": "gcheap stress", "version": 1}
NO_HISTOGRAM = ((), (), 0)
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999, "p99_99": 0.9999, "max": 1.0}
SHORT = ("p50", "p99", "max")
WINDOWS = {"1ms": 1_000_000, "5ms": 5_000_000, "10ms": 10_000_000, "50ms": 50_000_000}
US, MS = 1e3, 1e6  # nanoseconds
RING = 16384  # records of pauses and of cycles that a heap keeps


@dataclass(frozen=True)
class Look:
    """A heap's counters and histograms at one moment."""

    at_ns: int  # by clock_ns()
    stats: object
    fault: tuple
    reach: tuple
    stall: tuple = NO_HISTOGRAM
    cpu: CpuTime = field(default_factory=CpuTime)

    @classmethod
    def at(cls, heap, now_ns):
        return cls(now_ns, heap.stats(), heap.histogram("fault"),
                   heap.histogram("time_to_safepoint"), heap.histogram("stall"),
                   CpuTime.now())


@dataclass
class Outcome:
    """What a run left behind, for `build`."""

    config: dict
    stamp: dict  # see gcheap.provenance
    begin: Look | None = None  # None: the run ended before its measurement began
    end: Look | None = None
    pauses: object = None
    cycles: object = None
    recordings: list = field(default_factory=list)
    audited: bool = False
    interrupted: bool = False
    peak_rss_bytes: int = 0
    peak_heap_resident_bytes: int = 0
    live_bytes: int | None = None
    noise: object = None  # Recording of the control loop
    limit: dict = field(default_factory=dict)  # policy, and least, peak and last soft heap size
    facts: dict = field(default_factory=dict)
    series: dict = field(default_factory=dict)  # of `samples.Samples`, and the next
    page_map: dict | None = None


def build(outcome: Outcome) -> dict:
    """The document.  Values are ints, floats, strings, booleans, None, and dicts and lists of
    these; docs/reference/document.md describes them.
    """
    end, recordings = outcome.end, outcome.recordings
    begin = outcome.begin or end
    seconds = (end.at_ns - begin.at_ns) / 1e9
    ops = sum(r.ops for r in recordings)
    allocated = end.stats.allocated_bytes - begin.stats.allocated_bytes
    cycles = _between(outcome.cycles, begin, end,
                      outcome.cycles["start_ns"] + outcome.cycles["cycle_ns"])
    pauses = _between(outcome.pauses, begin, end, outcome.pauses["start_ns"])
    relocated = cycles[cycles["relocated"] != 0]
    failures = sum(r.failures for r in recordings)
    document = {
        "format": FORMAT,
        **outcome.stamp,
        "config": outcome.config,
        "workload": outcome.config["workload"],
        "seconds": seconds,
        "ops": ops,
        "ops_per_s": sum(_rate(r) for r in recordings),
        "alloc_bytes_per_s": allocated / seconds if seconds else 0.0,
        # The rings of records hold the last ones; the counter knows them all.
        "cycles": (len(cycles) if len(outcome.cycles) < RING
                   else end.stats.cycles - begin.stats.cycles),
        "cycle_ms": _samples(cycles["cycle_ns"], SHORT, MS),
        "relocate_ms": _samples(relocated["relocate_ns"], SHORT, MS),
        "pauses": pause_figures(pauses),
        "time_to_safepoint_us": _histogram(difference(begin.reach, end.reach), SHORT, US),
        "op_latency_us": _latency(recordings),
        "mmu": {name: _mmu(recordings, window) for name, window in WINDOWS.items()},
        "faults": _faults(begin, end),
        "stalls": _stalls(begin, end),
        "cost": _cost(begin, end, pauses) | {"mutators": len(recordings)},
        "relocate_ops": sum(r.relocate_ops for r in recordings if r.begin_ns),
        "bytes": {name: getattr(end.stats, f"{name}_bytes") - getattr(begin.stats, f"{name}_bytes")
                  for name in ("moved", "copied", "zeroed", "recycled")},
        "ioctls": {name: _ioctls(begin.stats.ioctls[name], end.stats.ioctls[name])
                   for name in ("move", "copy", "zeropage")},
        "peak_rss_bytes": outcome.peak_rss_bytes,
        "peak_heap_resident_bytes": outcome.peak_heap_resident_bytes,
        "live_bytes": outcome.live_bytes,
        "limit": outcome.limit,
        "backend": end.stats.backend,
        "fault_mode": end.stats.fault_mode,
        "verified": bool(outcome.audited and failures == 0),
        "why": end.stats.why,
        "interrupted": outcome.interrupted,
        "audited": outcome.audited,
        "failures": failures,
        "failure": next((r.first_failure() for r in recordings if r.failures), None),
        "used_before_max_bytes": int(cycles["used_before"].max()) if len(cycles) else None,
        "gaps": {"count": sum(len(r.gaps()) for r in recordings if r.begin_ns),
                 "lost": sum(r.gaps_lost for r in recordings)},
        "noise_floor_us": noise_of(outcome.noise),
        "facts": outcome.facts,
        "details": details(outcome, begin, end, cycles, pauses),
    }
    return document


# ---- parts -------------------------------------------------------------------------------


def _samples(values, names, unit):
    """{p50: ..., ...} of an array of ns, in `unit`s."""
    return {name: _in(of_samples(values, QUANTILES[name]), unit) for name in names}


def _histogram(histogram, names, unit, suffix=""):
    values, counts, maximum = histogram
    row = {f"{name}{suffix}": _in(of_histogram(values, counts, maximum, QUANTILES[name]), unit)
           for name in names}
    return {"count": int(counts.sum())} | row


def _in(nanoseconds, unit):
    return None if nanoseconds is None else nanoseconds / unit


def _between(records, begin, end, at_ns):
    """The records whose moment lies in the measurement."""
    return records[(at_ns >= begin.at_ns) & (at_ns <= end.at_ns)]


def pause_figures(pauses):
    """Pause *work*; the time to safepoint before it has a histogram of its own."""
    def row(rows):
        return {"count": len(rows)} | {
            f"{name}_us": value
            for name, value in _samples(rows["work_ns"], SHORT, US).items()
        }

    by_phase = {str(phase): row(pauses[pauses["phase"] == phase])
                for phase in sorted(set(pauses["phase"].tolist()))}
    return row(pauses) | {"by_phase": by_phase}


def _latency(recordings):
    rows = [_histogram(r.histogram(), QUANTILES, US) for r in recordings if r.ops]
    return {name: _worst(max, (row[name] for row in rows)) for name in QUANTILES}


def _mmu(recordings, window):
    values = []
    for r in recordings:
        if r.ops:
            gaps = r.gaps()
            end = r.end_ns
            if r.gaps_lost:  # the log is whole up to its last entry
                end = int(gaps["start_ns"][-1] + gaps["duration_ns"][-1])
            values.append(minimum_utilization(
                gaps["start_ns"], gaps["duration_ns"], r.begin_ns, end, window))
    return _worst(min, values)


def _worst(choose, values):
    known = [value for value in values if value is not None]
    return choose(known) if known else None


def _rate(recording):
    """Operations a second of one mutator, over its own measurement."""
    if not recording.ops:
        return 0.0
    return recording.ops / ((recording.end_ns - recording.begin_ns) / 1e9)


def _faults(begin, end):
    counted = {name: getattr(end.stats, key) - getattr(begin.stats, key)
               for name, key in (("pages", "fault_pages"), ("waits", "fault_waits"),
                                 ("holes", "hole_faults"), ("foreign", "foreign_faults"))}
    # Their count is the histogram's: mutators run while the two are read one after the other.
    return _histogram(difference(begin.fault, end.fault), SHORT, US, "_us") | counted


def _stalls(begin, end):
    before, after = begin.stats, end.stats
    total = after.stall_ns - before.stall_ns
    times = _histogram(difference(begin.stall, end.stall), ("p50", "p99"), MS, "_ms")
    longest = None
    if after.stalls > before.stalls:
        # The counter is the longest ever: exact when it grew, else the total bounds it.
        longest = min(after.stall_max_ns, total) / MS
    return times | {"count": after.stalls - before.stalls, "total_ms": total / MS,
                    "max_ms": longest}


def _cost(begin, end, pauses):
    """What of the run is collection for certain, in ms: see docs/reference/bench-lbo.md."""
    return {
        "cpu_ms": (end.cpu.process_ns - begin.cpu.process_ns) / MS,
        "collector_cpu_ms": (end.cpu.collector_ns - begin.cpu.collector_ns) / MS,
        "pause_ms": int(pauses["work_ns"].sum()) / MS,
        "fault_ms": _total(begin.fault, end.fault) / MS,
        "stall_ms": (end.stats.stall_ns - begin.stats.stall_ns) / MS,
    }


def _total(before, after):
    """ns in a histogram between two looks, each value taken for its bucket's lowest: no more
    than it was."""
    values, counts, _ = difference(before, after)
    return float((np.asarray(values, float) * np.asarray(counts, float)).sum()) * 0.999


def _ioctls(before, after):
    refused = {errno: count - before.refused.get(errno, 0)
               for errno, count in after.refused.items()}
    return {"calls": after.calls - before.calls, "pages": after.pages - before.pages,
            "refused": {errno: count for errno, count in refused.items() if count}}


def noise_of(recording):
    """The control loop beside the run's figures: one clock read to the next."""
    if recording is None or not recording.ops:
        return None
    gaps = recording.gaps()
    seconds = (recording.end_ns - recording.begin_ns) / 1e9
    return _histogram(recording.histogram(), QUANTILES, US) | {
        "seconds": seconds,
        "gaps": len(gaps),
        "mmu": {name: _mmu([recording], window) for name, window in WINDOWS.items()},
    }
