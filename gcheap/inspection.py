"""What the introspection of `Heap` returns."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from gcheap.text import title


@dataclass(frozen=True)
class Root:
    """What keeps an object alive from outside the heap.

    kind       "ref" (a Ref that Python code holds), "shadow stack", "frozen", or "guardian" (an
               agent, or an object that waits in a guardian's queue)
    mutator    the name of the mutator whose shadow stack it is, else None
    thread     its thread's id (as `threading.get_native_id` has it), else None
    position   the word of the shadow stack, counted from the bottom, else None
    """

    kind: str
    mutator: str | None = None
    thread: int | None = None
    position: int | None = None

    def __str__(self) -> str:
        if self.kind != "shadow stack":
            return {"ref": "a Ref", "frozen": "frozen", "guardian": "a guardian"}[self.kind]
        return f"word {self.position} of the shadow stack of {self.mutator!r}"


class Step(NamedTuple):
    """One object on a path, and where the object before it holds it.

    where   name of the field or index in the array, "(weak table)" for the value of an entry whose
            key that object is; None for the object that the root names, and
            for the first one after steps that were left out
    """

    where: str | int | None
    ref: Any

    def __str__(self) -> str:
        # Not self.ref.shape: a field of that name would hide it.
        what = title(object.__getattribute__(self.ref, "shape").name)
        if self.where is None:
            return what
        return f"[{self.where}] {what}" if isinstance(self.where, int) else f".{self.where} {what}"


class Path(list[Any]):
    """Why an object is alive: its Root, then a Step for each object, the one asked about last.

    skipped   steps left out in the middle of a long path
    """

    SHOWN = 24                  # parts of a repr

    def __init__(self, steps: Any = (), skipped: int = 0) -> None:
        super().__init__(steps)
        self.skipped = skipped

    def __repr__(self) -> str:
        shown = min(self.SHOWN, len(self))
        middle = 1 + (shown - 1) // 2       # after the root and half of the steps
        parts = [str(step) for step in self[:middle]]
        if self.skipped or len(self) > shown:
            parts.append(f"... {self.skipped + len(self) - shown} more ...")
        parts += [str(step) for step in self[len(self) - shown + middle:]]
        return f"<gcheap.Path: {' -> '.join(parts)}>"


@dataclass(frozen=True)
class Retained:
    """What would become unreachable if one object did; all include the object itself."""

    objects: int
    bytes: int
    own_bytes: int              # of the object alone
