"""GCHEAP_TRACE=1: one line a cycle, in the manner of Go's GODEBUG=gctrace=1.

    gc 3 @1.204s 4%: 0.006+9.1+0.041+1.3+0.003+44 ms clock, 1.2+31 ms cpu, 81->84->40 MB,
    128 MB goal, 512 faults, 0 stalls, 2 P (goal)

(in one line).  After @: seconds since gcheap was imported; the share of all CPUs' time since then
that the collector thread took; the clock of Pause Mark Start + Concurrent Mark + Pause Mark End +
what lies between it and the flip + Pause Relocate Start + Concurrent Relocate; CPU time in pauses +
of the collector outside of them; used bytes when it began, before the flip, and when it ended; the
soft limit; faults and allocation stalls since the line before; CPUs; the cause.  What happens
inside a pause counts as that pause: under stw all of it stands in the first place.  Lines of a heap
that is not the first say "gc 3 (heap 2)".
"""
from __future__ import annotations

import os
from typing import Any

MIB = 1 << 20


class OneLiner:
    """Adds up what belongs to a cycle, and tells it at its end."""

    def __init__(self, facts: dict[str, Any], tally: dict[str, int]) -> None:
        self._facts = facts
        self._faults = tally["faults"]
        self._stalls = 0
        self._clear()
        self._collector_ns = 0

    def _clear(self) -> None:
        self._clock: dict[str, int] = {}
        self._pause_cpu = 0

    def tell(self, kind: str, record: dict[str, Any]) -> str | None:
        """The line, when this record ends a cycle."""
        if kind == "cycle":
            return self._line(record)
        if kind == "start":
            self._clear()
        elif kind == "stall":
            self._stalls += 1
        elif kind == "phase" and not record["in_pause"]:
            self._add(record["phase"], record["end_ns"] - record["start_ns"])
        elif kind == "pause" and record["phase"] not in ("inspect", "fork"):
            self._add(record["phase"], record["work_ns"])
            self._pause_cpu += record["cpu_ns"]
        return None

    def _add(self, name: str, ns: int) -> None:
        self._clock[name] = self._clock.get(name, 0) + ns

    def _line(self, r: dict[str, Any]) -> str:
        uptime = r["start_ns"] + r["cycle_ns"] - self._facts["born_ns"]
        self._collector_ns += r["cpu_ns"]
        cpus = os.cpu_count() or 1
        clock = self._clock.get
        parts = (("mark_start", "full"), ("mark", "mark_continue"), ("mark_end",),
                 ("non_strong", "select", "register"), ("relocate_start",), ("relocate",))
        times = "+".join(_short(sum(clock(name, 0) for name in part) / 1e6) for part in parts)
        faults, self._faults = r["tally"]["faults"] - self._faults, r["tally"]["faults"]
        stalls, self._stalls = self._stalls, 0
        heap = self._facts["heap"]
        which = "" if heap == 1 else f" (heap {heap})"
        return (f"gc {r['cycle']}{which} @{uptime / 1e9:.3f}s "
                f"{100 * self._collector_ns / max(uptime * cpus, 1):.0f}%: {times} ms clock, "
                f"{_short(self._pause_cpu / 1e6)}+"
                f"{_short(max(r['cpu_ns'] - self._pause_cpu, 0) / 1e6)} ms cpu, "
                f"{r['used_before'] // MIB}->{r['used_relocate_start'] // MIB}->"
                f"{r['used_after'] // MIB} MB, {r['limit_bytes'] // MIB} MB goal, "
                f"{faults} faults, {stalls} stalls, {cpus} P ({r['cause']})")


def _short(ms: float) -> str:
    """As Go prints it: three digits below 1, two significant ones below 10."""
    if ms < 1:
        return f"{ms:.3f}"
    return f"{ms:.1f}" if ms < 10 else f"{ms:.0f}"
