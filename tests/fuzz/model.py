"""A heap in plain Python: objects, what refers to them, and what must, may and must not live.

The model follows one heap, operation by operation.  *Reachable* is what a program can get at by
strong references: from roots (Refs that are held), frozen objects and agents of registrations,
through slots, and through the values of weak-key tables whose keys are reachable (an ephemeron is
an edge from its key).

What a heap may do differently from one run to the next, and nothing else:

* **Limbo** is what is unreachable since the last full collection.  A cycle may or may not have
  found it dead: a weak reference to it, a weak-value entry, an iteration over a weak-key table may
  show it or not, and its finalizer may have run or not.  But *dead is dead*: once one reader was
  told that an object is dead, all are (`told_dead`); and what was read alive may be kept, with all
  that it refers to.
* What guardians hold in limbo, and all that it reaches, is **perhaps** alive: in a guardian's
  queue.  So reports about the whole heap lie between `reachable()` and that with `perhaps()`.
* A full collection after which the guardians are emptied ends limbo (`settle`).  What is outside
  of `perhaps()` is dead, everywhere.  Of what is in it each registered object either came out, or
  is reached from one that did; and a weak reference, entry or finalizer of such an object has died
  with it or not, according to whether it was still reachable when the other was found.  That is
  asked once, and binding from then on.
* `HeapExhausted` only when what may be alive fills the heap but for `crowded`'s allowance.

Anything else that is not exactly as here is a bug.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fuzz.layouts import FIXED, WORD, array_bytes, pattern, rounded

SLOTS, BYTES = "slots", "bytes"         # layouts of arrays; any other is a dtype's text


class Slots(list):
    """The slots of an object, all None at first; `used` are those that are not."""

    def __init__(self, count: int) -> None:
        super().__init__([None] * count)
        self.used: dict[int, Thing | int] = {}

    def __setitem__(self, index: int, value: Thing | int | None) -> None:   # type: ignore[override]
        super().__setitem__(index, value)
        if value is None:
            self.used.pop(index, None)
        else:
            self.used[index] = value

    def targets(self) -> list[tuple[int, Thing]]:
        return [(i, value) for i, value in self.used.items() if isinstance(value, Thing)]


class Thing:
    """One object: the number it was made as, its slots, its raw contents."""

    __slots__ = ("hash", "layout", "nbytes", "pinned", "raw", "slots", "uid")

    def __init__(self, uid: int, layout: str, length: int = 0, pinned: bool = False) -> None:
        self.uid, self.layout, self.pinned = uid, layout, pinned
        self.hash: int | None = None
        self.slots = Slots(0)
        self.raw: np.ndarray | None = None
        if layout in FIXED:
            shape = FIXED[layout]
            self.slots = Slots(len(shape.refs))
            self.raw = pattern(shape.raw, 1, uid)
            self.raw["uid"] = uid
            self.nbytes = shape.nbytes
        elif layout == SLOTS:
            self.slots = Slots(length)
            self.nbytes = array_bytes(WORD, length)
        else:
            self.raw = np.zeros(length, "u1" if layout == BYTES else layout)
            self.nbytes = array_bytes(self.raw.itemsize, length)

    @property
    def fixed(self) -> bool:
        return self.layout in FIXED

    def place_name(self, index: int) -> str | int:
        return FIXED[self.layout].refs[index] if self.fixed else index

    def __repr__(self) -> str:
        return f"<{self.layout} {self.uid}>"


@dataclass(eq=False)
class Weak:
    target: Thing
    gone: bool = False                  # a reader was told so


@dataclass(eq=False)
class Registration:
    number: int
    guardian: int
    thing: Thing
    agent: Thing | None

    @property
    def yields(self) -> Thing:
        return self.thing if self.agent is None else self.agent


@dataclass(eq=False)
class Final:
    thing: Thing
    told: bool = False                  # its callback has to come


@dataclass
class Model:
    roots: dict[int, Thing] = field(default_factory=dict)           # by number: one for each Ref
    frozen: set[Thing] = field(default_factory=set)
    weak_refs: dict[int, Weak] = field(default_factory=dict)
    key_tables: dict[int, dict[Thing, Any]] = field(default_factory=dict)
    value_tables: dict[int, dict[str, Weak]] = field(default_factory=dict)
    registrations: dict[int, Registration] = field(default_factory=dict)
    finals: dict[int, Final] = field(default_factory=dict)
    told_dead: set[Thing] = field(default_factory=set)              # since the last settling

    # ---- reachability --------------------------------------------------------------------

    def strong(self) -> Iterator[Thing]:
        yield from self.roots.values()
        yield from self.frozen
        for registration in self.registrations.values():
            if registration.agent is not None:
                yield registration.agent

    def edges(self, thing: Thing) -> Iterator[tuple[str | int, Thing]]:
        """(where, target) for every reference that `thing` holds."""
        for i, value in thing.slots.targets():
            yield thing.place_name(i), value
        for table in self.key_tables.values():
            value = table.get(thing)
            if isinstance(value, Thing):
                yield "(weak table)", value

    def reach(self, starts: Iterable[Thing], without: Thing | None = None) -> set[Thing]:
        seen = {thing for thing in starts if thing is not without}
        todo = list(seen)
        while todo:
            for _, target in self.edges(todo.pop()):
                if target not in seen and target is not without:
                    seen.add(target)
                    todo.append(target)
        return seen

    def reachable(self) -> set[Thing]:
        return self.reach(self.strong())

    def perhaps(self, reachable: set[Thing]) -> set[Thing]:
        """What guardians may have kept alive, and is not reachable."""
        kept = [r.thing for r in self.registrations.values()
                if r.agent is None and r.thing not in reachable]
        return self.reach(kept) - reachable if kept else set()

    def distances(self, starts: Iterable[Thing]) -> dict[Thing, int]:
        """How many references away from the nearest of `starts` each object is."""
        found = dict.fromkeys(starts, 0)
        todo = list(found)
        for thing in todo:              # breadth first: the list grows meanwhile
            for _, target in self.edges(thing):
                if target not in found:
                    found[target] = found[thing] + 1
                    todo.append(target)
        return found

    # ---- room ----------------------------------------------------------------------------

    def charge(self, page: int) -> int:
        """What capacity counts of everything that may be alive."""
        reachable = self.reachable()
        return sum(rounded(t.nbytes, page) if t.pinned else t.nbytes
                   for t in reachable | self.perhaps(reachable))

    # ---- what is weak --------------------------------------------------------------------

    def weak_cells(self) -> Iterator[Weak]:
        """Every weak reference and every entry of a weak-value table."""
        yield from self.weak_refs.values()
        for table in self.value_tables.values():
            yield from table.values()

    def is_told(self, weak: Weak, alive: bool) -> None:
        """A reader of `weak` was told this; checks that it may be."""
        target = weak.target
        if alive:
            assert not weak.gone and target not in self.told_dead, (
                f"{target} was dead and is alive again")
        elif not weak.gone:
            weak.gone = True
            if target not in self.reachable():
                self.told_dead.add(target)
            else:
                raise AssertionError(f"{target} is reachable, and a weak reference to it is gone")

    def adopt(self, number: int, thing: Thing) -> None:
        """A new root, perhaps one to what was in limbo: all it reaches has come back with it."""
        self.roots[number] = thing
        again = self.reach([thing]) & self.told_dead
        assert not again, f"dead, and reached again: {again}"

    def forget_dead(self) -> tuple[set[Thing], list[int]]:
        """After a full collection: what died with certainty leaves the model.

        Returns (perhaps, numbers of finalizers that must have been told).
        """
        reachable = self.reachable()
        perhaps = self.perhaps(reachable)
        alive = reachable | perhaps
        for weak in self.weak_cells():
            if weak.target not in alive:
                weak.gone = True
        for table in self.key_tables.values():
            for key in [key for key in table if key not in alive]:
                del table[key]
        return perhaps, [n for n, f in self.finals.items() if f.thing not in alive]
