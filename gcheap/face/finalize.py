"""Finalizers: a callback for the death of a heap object, as `weakref.finalize` has it.

The collector thread only clears weak cells and, after the cycle, bumps a futex word.  A daemon
thread of the heap, started with its first finalizer, sleeps on that word without the GIL, asks
which cells were cleared, and calls their callbacks: outside any pause, with no lock of the
heap held.

    alive --cell cleared, the heap's thread--> run          each by one atomic pop from `_alive`:
          --f(), any thread------------------> run          whoever gets the entry acts on it,
          --detach()-------------------------> dropped      nobody else does
          --close(), heap gone, exit---------> run

`_alive` is global, as in the weakref module: a finalizer lives until it has run, whether or not
anybody holds it.  It refers to its heap only weakly, unless the callback's arguments do.
"""
from __future__ import annotations

import atexit as _atexit
import itertools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from gcheap.face.ref import Ref
from gcheap.face.weakref import Notices, run_unraisable
from gcheap.text import shown

EXIT_PATIENCE = 1.0             # seconds that the exit waits for a callback in progress

_serial = itertools.count()
_alive: dict[Finalizer, _Call] = {}
_services: weakref.WeakSet[_Service] = weakref.WeakSet()
# Of a heap's one service, and of that's one thread.  Reentrant, and nothing is made while it is
# held: a signal or garbage collection may run what asks for a finalizer.
_making = threading.RLock()


