"""Watching a heap while a run goes on: memory over time, and the page map around a cycle.

Taken by the supervising thread between two looks at the run; nothing is stopped for it.  A large
heap is sampled more rarely, so that looking costs at most a twentieth of one thread's time.
"""

from __future__ import annotations

import os
import time

from gcheap import pagemap
from gcheap.clock import clock_ns
from gcheap.workloads.details import Thinned
from gcheap.workloads.memory import MOST_OF_THE_TIME, SAMPLE_SECONDS

COLUMNS = ("at_ns", "used_bytes", "live_bytes", "limit_bytes", "heap_resident_bytes",
           "recycled_bytes", "rss_bytes")
MOST_CELLS = 4096  # of one half in the document's page map
_PAGE = os.sysconf("SC_PAGE_SIZE")
_EVACUATED = pagemap.STATES.index("evacuated")
_PLACED = pagemap.STATES.index("placed")


class Samples:
    """Samples of one heap, about 20 a second; `look` is cheap when none is due.

    peak_bytes  the greatest `heap.resident_bytes()` seen; a peak between two samples is missed
    """

    def __init__(self, heap):
        self._heap = heap
        self._unit_bytes = heap.unit_pages * heap.page_size
        self._series = Thinned(COLUMNS, SAMPLE_SECONDS)
        self._during = None
        self._shown = None      # (rows after, rows during or None, cycle, moment of `during`)
        self.peak_bytes = 0

    def look(self):
        now = time.monotonic()
        if not self._series.due(now):
            return
        # Time of this thread: a look may wait for a pause to end, which costs nobody anything.
        began, at_ns = time.thread_time(), clock_ns()
        stats, rows = self._heap.stats(), self._heap.page_map()
        resident = self._heap.resident_bytes()
        self.peak_bytes = max(self.peak_bytes, resident)
        recycled = int((rows["state"] == _EVACUATED).sum()) * self._unit_bytes
        self._note_map(rows, stats, at_ns)
        cost = (time.thread_time() - began) / MOST_OF_THE_TIME
        self._series.add(now, (at_ns, stats.used_bytes, stats.live_bytes, stats.limit_bytes,
                               resident, recycled, rss_bytes()), cost)

    def series(self, begin_ns):
        """The document's `series`; its moments count from `begin_ns`."""
        document = self._series.document()
        columns = document["columns"]
        columns["at_ns"] = [at - begin_ns for at in columns["at_ns"]]
        return document

    def page_map(self, begin_ns):
        """The document's `page_map`: of the last relocation whose end was seen; None: none was."""
        if self._shown is None:
            return None
        after, during, cycle, at_ns = self._shown
        spaces = {}
        for number, space in enumerate(pagemap.SPACES):
            found = _space(after, during, number, self._unit_bytes)
            if found is not None:
                spaces[space] = found
        return {"cycle": cycle, "unit_bytes": self._unit_bytes,
                "during_at_ns": None if during is None else at_ns - begin_ns, "spaces": spaces}

    def _note_map(self, rows, stats, at_ns):
        if pagemap.is_relocating(rows):
            self._during = (rows, stats.relocations, at_ns)
        elif (rows["state"] == _PLACED).any():
            during, at = None, None
            # Of the same relocation: it is counted when it has ended.
            if self._during is not None and self._during[1] + 1 == stats.relocations:
                during, at = self._during[0], self._during[2]
            # One that was seen under way as well shows more, if it is not the latest.
            if during is not None or self._shown is None or self._shown[1] is None:
                self._shown = (rows, during, stats.cycles, at)


def rss_bytes() -> int:
    """Resident bytes of this process now."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * _PAGE


def _space(after, during, number, unit_bytes):
    """One space in the document: from-space before, both halves meanwhile, to-space after."""
    def of(rows, current):
        return rows[(rows["space"] == number) & (rows["current"] == current)]

    to, old = of(after, True), of(after, False)
    if not len(old) and not to["state"].any():      # a gap, and nothing else
        return None
    parts = [to, old] + ([] if during is None else [of(during, True), of(during, False)])
    units = max(len(part) for part in parts)
    per_cell = -(-units // MOST_CELLS)
    found = {"units": units, "units_per_cell": per_cell,
             "before": {"live_percent": pagemap.live_percent(old, per_cell, unit_bytes)},
             "during": None,
             "after": {"to": pagemap.cells(to, per_cell)}}
    if during is not None:
        found["during"] = {"from": pagemap.cells(of(during, False), per_cell),
                           "to": pagemap.cells(of(during, True), per_cell)}
    return found
