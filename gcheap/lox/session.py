"""Lox programs from Python: `run` for a whole program, `Session` for one that grows."""
from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any

from gcheap.errors import GcheapError, OptionError
from gcheap.lox._vm import NATIVES, Program, make_heap
from gcheap.lox.compiler import CompileError, compile_source
from gcheap.lox.names import Names, TooMany
from gcheap.options import BY_NAME, resolve
from gcheap.text import printable, shown

EXIT_OK = 0
EXIT_COMPILE_ERROR = 65
EXIT_RUNTIME_ERROR = 70
STOP_SECONDS = 0.05             # a thread may pass a cycle's pauses without looking: asked again
# Few cycles: a script's heap is its own.
DEFAULTS = {"capacity": "1GiB", "policy": "factor:4,minimum=128MiB"}


class Session:
    """A Lox program whose source comes in pieces, as lines of the REPL do.

    path             what reports of the heap call its main thread
    out, err         file descriptors for what it prints, and for errors
    args             strings (or bytes), what `args()` returns
    capacity         bytes of objects, an int or a string such as "1GiB"; None: GCHEAP_CAPACITY, or
                     else 1 GiB
    gc_stress        n: a full collection at every n-th allocation of each thread; 0: as
                     GCHEAP_COLLECT_EVERY has it, or else off.  An attribute too: what holds
    heap_options     of `gcheap.Heap`

    Where memory ends, `interpret` ends with that error, and what comes after may drop what fills
    the heap.  `begun` is false when it cannot hold what every program begins with, `args` among it:
    that was said on `err`, and nothing runs.

    It belongs to the thread that made it; on others all but `stop` raise GcheapError.  OptionError
    for bad options; OSError from `interpret` when output cannot be written (errors that cannot be
    written to `err` are lost).
    """

    def __init__(self, *, path: str = "<script>", args: Iterable[str | bytes] = (),
                 out: int = 1, err: int = 2, capacity: int | str | None = None, gc_stress: int = 0,
                 **heap_options: Any) -> None:
        self._err = err
        if gc_stress:
            if heap_options.get("collect_every") is not None:
                raise OptionError("gc_stress is the heap's collect_every: give one of them")
            heap_options["collect_every"] = gc_stress
        heap_options["capacity"] = capacity
        for name, ours in DEFAULTS.items():
            if heap_options.get(name) is None and BY_NAME[name].env not in os.environ:
                heap_options[name] = ours
        self.gc_stress = resolve(heap_options)["collect_every"]
        self.heap = make_heap(heap_options)
        self._program: Any = None
        self._ending = threading.Lock()     # stop() against the end
        try:
            self._program = Program(self.heap, out, err, printable(path).encode())
            self._globals = {name: number for number, name in enumerate(NATIVES)}
            self._sites = 0
            self.begun = self._program.begin(
                [arg if isinstance(arg, bytes) else os.fsencode(arg) for arg in args])
        except BaseException:
            self._shut()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def interpret(self, source: str | bytes) -> int:
        """Compiles and runs `source` (a str as UTF-8); returns the exit status 0, 65 or 70."""
        if isinstance(source, str):
            source = source.encode("utf-8", "surrogateescape")
        elif not isinstance(source, bytes):
            raise TypeError(f"source {shown(source)}: expected str or bytes")
        if self._program is None:
            raise GcheapError("this Lox program has ended")
        if not self.begun:
            return EXIT_RUNTIME_ERROR
        names = Names(self._globals, self._sites)
        try:
            codes = compile_source(source, names)
        except CompileError as error:
            self._complain(error.messages)
            return EXIT_COMPILE_ERROR
        except TooMany as error:
            self._complain(f"{error}\n".encode())
            return EXIT_COMPILE_ERROR
        try:
            return self._program.run(codes, names.new_globals, names.new_sites)
        finally:
            if self._program.loaded:
                self._globals |= names.new_globals
                self._sites += len(names.new_sites)

    def wait(self) -> int:
        """Waits for threads that the program spawned; 70 if one of them, ever, had a run-time
        error, else 0."""
        self._program.wait()
        return EXIT_RUNTIME_ERROR if self._program.failed else EXIT_OK

    def stop(self) -> None:
        """Ends what runs, at its next safepoint and for good.  Any thread may call it."""
        with self._ending:
            if self._program is not None:
                self._program.stop()

    def close(self) -> None:
        """Ends the program, after its threads have ended, and the heap.  Again: does nothing."""
        if self._program is not None:
            self._program.wait()
            self._shut()

    def _shut(self):
        program = self._program
        if program is not None:
            with self._ending:
                program.close()
                self._program = None
        self.heap.close()

    def _complain(self, messages):
        with suppress(OSError):         # as the VM: an error nobody hears is the same error
            while messages:
                messages = messages[os.write(self._err, messages):]


def run(source: str | bytes, *, path: str = "<script>", args: Iterable[str | bytes] = (),
        out: int = 1, err: int = 2, capacity: int | str | None = None, gc_stress: int = 0,
        **heap_options: Any) -> int:
    """Runs a Lox program on a heap of its own; returns the exit status.

    0: it ran.  65: compile errors, 70: a run-time error (in any thread), printed to `err`.
    `source` is str or bytes; `out` and `err` are file descriptors, written by native code without
    the GIL.  The others are those of `Session`.  Any thread may call it, and several at once.
    Ctrl-C ends the program at its next safepoint and raises KeyboardInterrupt.
    """
    sessions: list[Session] = []
    status: Future[int] = Future()
    stopped = threading.Event()

    def whole() -> int:
        with Session(path=path, args=args, out=out, err=err, capacity=capacity,
                     gc_stress=gc_stress, **heap_options) as session:
            sessions.append(session)
            # Looked at after that: whoever sets it goes through `sessions` afterwards.
            return EXIT_OK if stopped.is_set() else session.interpret(source) or session.wait()

    def keep() -> None:
        try:
            status.set_result(whole())
        except BaseException as error:
            status.set_exception(error)

    if threading.current_thread() is not threading.main_thread():
        return whole()
    # Signals are the main thread's, and a native loop sees none: it runs beside.
    beside = threading.Thread(target=keep, name="lox")
    try:
        beside.start()
        # Not join(): a Ctrl-C there makes CPython 3.11 take a thread that runs for one that ended.
        wait([status])
    except KeyboardInterrupt:
        stopped.set()
        while beside.ident is not None and not status.done():
            for session in sessions:
                session.stop()
            wait([status], STOP_SECONDS)
        raise
    beside.join()
    return status.result()
