"""What each thread of a heap does, as a timeline for ui.perfetto.dev or chrome://tracing."""
from __future__ import annotations

from collections import deque
from typing import Any

from gcheap.face import observers
from gcheap.options import label_of
from gcheap.trace.target import parse_target

# Paths of traces that failed when their heap ended, which has raised nothing: for whoever made
# the heap on somebody's behalf and takes them out.  The newest ones.
unwritten: deque[str] = deque(maxlen=64)


def start_trace(core: Any, path: Any, label: str = "trace") -> Any:
    """See `Heap.trace`."""
    from gcheap.trace.session import TraceSession

    return TraceSession(core, path, label)


def _follow(core: Any) -> None:
    path = parse_target(core.options["trace"])
    if path is not None:
        start_trace(core, path, label_of("trace", path))


observers.on_made.append(_follow)
observers.start_trace = start_trace
