"""What a report draws of one run over time: memory, cycles with their phases, pauses.

A phase's place follows from the records: a cycle's marking begins with its Pause Mark Start (or
its only pause, under stw), clearing weak references and planning follow it without a break, and
relocation begins where the flip's pause has reached all mutators.
"""
from __future__ import annotations

from dataclasses import dataclass

from gcheap.report.svg import INK

PHASES = ("mark", "weak", "plan", "relocate")
LANES = {"mark": "mark", "weak": "weak refs", "plan": "plan", "relocate": "relocate",
         "pause": "pauses"}
MEMORY = {"limit": "limit_bytes", "rss": "rss_bytes", "resident": "heap_resident_bytes",
          "used": "used_bytes", "live": "live_bytes", "recycled": "recycled_bytes"}
CLOSE_CYCLES = 5                # of the stretch that is shown close up
MIB = 2**20


@dataclass(frozen=True)
class Bar:
    """A phase of a cycle, or a pause; ns from the start of the measurement."""

    lane: str
    start_ns: float
    length_ns: float
    cycle: int


def bars(details):
    """Every phase and pause that the document has a record of."""
    cycles, pauses = details["cycles"]["columns"], details["pauses"]["columns"]
    began, flipped, found = {}, {}, []
    for cycle, phase, start, reach, work in zip(
            *(pauses[name] for name in ("cycle", "phase", "start_ns", "reach_ns", "work_ns")),
            strict=True):
        found.append(Bar("pause", start, reach + work, cycle))
        if phase in ("mark_start", "full"):
            began.setdefault(cycle, start + (reach if phase == "full" else 0))
        elif phase == "relocate_start":
            flipped[cycle] = start + reach
    for row in zip(*(cycles[name] for name in (
            "cycle", "start_ns", "mark_ns", "weak_ns", "plan_ns", "relocate_ns")), strict=True):
        cycle, start, mark, weak, plan, relocate = row
        at = began.get(cycle, start)
        found.append(Bar("mark", at, mark, cycle))
        at += mark
        if cycle in flipped:            # marking is timed from a little before its first pause
            at = min(at, flipped[cycle] - weak - plan)
        for lane, length in (("weak", weak), ("plan", plan)):
            found.append(Bar(lane, at, length, cycle))
            at += length
        if relocate:
            found.append(Bar("relocate", flipped.get(cycle, at), relocate, cycle))
    return found


def close_up(details):
    """(begin, end) in ns: some whole cycles around that of the page map, else the last ones."""
    columns = details["cycles"]["columns"]
    if not columns["cycle"]:
        return None
    page_map = details["page_map"]
    middle = len(columns["cycle"]) - 1
    if page_map and page_map["cycle"] in columns["cycle"]:
        middle = columns["cycle"].index(page_map["cycle"])
    first = max(0, min(middle - CLOSE_CYCLES // 2, len(columns["cycle"]) - CLOSE_CYCLES))
    last = min(first + CLOSE_CYCLES, len(columns["cycle"])) - 1
    begin, end = columns["start_ns"][first], columns["start_ns"][last] + columns["cycle_ns"][last]
    margin = 0.02 * max(end - begin, 1)
    return max(0, begin - margin), end + margin


def timeline(figure, narrow, run):
    """Memory, all cycles, and some of them close up."""
    details = run.details
    found = bars(details)
    close = close_up(details)
    figure.set_figheight((5.4 if narrow else 5.9) if close else 2.6)
    if close is None:
        _memory(figure.subplots(), run, narrow)
        return
    memory, whole, near = figure.subplots(
        3, 1, gridspec_kw={"height_ratios": (2.2, 1.35, 1.6)})
    _memory(memory, run, narrow)
    span = (0, details["end_ns"] - details["begin_ns"])
    _lanes(whole, found, span, 1e9, narrow)
    whole.axvspan(close[0] / 1e9, close[1] / 1e9, color=INK["muted"], alpha=0.14, linewidth=0)
    whole.set_title("Cycles and their phases")
    whole.set_xlabel("seconds of the run")
    memory.set_xlim(0, span[1] / 1e9)
    # Close up, time starts with the stretch, in ms.
    _lanes(near, [Bar(bar.lane, bar.start_ns - close[0], bar.length_ns, bar.cycle)
                  for bar in found], (0, close[1] - close[0]), 1e6, narrow)
    columns = details["cycles"]["columns"]
    for cycle, start in zip(columns["cycle"], columns["start_ns"], strict=True):
        if close[0] <= start <= close[1]:
            near.axvline((start - close[0]) / 1e6, color=INK["grid"], linewidth=0.8)
            near.text((start - close[0]) / 1e6, -0.62, f" {cycle}", fontsize=8.5,
                      color=INK["muted"], va="bottom")
    near.set_title("Close up (shaded above)", pad=12)
    near.set_xlabel(f"milliseconds from {close[0] / 1e9:.3f} s; numbers of cycles above")


def _lanes(axis, found, span, unit, narrow):
    """Phases as bars in lanes of their own; a bar is never thinner than what can be seen."""
    least = (span[1] - span[0]) * (0.004 if narrow else 0.0015)
    for at, lane in enumerate(LANES):
        rows = [(bar.start_ns / unit, max(bar.length_ns, least) / unit) for bar in found
                if bar.lane == lane and bar.start_ns + bar.length_ns >= span[0]
                and bar.start_ns <= span[1]]
        if rows:
            axis.broken_barh(rows, (at - 0.36, 0.72), facecolor=INK[f"phase-{lane}"], linewidth=0)
    axis.set_ylim(len(LANES) - 0.4, -0.6)
    axis.set_yticks(range(len(LANES)), list(LANES.values()))
    axis.set_xlim(span[0] / unit, span[1] / unit)
    axis.grid(False, axis="y")
    axis.tick_params(axis="y", length=0)


def _memory(axis, run, narrow):
    columns = run.details["series"]["columns"]
    at = [moment / 1e9 for moment in columns["at_ns"]]
    for name, column in MEMORY.items():
        values = [value / MIB for value in columns[column]]
        colour = INK[f"bytes-{name}"]
        if name == "limit":
            axis.plot(at, values, color=colour, linewidth=1.1, linestyle=(0, (4, 2)))
        elif name == "live":
            axis.plot(at, values, color=colour, linewidth=1.4, drawstyle="steps-post")
        elif name == "recycled":
            axis.fill_between(at, values, color=colour, alpha=0.55, linewidth=0)
        else:
            axis.plot(at, values, color=colour, linewidth=1.3)
    axis.set_ylim(bottom=0)
    axis.margins(x=0)
    axis.set_ylabel("MiB")
    axis.set_title("Memory")
    if not narrow:
        axis.yaxis.get_major_locator().set_params(nbins=5)
