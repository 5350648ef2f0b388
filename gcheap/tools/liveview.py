"""The live view of a stress run: the heap's page map as it moves, pauses, counters.

On the terminal's alternate screen, where a frame is written over the one before; elsewhere it would
have to be erased first, and flicker.  Drawn by the supervising thread at every glance
(`gcheap.stress.Progress`), about ten times a second; no thread of its own.  Drawing takes processor
time from the mutators, so figures of a run that was watched are worse than those of one that was
not.

Both halves stand one below the other, so that one sees them change roles: live objects of the one
appear, dense, in the other.  Between two cycles the old half shows how full its units were, and the
current one who placed each.
"""
import os
from collections import deque

import numpy as np
from rich.console import Group
from rich.live import Live
from rich.text import Text

from gcheap.pagemap import KINDS, SPACES, grouped, is_relocating, kinds
from gcheap.text import printable
from gcheap.tools.progress import Progress
from gcheap.tools.tables import new_table
from gcheap.units import NOTHING, duration, number, percent, size

LEAST_WIDTH, LEAST_HEIGHT = 80, 24      # of a terminal that it fits
OTHER_LINES = 15                        # all but the map
PAUSES = 6
SHADES = " ░▒▓█", " .:%#"               # of how full a unit of the old half was
# kind -> (glyph, glyph in ASCII, style, name in the legend)
LOOKS = {
    "empty": ("·", " ", "bright_black", None),
    "used": ("▒", "u", "white", "in use"),
    "unclaimed": ("░", "-", "color(173)", "unclaimed"),
    "in hand": ("▞", "h", "bright_yellow", "being built"),
    "compactor": ("█", "C", "color(32)", "placed by compactor"),
    "mutator": ("▓", "M", "color(208)", "placed by mutator"),
    "source": ("■", "s", "color(245)", "still read"),
    "evacuated": ("□", "e", "color(78)", "evacuated"),
    "taken": (".", ".", "color(65)", "recycled or gone"),
}
PHASES = {"mark_start": "mark start", "mark_end": "mark end", "relocate_start": "relocate start"}


