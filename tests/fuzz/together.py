"""The same operation on several Sides, which stay alike."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fuzz.operations import OPERATIONS
from fuzz.side import Side


def at_once(function: Callable[[], Any]) -> Any:
    return function()


class Together:
    """Sides on which the same is done; `call` runs a function on the thread that does it."""

    def __init__(self, sides: list[Side]) -> None:
        self.sides = sides

    def do(self, mutators: list[Any], name: str, arguments: dict[str, Any],
           call: Callable[[Callable[[], Any]], Any] = at_once) -> None:
        run = OPERATIONS[name].run
        commits = [call(lambda s=side, m=m: run(s, m, **arguments))
                   for side, m in zip(self.sides, mutators, strict=True)]
        if all(commits):
            for commit in commits:
                call(commit)
        self.same_numbers()

    def settle(self, call: Callable[[Callable[[], Any]], Any] = at_once) -> None:
        """A full collection of each; what guardians give in all is held from then on."""
        for side in self.sides:
            call(side.collect)
        common = set.intersection(*(set(side.yielded) for side in self.sides))
        for side in self.sides:
            call(lambda s=side: s.settle(common))
        self.same_numbers()

    def same_numbers(self) -> None:
        """Whatever is chosen by number is the same everywhere."""
        most = max(side.made for side in self.sides)
        for side in self.sides:
            side.made = most
        for kind in ("refs", "weak_refs", "key_tables", "value_tables", "guardians"):
            names = {tuple(getattr(side, kind)) for side in self.sides}
            assert len(names) == 1, (kind, names)
