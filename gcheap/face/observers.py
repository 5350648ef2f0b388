"""Who is told when a heap is made: the layers above, which the face does not know.

An observer gets the heap's HeapCore at the end of its creation, and may raise what its maker shall
see.  What it puts into `core.followers` has an `end()`, called once when the heap's collector has
stopped and before its memory goes; it must not refer to the heap's Python objects.
"""
from __future__ import annotations

import atexit
import itertools
import weakref
from collections.abc import Callable
from typing import Any

from gcheap.clock import clock_ns

BORN_NS = clock_ns()                    # of this import: what uptimes count from

on_made: list[Callable[[Any], None]] = []
numbers = itertools.count(1)            # of the heaps of this process and of those it came from
start_trace: Callable[[Any, Any], Any]  # gcheap.trace's: what Heap.trace returns

_at_exit: weakref.WeakSet[Any] = weakref.WeakSet()


def end_at_exit(follower: Any) -> None:
    """Has `follower.end()` called at the interpreter's end, while threads still run."""
    _at_exit.add(follower)


def _end() -> None:
    for follower in list(_at_exit):
        follower.end()


atexit.register(_end)
