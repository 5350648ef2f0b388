"""The end of an interpreter while a thread is at each failpoint: its own status, and not a word.

By default a collector's thread is stopped for good, and let go by the interpreter's exit; where
that would stop the interpreter, because Python threads come by, the thread is delayed across the
exit.  `make soak` tries the other endings, and the other backends and fault modes.
"""
from __future__ import annotations

import pytest
from endings import SCRIPT, activity_of
from support import kernel_offers

from gcheap import failpoint_table
from gcheap.core._testing_sanitizer import sanitizer

# marker.stop wants a fork that comes while two threads mark; test_mark_threads.py makes one.
POINTS = [point for point in failpoint_table.POINTS if point.name != "marker.stop"]
HANDLER = ("handler.", "uffd.wake", "uffd.poll", "uffd.read", "thread.server", "thread.bell")
COPY = ("place.copy", "compactor.copy", "mutator.copy", "large.copy", "memory.release")
# What no cycle of that kind passes.
NOT_STW = ("mark.concurrent", "mark.traced", "mark.end", "weak.read", "cycle.stay",
           "cycle.abandoned", "register.", "unregister.before", "mutator.fault", "mutator.claimed",
           "mutator.assembled", "mutator.placing", "mutator.arrived", "mutator.placed",
           "mutator.wait", "unit.sleep", "recycle.pop", "log.", "place.", "compactor.move",
           "compactor.copy", "mutator.move", "mutator.copy", "large.move", "large.copy", "uffd.",
           "handler.", "memory.stray", "thread.server", "thread.bell", "fork.", "flip.ahead")


def usual(name: str) -> tuple[str, str]:
    """The backend and fault mode that take a thread to a point."""
    return ("copy" if name in COPY else "move", "handler" if name.startswith(HANDLER) else "sigbus")


def others() -> list[tuple[str, str, str, str]]:
    found = []
    for point in POINTS:
        backend, faults = usual(point.name)
        pairs = {(backend, faults), (backend, "handler")}
        if point.name not in COPY and not point.name.endswith(".move") and point.name not in (
                "recycle.pop", "memory.stray", "place.unreported"):
            pairs.add(("copy", faults))
        if point.name not in COPY and not point.name.startswith(NOT_STW):
            pairs.add(("stw", "sigbus"))
        for pair in sorted(pairs):
            # Under stw the sweep is inside the pause, for which a thread that allocates pinned
            # arrays in Python waits with the GIL.
            by_python = point.gil or (point.name, pair[0]) == ("sweep.gap", "stw")
            for ending in ("exit", "_exit", "pause"):
                if ending != "pause" or not by_python:
                    found.append((point.name, *pair, ending))
    return found


def end(zygote, name: str, backend: str, faults: str, ending: str) -> None:
    if sanitizer() == "thread" and name in ("fork.child", "fork.start"):
        pytest.skip("thread sanitizer: it ends a child that starts a thread")
    reason = kernel_offers(backend)
    if reason is not None:
        pytest.skip(f"no backend {backend} here: {reason}")
    assert zygote.run(SCRIPT, name, ending, backend, faults, activity_of(name)) == (7, "", "")


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_an_interpreter_ends_while_a_thread_is_at(zygote, point):
    end(zygote, point.name, *usual(point.name), "exit" if point.gil else "pause")


@pytest.mark.soak("every ending of every mode takes minutes")
@pytest.mark.parametrize("case", others(), ids="-".join)
def test_an_interpreter_ends_in_every_way_and_mode(zygote, case):
    end(zygote, *case)
