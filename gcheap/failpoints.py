"""Stop, delay or refuse threads of the core at named points: how its races are tested.

Failpoints are process-wide and meant for tests of gcheap and of runtimes built on it.

    with failpoints.pause("flip.after") as point:
        heap.collect(wait=False)
        point.wait()                # the collector stands right after the flip
        ...                         # mutators fault on demand meanwhile
        point.release()
"""
from __future__ import annotations

import time

from gcheap.core import failpoint as _native

NAMES: tuple[str, ...] = _native.NAMES
_PAUSE, _DELAY, _ERRNO, _SHORT = 1, 2, 3, 4
_ALWAYS = 0xFFFFFFFF


class Failpoint:
    """One armed failpoint; a context manager that disarms it on exit."""

    def __init__(self, name: str, action: int, argument: int, times: int | None) -> None:
        if name not in NAMES:
            raise ValueError(f"unknown failpoint {name!r}; there are {', '.join(NAMES)}")
        if times is not None and times < 1:
            raise ValueError(f"times={times!r}: expected a positive number, or None for always")
        self.name = name
        self._index = NAMES.index(name)
        self._arguments = (action, argument, _ALWAYS if times is None else times)

    def __enter__(self) -> Failpoint:
        _native.arm(self._index, *self._arguments)
        return self

    def __exit__(self, *exc: object) -> None:
        _native.disarm(self._index)

    @property
    def hits(self) -> int:
        """How often the action has applied."""
        return _native.hits(self._index)

    def wait(self, timeout: float = 30.0) -> None:
        """Waits until a thread is stopped here.  Raises TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        # In slices, so that Ctrl-C is served.
        while not _native.wait_for_arrival(self._index, 50_000_000):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no thread reached failpoint {self.name!r} in {timeout} s")

    def release(self) -> None:
        """Lets the threads that are stopped here go on; those to come still stop."""
        _native.release(self._index)


def pause(name: str, times: int | None = None) -> Failpoint:
    """Stops the next `times` threads that reach `name` (None: all) until released."""
    return Failpoint(name, _PAUSE, 0, times)


def delay(name: str, ns: int, times: int | None = None) -> Failpoint:
    """Delays threads that reach `name` by `ns` nanoseconds."""
    return Failpoint(name, _DELAY, ns, times)


def fail(name: str, errno: int, times: int | None = 1) -> Failpoint:
    """Makes the ioctl at a `place.*` point answer `errno` without calling the kernel."""
    return Failpoint(name, _ERRNO, errno, times)


def short(name: str, pages: int, times: int | None = 1) -> Failpoint:
    """Makes the ioctl at a `place.*` point place at most `pages` pages (EAGAIN follows)."""
    return Failpoint(name, _SHORT, pages, times)
