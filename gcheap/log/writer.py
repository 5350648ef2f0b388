"""The thread that writes a heap's log, and who makes sure of the last lines.

    collector, mutators    records, in native rings             (gcheap.core.events)
    this thread            sleeps on the heap's word `progress`, takes what is new, writes lines
    close()                the collector has stopped: the rest is written, the outputs are closed
    the interpreter's end  the rest so far is written, before daemon threads stand still

So no pause, collector or mutator waits for a log, whatever its output does; only close() and the
interpreter's end do.  A log that falls more than 16,384 records of a kind behind says how many it
has lost.

A forked child has a thread of its own for each heap that goes on; its lines carry its process, and
a file whose name has %p in it is another one.
"""
from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import Any

from gcheap.clock import clock_ns
from gcheap.errors import OptionError
from gcheap.face import observers
from gcheap.face.records import Records, facts, is_open
from gcheap.log import outputs
from gcheap.log.gctrace import OneLiner
from gcheap.log.lines import Line, Narrator
from gcheap.log.selection import LogOutput, parse_log, path_of
from gcheap.options import label_of

SLICE_NS = 200_000_000          # how late a line may be that no cycle brings along
TAGS_WIDTH = len("gc,phases   ")       # HotSpot's width of the tags

_sessions: weakref.WeakKeyDictionary[Any, LogSession] = weakref.WeakKeyDictionary()


class _Sink:
    """One output, and what it shows."""

    def __init__(self, output: LogOutput, about: dict[str, Any], label: str) -> None:
        self._output = output
        self._target = output.target
        self._stream = outputs.open_output(path_of(output.target, about["heap"]), label)
        self._about = about
        self._last_ns = 0

    def write(self, lines: list[tuple[int, Line]]) -> None:
        text = "".join(
            f"{self._decorated(at, level, tags)} {line}\n"
            for at, (level, tags, line) in lines if self._output.shows(level, tags))
        if text:
            with suppress(OSError):     # a full disk, a pipe without a reader: nobody to tell
                self._stream.write(text)

    def _decorated(self, at: int, level: str, tags: str) -> str:
        about, wanted = self._about, self._output.decorators
        # Threads record side by side: a line may be some microseconds older than the one before.
        self._last_ns = at = max(at, self._last_ns)
        parts = {"uptime": f"{(at - about['born_ns']) / 1e9:.3f}s", "level": level,
                 "tags": f"{tags:<{TAGS_WIDTH}}"}
        if "time" in wanted:
            wall = time.time() - (clock_ns() - at) / 1e9
            parts["time"] = (time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(wall))
                             + f".{int(wall % 1 * 1000):03d}" + time.strftime("%z"))
        if "pid" in wanted or about["child"]:
            parts["pid"] = str(about["pid"])
        # A file of a heap's own says nothing of others, and viewers do not read this mark.
        if "heap" in wanted or (about["heap"] > 1 and "%h" not in self._target):
            parts["heap"] = f"heap {about['heap']}"
        order = ("time", "uptime", "pid", "heap", "level", "tags")
        return "".join(f"[{parts[name]}]" for name in order if name in parts and (
            name in wanted or name in ("pid", "heap")))

    def close(self) -> None:
        with suppress(OSError):
            self._stream.close()


class LogSession:
    """The log of one heap: its outputs, and gctrace lines when `trace` is set.

    OptionError when an output cannot be written; then there is nothing to end.
    """

    def __init__(self, core: Any, log: str, trace: bool, *, child: bool = False) -> None:
        self._lock = threading.RLock()
        self._done = False
        self._records = Records(core, not child)
        about = facts(core) | {"child": child}
        tally = self._records.tally()
        self._sinks: list[_Sink] = []
        label = label_of("log", log)
        try:
            for output in parse_log(log):
                self._sinks.append(_Sink(output, about, label))
        except BaseException:
            self._close()
            raise
        self._narrator = Narrator(about, tally)
        self._one_liner = OneLiner(about, tally) if trace else None
        self._lost = 0
        self._pid = os.getpid()
        self._show([(clock_ns(), line) for line in self._narrator.init()])
        self._thread = threading.Thread(target=self._run, name="gcheap-log", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._records.wait(SLICE_NS) and not self._done:
            self.flush()

    def flush(self) -> None:
        """Writes what was recorded until now."""
        with self._lock:
            if self._done:
                return
            lines: list[tuple[int, Line]] = []
            short: list[str] = []
            for at, kind, record in self._records.take():
                lines += [(at, line) for line in self._narrator.tell(kind, record)]
                if self._one_liner is not None:
                    line = self._one_liner.tell(kind, record)
                    short += [] if line is None else [line]
            if self._records.lost > self._lost:
                lines.append((clock_ns(),
                              self._narrator.lost(self._records.lost - self._lost)))
                self._lost = self._records.lost
            self._show(lines)
            if short:
                with suppress(OSError):
                    outputs.Stream(2).write("".join(f"{line}\n" for line in short))

    def end(self) -> None:
        """Writes the rest and closes the outputs.  The collector has stopped, or the interpreter
        ends."""
        if self._pid != os.getpid():    # the parent's; in a child its lock may be held for good
            return
        with self._lock:
            if self._done:
                return
            self.flush()
            self._done = True
            self._close()
        self._records.wake()
        if self._thread is not threading.current_thread() and not sys.is_finalizing():
            self._thread.join()

    def _show(self, lines: list[tuple[int, Line]]) -> None:
        for sink in self._sinks:
            sink.write(lines)

    def _close(self) -> None:
        for sink in self._sinks:
            sink.close()


def follow(core: Any, *, child: bool = False) -> None:
    """Gives a heap the log that its options name; OptionError when there is an output that cannot
    be written."""
    session = LogSession(core, core.options["log"], core.options["trace"] == "1", child=child)
    core.followers.append(session)
    _sessions[core] = session
    observers.end_at_exit(session)


def _in_child() -> None:
    """Heaps that go on in a forked child have logs of their own there."""
    outputs.keep_for_child()
    for core, session in list(_sessions.items()):
        core.followers.remove(session)
        del _sessions[core]
        if is_open(core):
            try:
                follow(core, child=True)
            except OptionError as error:        # no file for it: the child goes on without
                with suppress(OSError):
                    outputs.Stream(2).write(f"gcheap: {error}\n")


os.register_at_fork(after_in_child=_in_child)
