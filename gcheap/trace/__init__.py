"""What each thread of a heap does, as a timeline for ui.perfetto.dev or chrome://tracing."""
from __future__ import annotations

from typing import Any

from gcheap.face import observers
from gcheap.trace.target import parse_target


def start_trace(core: Any, path: Any) -> Any:
    """See `Heap.trace`."""
    from gcheap.trace.session import TraceSession

    return TraceSession(core, path)


def _follow(core: Any) -> None:
    path = parse_target(core.options["trace"])
    if path is not None:
        start_trace(core, path)


observers.on_made.append(_follow)
observers.start_trace = start_trace
