"""Workloads of `gcheap stress`: what a workload is, and finding one by its name.

A `Workload` has a name, a line that says what it is good at showing, its settings, and a function
that makes a *session* on a heap.  A session is what `runner.Run` drives, every call from the
mutator's own thread:

    session.threads                                 mutator threads of the run
    session.populate(mutator, index, recording)     build the live data; a failed allocation
                                                    sets recording.exhausted
    session.run(index)                              operations, until the run is stopped
    session.audit(index)                            check what the run left behind
    session.leave(index)                            give back what the mutator holds
    session.populated                               0 to 1, read from the supervising thread
    session.facts()                                 a dict that joins the result document

`session_of` makes one out of one worker for each mutator, which is all that most need to write:
`worker.Worker` in Cython, `plain.PlainWorker` in Python (docs/how-to/add-a-workload.md).

Another distribution adds a workload by an entry point in the group `gcheap.workloads` whose
name is the workload's and whose object is a `Workload`.  Importing this module imports no
native code; that happens when a session is made.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from gcheap.errors import OptionError
from gcheap.text import shown
from gcheap.workloads.definition import Workload, session_of, setting
from gcheap.workloads.table import BUILT_IN

__all__ = ["DEFAULT", "ENTRY_POINTS", "WORKLOADS", "Workload", "find", "session_of", "setting"]

ENTRY_POINTS = "gcheap.workloads"
DEFAULT = "churn"


def _registry() -> dict:
    own = {workload.name: workload for workload in BUILT_IN}
    return own | {
        point.name: point for point in entry_points(group=ENTRY_POINTS) if point.name not in own
    }


# Every workload by name: those of gcheap, then those of installed plug-ins, which cannot take
# a name of gcheap's and are imported only by `find`.
WORKLOADS = _registry()


def find(name: str) -> Workload:
    """The workload of that name; OptionError names the ones there are."""
    if not isinstance(name, str) or name not in WORKLOADS:
        raise OptionError(f"workload {shown(name)} is unknown: accepted are {', '.join(WORKLOADS)}")
    found = WORKLOADS[name]
    if isinstance(found, Workload):
        return found
    try:
        loaded = found.load()
    except Exception as error:          # whatever importing somebody else's module ends with
        raise OptionError(
            f"workload {name!r}: its entry point {found.value} cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(loaded, Workload):
        raise OptionError(
            f"workload {name!r}: the entry point {found.value} is "
            f"{type(loaded).__name__}, not a gcheap.workloads.Workload"
        )
    return loaded
