"""Live progress of a stress run: one moving line on a terminal, plain lines elsewhere, and on a
terminal that cannot move its cursor (TERM=dumb).

Drawn from the thread that supervises the run, about ten times a second; no thread of its
own, which would take time from the mutators that are being measured.
"""
import time

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from gcheap.units import duration, number

PLAIN_SECONDS = 2.0             # between two plain lines of the same phase


class Progress:
    """A context manager; call it with every glance at the run (`gcheap.stress.Progress`)."""

    def __init__(self, console, workload):
        self._console = console
        self._workload = workload
        self._bars = self._task = None
        self._phase = None
        self._next_line = 0.0
        self._last = None               # (time, operations) of the glance before
        self._rate = None

    def __enter__(self):
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bars = Bars(
                TextColumn("{task.fields[workload]}", style="bold"),
                TextColumn("{task.description}"), BarColumn(bar_width=20),
                TextColumn("{task.fields[facts]}"),
                console=self._console, auto_refresh=False, transient=True)
            self._bars.start()
            self._task = self._bars.add_task(
                "starting", total=None, workload=self._workload, facts="")
        return self

    def __exit__(self, *exception):
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, glance):
        self.note_rate(glance)
        running = glance.phase == "run"
        if self._bars is not None:
            self._bars.update(
                self._task, description=glance.phase, facts=self.facts(glance),
                total=glance.seconds if running else None, completed=glance.elapsed,
                refresh=True)
            return
        now = time.monotonic()
        kind = glance.phase.split()[0]
        if kind != self._phase or now >= self._next_line:
            self._phase = kind
            self._next_line = now + PLAIN_SECONDS
            self._console.print(Text(
                f"{self._workload}: {glance.phase} {self.facts(glance)}".rstrip()))

    def note_rate(self, glance):
        """Takes the speed since the glance before into account."""
        now, ops = time.monotonic(), glance.ops
        if self._last is not None and now > self._last[0]:
            rate = (ops - self._last[1]) / (now - self._last[0])
            # Smoothed over about a second of glances, so that the figure can be read.
            self._rate = rate if not self._rate else 0.9 * self._rate + 0.1 * rate
        self._last = (now, ops)

    def facts(self, glance):
        """Time, speed and counters in a line."""
        if not glance.ops:
            return ""
        facts = [f"{glance.elapsed:.0f} of {glance.seconds:g} s"]
        if self._rate is not None:
            facts.append(f"{number(self._rate)} ops/s")
        facts += [f"{number(glance.cycles)} cycles", f"{number(glance.faults)} faults"]
        if glance.last_pause_ns is not None:
            facts.append(f"last pause {duration(glance.last_pause_ns)}")
        return ", ".join(facts)
