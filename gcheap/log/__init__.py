"""What a heap does, in lines: HotSpot's unified logging, and Go's one line a cycle.

No thread is started, and most of it not imported, before a heap is made whose options ask for it.
"""
from __future__ import annotations

from typing import Any

from gcheap.face import observers
from gcheap.log.selection import parse_log


def _follow(core: Any) -> None:
    if parse_log(core.options["log"]) or core.options["trace"] == "1":
        from gcheap.log.writer import follow

        follow(core)


observers.on_made.append(_follow)
