"""What a trace is, whatever its file looks like: tracks with slices that nest, and counters.

Times are ns of CLOCK_MONOTONIC_RAW, as in `Heap.pauses()`.
"""
from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gcheap.face.tracing import BATCHES, FAULTS, KINDS
from gcheap.log.lines import CAUSES, PAUSES, phase_name

Slice = tuple[int, int, str, dict[str, Any]]            # start, end, name, arguments
COUNTERS = ("used", "live", "RSS", "recycled pool")     # all bytes
BY_OTHERS = ("inspect", "fork")                         # pauses that the collector does not make
_RUNNING = KINDS.index("running")


@dataclass
class Track:
    """What one thread did."""

    name: str
    role: str                   # "mutator", "collector", "faults" or "pauses"
    thread: int                 # its id; 0: not known, or no thread
    chunks: list[np.ndarray] = field(default_factory=list)
    records: list[Slice] = field(default_factory=list)
    lost: int = 0               # events that are not here


class Timeline:
    """Filled while a trace goes on, then read by a writer."""

    def __init__(self, facts: dict[str, Any], event: list[tuple[str, str]], most_events: int,
                 start_ns: int) -> None:
        self.facts = facts
        self.start_ns = self.end_ns = start_ns
        self.lost_records = 0
        self.samples: list[tuple[int, ...]] = []        # (ns, *COUNTERS)
        self._dtype = np.dtype(event)
        self._left = most_events
        self._collector = Track("gcheap-collect", "collector", 0)
        self._pauses = Track("pauses made by others", "pauses", 0)
        self._tracks: dict[Any, Track] = {"collector": self._collector, "pauses": self._pauses}
        self._placing = {"move": "MOVE", "copy": "COPY"}.get(facts["backend"], "place")

    # ---- filling --------------------------------------------------------------------------

    def add_events(self, rows: Iterable[tuple[int, str, int, str, bytes, int]]) -> None:
        """What `Rings.drain` gives."""
        for owner, name, thread, role, data, lost in rows:
            track = self._track(owner, name, thread, role)
            events = np.frombuffer(data, self._dtype)
            if role == "faults":        # it is no mutator: in the heap whenever it serves
                events = events[events["kind"] != _RUNNING]
            kept = events[:self._left]
            self._left -= len(kept)
            track.lost += lost + len(events) - len(kept)
            if len(kept):
                track.chunks.append(kept)

    def _track(self, owner: int, name: str, thread: int, role: str) -> Track:
        if role == "collector":
            self._collector.thread = thread or self._collector.thread
            return self._collector
        # A thread that detaches and attaches again stays on its track.
        key = (name, thread) if thread else owner
        return self._tracks.setdefault(key, Track(name, role, thread))

    def add_records(self, rows: Iterable[tuple[int, str, dict[str, Any]]], lost: int) -> None:
        """What `Records.take` gives."""
        self.lost_records = lost
        for end, kind, r in rows:
            if kind == "cycle":
                self._collector.records.append((
                    r["start_ns"], end, f"GC({r['cycle']}) {CAUSES[r['cause']]}",
                    {name: r[name] for name in ("used_before", "used_after", "live_bytes",
                                                "collected_bytes")}))
            elif kind == "phase":
                self._collector.records.append((
                    r["start_ns"], end, phase_name(r["phase"], r["in_pause"]),
                    {"cycle": r["cycle"]}))
            elif kind == "pause":
                track = self._pauses if r["phase"] in BY_OTHERS else self._collector
                stopped = r["start_ns"] + r["reach_ns"]
                track.records.append((r["start_ns"], end, PAUSES[r["phase"]],
                                      {"cycle": r["cycle"], "mutators": r["mutators"]}))
                track.records.append((r["start_ns"], stopped, "time to safepoint", {}))

    def add_sample(self, at: int, *values: int) -> None:
        """One look at the counters, in the order of COUNTERS."""
        self.samples.append((at, *values))

    # ---- reading --------------------------------------------------------------------------

    @property
    def tracks(self) -> list[Track]:
        """Mutators first, in the order in which they were met; none that is empty."""
        order = ("mutator", "faults", "collector", "pauses")
        return sorted((t for t in self._tracks.values() if t.chunks or t.records or t.lost),
                      key=lambda track: order.index(track.role))

    def slices(self, track: Track) -> Iterator[Slice]:
        """Those of a track by start, each before those inside it."""
        return heapq.merge(self._of_events(track), sorted(track.records, key=_outer_first),
                           key=_outer_first)

    def _of_events(self, track: Track) -> Iterator[Slice]:
        if not track.chunks:
            return
        events = np.concatenate(track.chunks)
        # Descending ends within a start: their complement ascends.
        for start, end, kind, detail, amount in events[
                np.lexsort((events["kind"], ~events["end_ns"], events["start_ns"]))].tolist():
            yield start, end, *self._named(KINDS[kind], detail, amount)

    def _named(self, kind: str, detail: int, amount: int) -> tuple[str, dict[str, Any]]:
        if kind == "fault":
            return "fault", {"pages": amount, "end": FAULTS[detail]}
        if kind == "stall":
            return "allocation stall", {"bytes": amount}
        if kind == "batch":
            return "batch", {"pages": amount, "of": BATCHES[detail]}
        if kind == "place":
            return self._placing, {"pages": amount}
        return kind, {}


def _outer_first(one: Slice) -> tuple[int, int]:
    return one[0], -one[1]


def edges(slices: Iterable[Slice]) -> Iterator[tuple[int, Slice | None]]:
    """Slices as a stream of (time, slice) where one begins and (time, None) where the innermost
    ends, in order of time.  One that outlives what it began in ends with it."""
    open_ends: list[int] = []
    for one in slices:
        start, end = one[0], one[1]
        while open_ends and open_ends[-1] <= start:
            yield open_ends.pop(), None
        yield start, one
        open_ends.append(min(end, open_ends[-1]) if open_ends else end)
    while open_ends:
        yield open_ends.pop(), None