class LiveView(Progress):
    """As Progress, on a terminal that is large enough: see `obstacle`."""

    def __init__(self, console, workload):
        super().__init__(console, workload)
        self._live = None
        self._pauses = deque(maxlen=PAUSES)
        self._last_start = 0
        self._pauses_of = -1            # the cycle count they were read at
        self._extent = 1                # units of the longest half so far
        self._ascii = not _prints(console, "".join(look[0] for look in LOOKS.values()) + SHADES[0])

    @staticmethod
    def obstacle(console):
        """Why `console` cannot show it, in a few words; None when it can."""
        if not console.is_terminal:
            return "standard error is no terminal"
        if console.is_dumb_terminal:
            return f"a terminal with TERM={os.environ.get('TERM')} has no second screen"
        try:                    # the console's own width is never less than what tables need
            columns, lines = os.get_terminal_size(console.file.fileno())
        except (OSError, ValueError):
            return "the terminal does not tell its size"
        if columns < LEAST_WIDTH or lines < LEAST_HEIGHT:
            return (f"the terminal is {columns} x {lines}, and it takes {LEAST_WIDTH} x "
                    f"{LEAST_HEIGHT}")
        return None

    def __enter__(self):
        self._live = Live(Text(f"{self._workload}: starting"), console=self._console,
                          auto_refresh=False, screen=True)
        self._live.start()
        return self

    def __exit__(self, *exception):
        self._live.stop()

    def __call__(self, glance):
        self.note_rate(glance)
        heap = glance.heap
        if glance.cycles != self._pauses_of:    # a ring of 16,384 is not read for nothing
            self._pauses_of = glance.cycles
            self._note_pauses(heap.pauses())
        self._live.update(self._picture(glance, heap.page_map(), heap.stats()), refresh=True)

    # ---- the picture -----------------------------------------------------------------------

    def _picture(self, glance, rows, stats):
        width = self._console.size.width
        lines = max(2, (self._console.size.height - OTHER_LINES) // 2)
        title = Text.assemble((printable(self._workload), "bold"), f"  {glance.phase}  ",
                              self.facts(glance))
        title.truncate(width)
        small = rows[rows["space"] == SPACES.index("small")]
        self._extent = max([self._extent, *(int(part["unit"][-1]) + 1 for half in (0, 1)
                                            if len(part := small[small["half"] == half]))])
        per_cell = -(-self._extent // (width * lines))
        parts = [title]
        for half in (0, 1):
            parts += self._half(small[small["half"] == half], half, is_relocating(rows), per_cell,
                                width)
        return Group(*parts, self._legend(width), Text(), self._facts_table(stats, rows, width))

    def _half(self, rows, half, under_way, per_cell, width):
        """One half: a line that names its role, and its cells."""
        current = bool(len(rows)) and bool(rows["current"][0])
        role = ("to-space" if under_way else "in use") if current else (
            "from-space" if under_way else "free; how full it was before the last slide")
        head = Text(f"half {half}: {role if len(rows) else 'free'}", "bold" if current else "")
        cells = -(-self._extent // per_cell)
        line = Text(no_wrap=True, overflow="crop")
        if len(rows) and not current and not under_way:
            self._shade(line, rows, per_cell)
        else:
            self._glyphs(line, grouped(kinds(rows), per_cell))
        line.append(LOOKS["empty"][self._ascii] * (cells - len(line)), LOOKS["empty"][2])
        return [head, *line.divide(range(width, cells, width))]

    def _glyphs(self, line, found):
        names = list(KINDS)
        edges = np.flatnonzero(np.diff(found)) + 1
        for run in np.split(found, edges):
            if len(run):
                look = LOOKS[names[run[0]]]
                line.append(look[self._ascii] * len(run), look[2])

    def _shade(self, line, rows, per_cell):
        shades = SHADES[self._ascii]
        most = max(1, int(rows["live_bytes"].max()))
        starts = np.arange(0, len(rows), per_cell)
        live = np.add.reduceat(np.maximum(rows["live_bytes"], 0).astype(float), starts)
        share = live / (np.diff(np.append(starts, len(rows))) * most)
        steps = np.ceil(np.clip(share, 0, 1) * (len(shades) - 1)).astype(int)
        line.append("".join(shades[step] for step in steps), "color(67)")

    def _legend(self, width):
        lines = [Text()]
        for glyph, plain, style, name in LOOKS.values():
            if name is None:
                continue
            item = Text.assemble((plain if self._ascii else glyph, style),
                                 (f" {name}   ", "bright_black"))
            if len(lines[-1]) + len(item) - 3 > width:
                lines.append(Text())
            lines[-1].append_text(item)
        return Group(*lines)

    # ---- pauses and counters -----------------------------------------------------------------

    def _note_pauses(self, pauses):
        for row in pauses[pauses["start_ns"] > self._last_start][-PAUSES:]:
            self._pauses.append(row)
            self._last_start = int(row["start_ns"])

    def _facts_table(self, stats, rows, width):
        placed = kinds(rows)
        by = {name: int((placed == list(KINDS).index(name)).sum())
              for name in ("compactor", "mutator")}
        both = by["compactor"] + by["mutator"]
        # Table and counters together are 79 columns wide.
        counters = [
            ("used / limit", f"{size(stats.used_bytes)} / {size(stats.limit_bytes)}"),
            ("live", size(stats.live_bytes)),
            ("by mutators", f"{percent(by['mutator'] / both if both else None)} of "
                            f"{number(both)} units"),
            ("faults / waits", f"{number(stats.faults)} / {number(stats.fault_waits)}"),
            ("stalls", f"{number(stats.stalls)}, {duration(stats.stall_ns)}"),
            ("recycled", f"{percent(stats.recycled_bytes / stats.moved_bytes)} of "
                         f"{size(stats.moved_bytes)}" if stats.moved_bytes else NOTHING),
        ]
        table = new_table()
        for header, side in (("pause", "left"), ("cycle", "right"), ("reach", "right"),
                             ("work", "right"), ("", "left"), ("", "right")):
            table.add_column(header, justify=side, no_wrap=True)
        latest = list(self._pauses)[::-1]
        for at, (name, value) in enumerate(counters):
            row = latest[at] if at < len(latest) else None
            cells = [""] * 4 if row is None else [
                PHASES.get(str(row["phase"]), str(row["phase"])), number(int(row["cycle"])),
                duration(int(row["reach_ns"])), duration(int(row["work_ns"]))]
            table.add_row(*cells, " " + name, value)
        return table


def _prints(console, glyphs):
    """Whether what the console writes to has these characters."""
    try:
        glyphs.encode(console.encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True
