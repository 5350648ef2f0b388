"""From a heap's records to lines: what is said, at which level, with which tags."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gcheap.log.mmu import PauseUtilization
from gcheap.text import printable

Line = tuple[str, str, str]             # level, tag set, text

# HotSpot's names, where it has the same thing.
CAUSES = {"goal": "Allocation Rate", "idle": "Proactive", "stall": "Allocation Stall",
          "explicit": "System.gc()"}
PAUSES = {"mark_start": "Pause Mark Start", "mark_end": "Pause Mark End",
          "relocate_start": "Pause Relocate Start", "verify": "Pause Verify",
          "full": "Pause Full", "inspect": "Pause Inspect", "fork": "Pause Fork"}
PHASES = {"reset": "Reset Relocation Set", "mark": "Mark", "mark_continue": "Mark Continue",
          "non_strong": "Process Non-Strong References", "select": "Select Relocation Set",
          "register": "Register To-Space", "relocate": "Relocate"}
MIB = 1 << 20


def phase_name(phase: str, in_pause: bool) -> str:
    """As the log and the trace call it."""
    return PHASES[phase] if in_pause else f"Concurrent {PHASES[phase]}"


class Narrator:
    """Tells what happened in one heap.  `facts` are those of `gcheap.face.records.facts`."""

    def __init__(self, facts: dict[str, Any], tally: dict[str, int]) -> None:
        self._capacity = facts["capacity"]
        self._facts = facts
        self._tally = tally
        self._mmu = PauseUtilization()
        self._stalls: list[int] = []    # waits of the stalls since the last cycle's end
        self._last_pause_end: int | None = None
        self._started: int | None = None

    def tell(self, kind: str, record: dict[str, Any]) -> Iterator[Line]:
        """The lines for one record."""
        return getattr(self, f"_{kind}")(record)

    def init(self) -> Iterator[Line]:
        f = self._facts
        def line(text: str) -> Line:
            return "info", "gc,init", text

        yield line(f"gcheap {f['version']}, heap {f['heap']}, process {f['pid']}")
        yield line(f"Backend: {f['backend']} ({printable(f['why'])})")
        yield line(f"Faults: {f['fault_mode']}")
        yield line(f"CPUs: {f['cpus']}, kernel {printable(f['kernel'])}, page {f['page'] >> 10}K")
        yield line(f"Capacity: {_m(f['capacity'])}, policy {f['policy']}")
        yield line(f"Unit: {f['unit'] >> 10}K, TLAB {f['tlab'] >> 10}K, "
                   f"batch of {f['batch_units']} units")
        if f["verify"]:
            yield line(f"Verify: level {f['verify']}")

    def lost(self, count: int) -> Line:
        return "warning", "gc", f"{count} records lost: the log was too slow for them"

    # ---- one record each ------------------------------------------------------------------

    def _start(self, r: dict[str, Any]) -> Iterator[Line]:
        if self._started == r["cycle"]:
            yield "info", "gc", (f"GC({r['cycle']}) Garbage Collection ({CAUSES[r['cause']]}) "
                                 "Abandoned (fork)")
        self._started = r["cycle"]
        yield "info", "gc,start", f"GC({r['cycle']}) Garbage Collection ({CAUSES[r['cause']]})"

    def _phase(self, r: dict[str, Any]) -> Iterator[Line]:
        yield "info", "gc,phases", (f"GC({r['cycle']}) {phase_name(r['phase'], r['in_pause'])} "
                                    f"{_ms(r['end_ns'] - r['start_ns'])}")

    def _pause(self, r: dict[str, Any]) -> Iterator[Line]:
        name = PAUSES[r["phase"]]
        of = f"GC({r['cycle']}) " if r["cycle"] and r["phase"] != "fork" else ""
        stopped = r["start_ns"] + r["reach_ns"]
        yield "info", "gc,phases", f"{of}{name} {_ms(r['work_ns'])}"
        yield "debug", "gc,phases", (
            f"{of}{name}: {r['mutators']} mutators, reached in {_ms(r['reach_ns'])}, "
            f"{_ms(r['cpu_ns'])} of CPU")
        since = r["start_ns"] - (self._last_pause_end or self._facts["born_ns"])
        yield "info", "safepoint", (
            f'Safepoint "{name.removeprefix("Pause ").replace(" ", "")}", '
            f"Time since last: {max(since, 0)} ns, Reaching safepoint: {r['reach_ns']} ns, "
            f"At safepoint: {r['work_ns']} ns, Total: {r['reach_ns'] + r['work_ns']} ns")
        self._last_pause_end = stopped + r["work_ns"]
        self._mmu.add(r["start_ns"], self._last_pause_end)

    def _stall(self, r: dict[str, Any]) -> Iterator[Line]:
        self._stalls.append(r["wait_ns"])
        yield "info", "gc", f"Allocation Stall ({printable(r['name'])}) {_ms(r['wait_ns'])}"
        yield "debug", "gc,stalls", (f"Allocation Stall ({printable(r['name'])}): "
                                     f"{r['bytes']} bytes, thread {r['thread_id']}")

    def _cycle(self, r: dict[str, Any]) -> Iterator[Line]:
        gc = f"GC({r['cycle']}) "
        self._started = None
        yield "info", "gc,mmu", gc + "MMU: " + ", ".join(
            f"{window}ms/{percent:.1f}%" for window, percent in self._mmu.percent().items())
        for text in self._uffd(r["tally"]):
            yield "info", "gc,uffd", gc + text
        stalls, self._stalls = self._stalls, []
        yield "info", "gc,stalls", gc + (
            f"Stalls: {len(stalls)}, total {_ms(sum(stalls))}, max {_ms(max(stalls, default=0))}")
        if r["relocated"]:
            yield "info", "gc,reloc", gc + (
                f"Relocated: {_m(r['live_bytes'])} slid ({_m(r['dense_bytes'])} whole, "
                f"{_m(r['wasted_bytes'])} wasted), {_m(r['black_bytes'])} allocated meanwhile")
        else:
            yield "info", "gc,reloc", gc + "Relocated: nothing, too little would be won"
        for text in self._heap_table(r):
            yield "info", "gc,heap", gc + text
        yield "debug", "gc,heap", gc + (
            f"Bytes: used {r['used_before']}->{r['used_after']}, live {r['live_bytes']}, "
            f"collected {r['collected_bytes']}, limit {r['limit_bytes']}")
        yield "info", "gc", gc + (
            f"Garbage Collection ({CAUSES[r['cause']]}) {self._used(r['used_before'])}->"
            f"{self._used(r['used_after'])}")

    # ---- parts ----------------------------------------------------------------------------

    def _uffd(self, tally: dict[str, int]) -> Iterator[str]:
        """What was counted since the end of the cycle before."""
        d = {name: value - self._tally[name] for name, value in tally.items()}
        self._tally = tally
        for name in ("move", "copy", "zeropage"):
            yield (f"{name.upper()}: {d[f'{name}_pages']} pages in {d[f'{name}_calls']} calls, "
                   f"{d[f'{name}_refused']} refused")
        yield (f"Faults: {d['faults']} ({d['fault_pages']} pages built, {d['fault_waits']} waited, "
               f"{d['hole_faults']} holes), {d['foreign_faults']} foreign")
        yield f"Recycled: {_m(d['recycled_bytes'])}"

    def _heap_table(self, r: dict[str, Any]) -> Iterator[str]:
        yield f"Max Capacity: {self._share(self._capacity)}"
        yield f"Soft Max Capacity: {self._share(r['limit_bytes'])}"
        used = (r["used_before"], r["used_mark_end"], r["used_relocate_start"], r["used_after"])
        live = r["live_bytes"]
        yield "           " + "".join(f"{title:>19}" for title in (
            "Mark Start", "Mark End", "Relocate Start", "Relocate End"))
        # Viewers take the size of the heap from the row of capacities, not from the lines above,
        # and want it, and free, before used.
        yield " Capacity: " + self._row(*[self._capacity] * 4)
        yield "     Free: " + self._row(*(max(0, self._capacity - value) for value in used))
        yield "     Used: " + self._row(*used)
        yield "     Live: " + self._row(None, live, live, live)
        early = max(0, used[1] - used[2])       # pinned arrays, which are not relocated
        yield "Reclaimed: " + self._row(None, None, early, r["collected_bytes"])

    def _row(self, *values: int | None) -> str:
        return "".join(f"{'-' if value is None else self._cell(value):>19}" for value in values)

    def _percent(self, nbytes: int) -> str:
        return f"({100 * nbytes / self._capacity:.0f}%)"

    def _share(self, nbytes: int) -> str:
        return _m(nbytes) + self._percent(nbytes)

    def _used(self, nbytes: int) -> str:
        """As `_share`, but 1 % at least: a viewer that has no table divides by it."""
        return f"{_m(nbytes)}({max(1, round(100 * nbytes / self._capacity))}%)"

    def _cell(self, nbytes: int) -> str:
        return f"{_m(nbytes)} {self._percent(nbytes)}"


def _m(nbytes: int) -> str:
    return f"{nbytes // MIB}M"


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.3f}ms"
