"""What threads share while they run freely: a board, an interning table, a guardian.

None of it depends on the schedule.  Each object says by its number who made it, and its contents
follow from its number.
"""
from __future__ import annotations

import random
from collections import Counter
from typing import Any

import gcheap
from fuzz.model import Thing
from fuzz.side import Side

PLACES = 8                              # of each owner on the board
LAYOUT = "Mixed"
_OWNER = 40                             # bits of a number below its owner's


def first_number(owner: int) -> int:
    return (owner + 1) << _OWNER


class Shared:
    """One heap's: made by a thread that is attached."""

    def __init__(self, heap: gcheap.Heap, m: gcheap.Mutator, owners: int) -> None:
        self.heap = heap
        self.owners = owners
        self.board = m.new_slots(owners * PLACES)
        self.words = heap.weak_value_table()
        self.guardian = heap.guardian()
        self.registered: list[int] = []         # appended to by all threads
        self.came: list[int] = []

    def poll(self) -> None:
        for ref in self.guardian:
            self.came.append(ref.uid)
            del ref

    def over(self) -> None:
        """After the threads: every registration came out once."""
        self.heap.collect()
        self.poll()
        assert self.guardian.registered == 0
        assert Counter(self.came) == Counter(self.registered)


class Owner:
    """One thread's part in one heap's Shared."""

    def __init__(self, shared: Shared, side: Side, owner: int) -> None:
        self.shared, self.side, self.owner = shared, side, owner
        self.words: dict[str, gcheap.Ref] = {}
        self.number = first_number(owner) + (1 << (_OWNER - 1))     # apart from the Side's

    def new(self, m: Any, **fields: Any) -> gcheap.Ref | None:
        self.number += 1
        thing = Thing(self.number, LAYOUT)
        contents = {name: thing.raw[name][0] for name in thing.raw.dtype.names}
        try:
            return m.new(self.side.shapes[LAYOUT], **contents, **fields)
        except gcheap.HeapExhausted:
            return None

    def check(self, ref: gcheap.Ref, owner: int | None = None) -> None:
        uid = ref.uid
        assert owner is None or uid >> _OWNER == owner + 1, (uid, owner)
        self.side.same_contents(ref, Thing(uid, LAYOUT))

    def act(self, m: Any, rng: random.Random) -> None:
        rng.choice([self.publish, self.publish, self.look, self.look, self.intern,
                    self.guard])(m, rng)

    def look(self, m: Any, rng: random.Random) -> gcheap.Ref | None:
        """Whatever lies somewhere on the board is its owner's, and whole."""
        place = rng.randrange(len(self.shared.board))
        found = self.shared.board[place]
        if found is not None:
            self.check(found, place // PLACES)
            behind = found.next
            if behind is not None:
                self.check(behind)
        return found

    def publish(self, m: Any, rng: random.Random) -> None:
        """A new object, which refers to one of somebody else's, or what that one refers to."""
        behind = self.look(m, rng)
        if behind is not None and behind.next is not None:
            behind = behind.next
        ref = self.new(m, next=behind) if behind is None or behind.next is None else None
        if ref is not None:
            self.shared.board[self.owner * PLACES + rng.randrange(PLACES)] = ref

    def intern(self, m: Any, rng: random.Random) -> None:
        """While anybody holds the object of a word, everybody gets that one."""
        word = str(rng.randrange(6))
        made = self.new(m)
        if made is None:
            return
        held = self.words.get(word)
        found = self.shared.words.setdefault(word, made)
        assert held is None or found == held, f"{word!r} has two objects"
        self.check(found)
        if rng.random() < 0.7:
            self.words[word] = found
        else:
            self.words.pop(word, None)

    def guard(self, m: Any, rng: random.Random) -> None:
        ref = self.new(m)
        if ref is not None:
            self.shared.registered.append(ref.uid)
            self.shared.guardian.register(ref)
        del ref
        if rng.random() < 0.3:
            self.shared.poll()
