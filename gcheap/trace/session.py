"""A trace under way: who reads the rings, what is kept, and the end.

    threads of the heap    events, in their rings                     (gcheap.core.trace)
    collector              records of cycles, phases, pauses          (gcheap.core.events)
    this thread            every tick: reads both, samples counters; keeps it all as it came
    stop()                 the rest is read, the file is written, whole or not at all

What the rings lose, and what comes after MOST_EVENTS, is counted, and the trace says it.
"""
from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Any, Self

from gcheap.clock import clock_ns
from gcheap.errors import OptionError
from gcheap.face import observers
from gcheap.face.records import Records, facts
from gcheap.face.tracing import EVENT, Rings
from gcheap.files import check_writable, whole_file
from gcheap.log.outputs import Stream
from gcheap.log.selection import path_of
from gcheap.text import printable, shown
from gcheap.trace import chrome, unwritten
from gcheap.trace.target import format_of
from gcheap.trace.timeline import Timeline

TICK_NS = 10_000_000
RECORDS_EVERY = 20              # ticks
MOST_EVENTS = 8 << 20           # of 32 bytes


def _writer(path: str, label: str) -> Any:
    """The module that writes such a file; OptionError when it cannot be there."""
    if format_of(path, label) == "json":
        return chrome
    try:
        from gcheap.trace import perfetto
    except ImportError as error:
        raise OptionError(f"{label}={shown(path)}: needs the package perfetto ({error}): "
                          "pip install 'gcheap[trace]', or give a name that ends in .json"
                          ) from None
    return perfetto


class TraceSession:
    """A trace of one heap; see `Heap.trace`.  As a context manager it stops at the end.  Any thread
    may stop it."""

    def __init__(self, core: Any, path: str | os.PathLike[str], label: str) -> None:
        name = os.fsdecode(path)
        self._writer = _writer(name, label)
        about = facts(core)
        self.path = path_of(name, about["heap"])
        try:
            check_writable(self.path)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise OptionError(f"{label}: cannot write {shown(self.path)}: {why}") from error
        self._lock = threading.RLock()
        self._records = Records(core, False)
        self._rings = Rings(core)
        self._timeline = Timeline(about, EVENT, MOST_EVENTS, clock_ns())
        self._pid = os.getpid()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="gcheap-trace", daemon=True)
        core.followers.append(self)
        observers.end_at_exit(self)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the trace and writes its file, whole or not at all; OSError when that fails.  Does
        nothing the second time, and in a forked child, which is not traced."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            self._rings.stop()
            self._rings.end()
        if self._thread is not threading.current_thread() and not sys.is_finalizing():
            self._thread.join()
        with self._lock:
            self._look()
            self._read(last=True)
            timeline, self._timeline = self._timeline, None
        timeline.end_ns = clock_ns()
        with whole_file(self.path) as stream:
            self._writer.write(timeline, stream)

    def end(self) -> None:
        """The heap or the interpreter ends: as `stop`, but a file that cannot be written is a line
        on standard error, and in `unwritten`."""
        try:
            self.stop()
        except OSError as error:
            unwritten.append(self.path)
            with suppress(OSError):
                Stream(2).write(f"gcheap: cannot write the trace {printable(self.path)}: "
                                f"{error.strerror or error}\n")

    def _run(self) -> None:
        ticks = 0
        while self._rings.wait(TICK_NS):
            with self._lock:
                if self._stopped:
                    return
                self._look()
                self._timeline.add_events(self._rings.drain())
                ticks += 1
                if ticks % RECORDS_EVERY == 0:
                    self._timeline.add_records(self._records.take(), self._records.lost)

    def _read(self, last: bool) -> None:
        self._timeline.add_events(self._rings.drain(last))
        self._timeline.add_records(self._records.take(), self._records.lost)

    def _look(self) -> None:
        used, live, pool = self._records.state()
        self._timeline.add_sample(clock_ns(), used, live, resident(), pool)


def resident() -> int:
    """Resident bytes of this process."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
