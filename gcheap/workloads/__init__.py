"""Workloads of `gcheap stress`: a registry, open to plug-ins.

A workload is a `Workload`: a name, one line of text, and a function that makes a *session*
on a heap.  A session is what `runner.Run` drives, every call from the mutator's own thread:

    session.populate(mutator, index, recording)     build the live data; a failed allocation
                                                    sets recording.exhausted
    session.run(index)                              operations, until the run is stopped
    session.audit(index)                            check what the run left behind
    session.leave(index)                            give back what the mutator holds
    session.populated                               0 to 1, read from the supervising thread
    session.facts()                                 a dict that joins the result document

Another distribution adds a workload by an entry point in the group `gcheap.workloads` whose
name is the workload's and whose object is a `Workload`.  Importing this module imports no
native code; that happens when a session is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points

from gcheap.errors import OptionError
from gcheap.options import format_size
from gcheap.text import shown

ENTRY_POINTS = "gcheap.workloads"
DEFAULT = "churn"


@dataclass(frozen=True)
class Workload:
    """A workload of `gcheap stress`.

    `session(heap, config)` makes its session on a heap, `check(config)` raises OptionError
    for a configuration that it cannot run.
    """

    name: str
    summary: str
    session: Callable
    check: Callable


def _churn_session(heap, config):
    from gcheap.workloads._churn import ChurnSession

    return ChurnSession(heap, mutators=config.mutators, live=config.live, seed=config.seed)


def _churn_check(config):
    from gcheap.workloads._churn import array_count, tree_count

    # A tree is 24 KiB and 9/10 of the live bytes; 32 KiB a mutator give each one of its own.
    least = 32 * 1024 * config.mutators
    trees, arrays = tree_count(config.live), array_count(config.live)
    if min(trees, arrays) < config.mutators:
        raise OptionError(
            f"live {format_size(config.live)} gives {trees} trees and {arrays} byte arrays "
            f"for {config.mutators} mutators: churn needs at least one of each a mutator, "
            f"{format_size(least)}"
        )
    if trees >= 1 << 31:
        raise OptionError(
            f"live {format_size(config.live)}: churn numbers its trees with 31 bits, which is "
            f"{format_size(1 << 55)} at most"
        )
    if config.depth is not None:
        raise OptionError(f"depth {config.depth}: churn has trees of nine levels, always")


def _trees_session(heap, config):
    from gcheap.workloads._trees import TreesSession

    return TreesSession(heap, mutators=config.mutators, live=config.live, depth=config.depth)


def _trees_check(config):
    from gcheap.workloads._trees import bytes_needed, deepest

    fits = deepest(config.live // config.mutators)
    if fits is None:
        raise OptionError(
            f"live {format_size(config.live)}: trees of depth 6 need at least "
            f"{format_size(config.mutators * bytes_needed(6))} for {config.mutators} mutators"
        )
    if config.depth is not None and not 6 <= config.depth <= fits:
        raise OptionError(
            f"depth {config.depth}: accepted is 6 to {fits} with live "
            f"{format_size(config.live)} and {config.mutators} mutators; a deeper tree needs "
            f"more live bytes"
        )


def _array_holes_session(heap, config):
    from gcheap.workloads._array_holes import ArrayHolesSession

    return ArrayHolesSession(heap, mutators=config.mutators, live=config.live, seed=config.seed)


def _array_holes_check(config):
    least = 64 * 1024 * config.mutators
    if config.live < least:
        raise OptionError(
            f"live {format_size(config.live)}: array-holes needs {format_size(64 * 1024)} a "
            f"mutator, {format_size(least)} for {config.mutators}, to have arrays of many sizes"
        )
    if config.live // config.mutators > 1 << 44:
        raise OptionError(
            f"live {format_size(config.live)}: array-holes numbers its arrays with 32 bits, "
            f"which is {format_size(1 << 44)} a mutator at most"
        )
    if config.depth is not None:
        raise OptionError(f"depth {config.depth}: array-holes has no trees")


BUILT_IN = (
    Workload(
        "churn",
        "nodes of small trees and byte arrays replaced at random, with walks and young garbage",
        _churn_session,
        _churn_check,
    ),
    Workload(
        "trees",
        "binary trees: one long-lived, many short-lived built bottom-up, counted and checked",
        _trees_session,
        _trees_check,
    ),
    Workload(
        "array-holes",
        "arrays of 16 bytes to 4 MiB: every second one dropped, compacted, holes refilled",
        _array_holes_session,
        _array_holes_check,
    ),
)


def _with_plug_ins() -> dict:
    own = {workload.name: workload for workload in BUILT_IN}
    return own | {
        point.name: point for point in entry_points(group=ENTRY_POINTS) if point.name not in own
    }


# Every workload by name: those of gcheap, then those of installed plug-ins, which cannot take
# a name of gcheap's and are imported only by `find`.
WORKLOADS = _with_plug_ins()


def find(name: str) -> Workload:
    """The workload of that name; OptionError names the ones there are."""
    if not isinstance(name, str) or name not in WORKLOADS:
        raise OptionError(f"workload {shown(name)} is unknown: accepted are {', '.join(WORKLOADS)}")
    found = WORKLOADS[name]
    if isinstance(found, Workload):
        return found
    loaded = found.load()
    if not isinstance(loaded, Workload):
        raise OptionError(
            f"workload {name!r}: the entry point {found.value} is "
            f"{type(loaded).__name__}, not a gcheap.workloads.Workload"
        )
    return loaded