class _Call:
    """What a finalizer that has not run yet will call."""

    __slots__ = ("args", "atexit", "cell", "fn", "kwargs", "serial", "service")

    def __init__(self, service: _Service, cell: int, fn: Callable[..., Any],
                 args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.service, self.cell, self.fn, self.args, self.kwargs = service, cell, fn, args, kwargs
        self.atexit = True
        self.serial = next(_serial)


class Finalizer:
    """A callback for an object's death, made by `Heap.finalize`.

    Has the interface of `weakref.finalize`: calling it runs the callback now, unless it has run
    or was detached; `detach`, `peek`, `alive`, `atexit`.
    """

    __slots__ = ("__weakref__",)

    def __call__(self) -> Any:
        """Runs the callback and returns its result; None if it is not alive any more."""
        call = _take(self)
        if call is None:
            return None
        call.service.notices.count()
        return call.fn(*call.args, **call.kwargs)

    def detach(self) -> tuple[Ref, Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None:
        """If alive, makes it dead, without a call, and returns (ref, fn, args, kwargs).  None if
        it was not alive, or its object has died.  Needs an attached thread."""
        found = self.peek()
        if found is None or _take(self) is None:
            return None
        return found

    def peek(self) -> tuple[Ref, Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None:
        """(ref, fn, args, kwargs) if alive; None otherwise, or if the object has died.  Needs an
        attached thread."""
        call = _alive.get(self)
        if call is None:
            return None
        ref = call.service.read(call.cell)
        return None if ref is None else (ref, call.fn, call.args, call.kwargs)

    @property
    def alive(self) -> bool:
        """Whether the callback is still to run."""
        return self in _alive

    @property
    def atexit(self) -> bool:
        """Whether the callback runs at the interpreter's exit if it is alive then."""
        call = _alive.get(self)
        return call is not None and call.atexit

    @atexit.setter
    def atexit(self, value: bool) -> None:
        call = _alive.get(self)
        if call is not None:
            call.atexit = bool(value)

    def __repr__(self) -> str:
        call = _alive.get(self)
        state = "dead" if call is None else f"for {call.fn!r}"
        return f"<gcheap.Finalizer {state}>"


def _take(finalizer: Finalizer) -> _Call | None:
    """The call, for the one caller that makes it."""
    call = _alive.pop(finalizer, None)
    if call is not None:
        call.service.forget(call.cell)
    return call


class _Service:
    """One heap's finalizers: its cells, and the thread that runs callbacks."""

    def __init__(self, core: Any) -> None:
        self.core = weakref.ref(core, self._heap_gone)
        self.notices = Notices(core)
        self.by_cell: dict[int, Finalizer] = {}
        self.thread: threading.Thread | None = None
        _services.add(self)

    def register(self, core: Any, ref: Ref, fn: Callable[..., Any], args: tuple[Any, ...],
                 kwargs: dict[str, Any]) -> Finalizer:
        cell = self.notices.watch(core, ref)
        finalizer = Finalizer()
        _alive[finalizer] = _Call(self, cell, fn, args, kwargs)
        self.by_cell[cell] = finalizer
        if self.thread is None:
            self.start(None)
        return finalizer

    def start(self, before: threading.Thread | None) -> None:
        """Starts the thread that follows `before`, unless somebody has done so meanwhile."""
        thread = threading.Thread(target=self._serve, name="gcheap-finalize", daemon=True)
        with _making:
            if self.thread is not before:
                return
            self.thread = thread
        thread.start()

    def read(self, cell: int) -> Ref | None:
        core = self.core()
        return None if core is None else self.notices.read(core, cell)

    def forget(self, cell: int) -> None:
        # In this order: the cell may be somebody else's as soon as it is dropped.
        self.by_cell.pop(cell, None)
        self.notices.drop(cell)

    def _serve(self) -> None:
        """The daemon thread.  It holds no reference to the heap."""
        self.notices.begin_anew()
        self._run_told(list(self.by_cell))      # in a child: what the parent's thread was told of
        more = True
        while more:
            seen = self.notices.event()
            while cells := self.notices.take():
                self._run_told(cells)
            more = self.notices.wait(seen)

    def _run_told(self, cells: list[int]) -> None:
        for cell in cells:
            finalizer = self.by_cell.get(cell)
            # If that died and another took its cell meanwhile, it was not the one told.
            if finalizer is not None and self.notices.told(cell):
                _run(finalizer)
            del finalizer

    def end(self) -> None:
        """Every object of the heap has died: runs what is left, newest first, in this thread."""
        self.notices.stop()
        for finalizer in sorted(self.by_cell.values(), key=_age):
            _run(finalizer)

    def _heap_gone(self, _: object) -> None:
        self.end()


def _age(finalizer: Finalizer) -> int:
    call = _alive.get(finalizer)
    return 0 if call is None else -call.serial


def _run(finalizer: Finalizer) -> None:
    call = _take(finalizer)
    if call is not None:
        call.service.notices.count()
        run_unraisable(call.fn, call.args, call.kwargs)


def finalize(core: Any, ref: Ref, fn: Callable[..., Any], args: tuple[Any, ...],
             kwargs: dict[str, Any]) -> Finalizer:
    """See `Heap.finalize`."""
    if not callable(fn):
        raise TypeError(f"finalize: expected a callable, not {shown(fn)}")
    if not isinstance(ref, Ref):
        raise TypeError(f"finalize: expected a Ref, not {shown(ref)}")
    if core.finalizers is None:
        service = _Service(core)
        with _making:
            if core.finalizers is None:
                core.finalizers = service
    return core.finalizers.register(core, ref, fn, args, kwargs)


def _at_exit() -> None:
    """Runs what wants to run at exit, newest first, as weakref.finalize does, and ends the
    threads."""
    for finalizer in sorted(_alive, key=_age):
        if finalizer.atexit:
            _run(finalizer)
    _alive.clear()                      # what dies with the interpreter is not told
    for service in list(_services):
        service.notices.stop()
        if service.thread is not None:
            service.thread.join(EXIT_PATIENCE)


def _in_child() -> None:
    """The finalizers of a heap that is the parent's alone are its parent's; a heap that goes on
    in the child needs a thread again, unless one of its callbacks has forked."""
    global _making
    _making = threading.RLock()         # another thread may have held it
    for finalizer, call in list(_alive.items()):
        if call.service.notices.closed():
            del _alive[finalizer]
    for service in list(_services):
        if service.notices.closed():
            _services.discard(service)
        elif service.thread not in (None, threading.current_thread()):
            service.start(service.thread)


_atexit.register(_at_exit)
os.register_at_fork(after_in_child=_in_child)
