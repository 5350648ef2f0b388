"""What a heap does, in lines: HotSpot's unified logging, and Go's one line a cycle.

Nothing of it is imported, and no thread started, before a heap is made whose options ask for it.
"""
from __future__ import annotations

from typing import Any

from gcheap.face import observers
from gcheap.options import OFF


def _follow(core: Any) -> None:
    if core.options["log"] != OFF or core.options["trace"] == "1":
        from gcheap.log.writer import follow

        follow(core)


observers.on_made.append(_follow)
