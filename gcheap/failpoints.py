"""Stop, delay or refuse threads of the core at named points: how its races are tested.

Failpoints are process-wide and meant for tests of gcheap and of runtimes built on it.

    with failpoints.pause("flip.after") as point:
        heap.collect(wait=False)
        point.wait()                # the collector stands right after the flip
        ...                         # mutators fault on demand meanwhile
        point.release()

`explore` delays threads at random at every point, by a seed that can be replayed.  The environment
variable GCHEAP_FAILPOINTS does the same from outside (gcheap/failpoint_settings.py).  What each
point is for: docs/reference/failpoints.md.
"""
from __future__ import annotations

import atexit
import errno as _errno
import secrets
import time

from gcheap.core import failpoint as _native
from gcheap.errors import GcheapError
from gcheap.failpoint_table import BY_NAME
from gcheap.timeouts import checked_timeout

NAMES: tuple[str, ...] = _native.NAMES
_PAUSE, _DELAY, _ERRNO, _SHORT = 1, 2, 3, 4
_ALWAYS = 0xFFFFFFFF
_SHARE_ONE = 1 << 32
LONGEST_NS = 3_600 * 10**9
MOST_ERRNO = 133                    # of Linux
MOST_SEED = 2**64 - 1


def _number(what: str, value: int, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{what}={value!r}: expected a whole number from {least} to {most:,}")
    return value


def _check_built() -> None:
    if not _native.BUILT:
        raise GcheapError("this copy of gcheap was built with GCHEAP_NO_FAILPOINTS=1: it has no "
                          "failpoints; build it without")


def _let_go() -> None:
    """At the interpreter's exit: a thread that stands somewhere for good would be waited for."""
    for index in range(len(NAMES)):
        _native.disarm(index)
    _native.stop_exploring()


atexit.register(_let_go)


class Failpoint:
    """One failpoint and what happens there; a context manager that arms it, and disarms it on
    exit.  Entering raises ValueError when the point is armed already."""

    def __init__(self, name: str, action: int, low: int, times: int | None, after: int,
                 span: int = 0, seed: int = 0) -> None:
        if name not in BY_NAME:
            raise ValueError(f"unknown failpoint {name!r}; there are {', '.join(NAMES)}")
        point, wanted = BY_NAME[name], ("", "pause", "delay", "errno", "short")[action]
        if wanted not in point.actions:
            raise ValueError(f"failpoint {name!r} takes {', '.join(point.actions)}, not {wanted}")
        if times is not None and times < 1:
            raise ValueError(f"times={times!r}: expected a positive number, or None for always")
        self.name = name
        self._index = NAMES.index(name)
        self._arguments = (
            action, low, span, seed,
            _ALWAYS if times is None else _number("times", times, 1, _ALWAYS - 1),
            _number("after", after, 1, 2**63) - 1)

    def __repr__(self) -> str:
        return f"Failpoint({self.name!r}, {self._arguments})"

    def __enter__(self) -> Failpoint:
        _check_built()
        _native.arm(self._index, *self._arguments)
        return self

    def __exit__(self, *exc: object) -> None:
        _native.disarm(self._index)

    @property
    def arrivals(self) -> int:
        """How many threads have come by since it was armed."""
        return _native.arrivals(self._index)

    @property
    def hits(self) -> int:
        """How often the action has applied."""
        return _native.hits(self._index)

    def wait(self, timeout: float = 30.0) -> None:
        """Waits until a thread is stopped here.  Raises TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + checked_timeout(timeout, "wait")
        # In slices, so that Ctrl-C is served.
        while not _native.wait_for_arrival(self._index, 50_000_000):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no thread reached failpoint {self.name!r} in {timeout} s")

    def release(self) -> None:
        """Lets the threads that are stopped here go on; those to come still stop."""
        _native.release(self._index)


def pause(name: str, times: int | None = None, *, after: int = 1) -> Failpoint:
    """Stops the next `times` threads that reach `name` (None: all) until released.

    after   the first arrival (from 1) that is stopped; the same below
    """
    return Failpoint(name, _PAUSE, 0, times, after)


def delay(name: str, ns: int, times: int | None = None, *, after: int = 1,
          most_ns: int | None = None, seed: int = 0) -> Failpoint:
    """Delays threads that reach `name` by `ns` nanoseconds, or by `ns` to `most_ns`: the same
    `seed` gives the n-th arrival the same delay."""
    _number("ns", ns, 0, LONGEST_NS)
    most = ns if most_ns is None else _number("most_ns", most_ns, ns, LONGEST_NS)
    return Failpoint(name, _DELAY, ns, times, after, most - ns,
                     _number("seed", seed, 0, MOST_SEED))


def fail(name: str, errno: int, times: int | None = 1, *, after: int = 1) -> Failpoint:
    """Makes the system call at `name` answer `errno` without calling the kernel."""
    if errno not in _errno.errorcode or errno > MOST_ERRNO:
        raise ValueError(f"errno={errno!r}: expected an errno of this system")
    return Failpoint(name, _ERRNO, errno, times, after)


def short(name: str, pages: int, times: int | None = 1, *, after: int = 1) -> Failpoint:
    """Makes the ioctl at `name` place at most `pages` pages (EAGAIN follows)."""
    return Failpoint(name, _SHORT, _number("pages", pages, 1, 2**32), times, after)


class explore:
    """Delays threads at random at every point that they pass; a context manager.

    seed    decides everything; None: a fresh one, which `seed` then is
    ns      the longest delay, in nanoseconds
    share   of the arrivals that are delayed, 0 < share <= 1; half of them only offer the processor
            to others

    What happens at the n-th arrival at a point is a function of the seed, the point and n, in one
    version of gcheap; which thread that is the machine decides.  An exception that leaves the block
    carries the seed as a note.
    """

    def __init__(self, seed: int | None = None, *, ns: int = 200_000, share: float = 0.1) -> None:
        if seed is None:
            seed = secrets.randbits(32)
        self.seed = _number("seed", seed, 0, MOST_SEED)
        self.ns = _number("ns", ns, 1, LONGEST_NS)
        if not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ValueError(f"share={share!r}: expected a number above 0, at most 1")
        self.share = share
        self._arguments = (seed, max(1, round(share * _SHARE_ONE)), ns)

    def __repr__(self) -> str:
        return f"failpoints.explore({self.seed}, ns={self.ns}, share={self.share})"

    def __enter__(self) -> explore:
        _check_built()
        _native.explore(*self._arguments)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _native.stop_exploring()
        if error is not None:
            error.add_note(f"the schedule: {self!r}")

    def visited(self) -> dict[str, tuple[int, int]]:
        """Arrivals, and nanoseconds of all delays decided, for each point that was passed; until
        the next exploration."""
        found = {name: _native.explored_at(index) for index, name in enumerate(NAMES)}
        return {name: counts for name, counts in found.items() if counts[0]}

    def decision(self, name: str, arrival: int) -> int | None:
        """Nanoseconds of the delay at arrival number `arrival` (from 0) at a point; 0: the
        processor is offered to others, None: nothing."""
        ns = _native.decision(*self._arguments, NAMES.index(name), arrival)
        return None if ns < 0 else ns
