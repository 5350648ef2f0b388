"""Policies: how far a heap may grow beyond its live bytes before the next cycle.

    Heap("1GiB", policy=Factor(minimum="32MiB", factor=3))
    Heap("1GiB", policy="factor:3,minimum=32MiB")

`capacity` is the hard limit under each of them.  Below it, the *limit* is how far used memory grows
before a cycle brings it back to the live bytes; docs/reference/pacing.md has the formulas, and
measurements.  The text of a policy (`str(policy)`, the environment, the command line) is its name,
then its parameter after a colon, then its minimum after a comma.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from gcheap.errors import OptionError
from gcheap.options import parse_size, plain_float
from gcheap.text import shown

ACCEPTED = ('"fixed", "factor:F[,minimum=SIZE]" or "membalancer:C[,minimum=SIZE]", or a policy of '
            "gcheap.policy")
MOST_FACTOR = 1e6
LEAST_C, MOST_C = 1e-18, 1.0


@dataclass(frozen=True)
class Fixed:
    """The limit is the capacity: fewest cycles, most memory."""

    name: ClassVar[str] = "fixed"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Factor:
    """The limit is `factor` times the live bytes of the last cycle, and at least `minimum`.

    minimum   bytes, an int or a string such as "16MiB"
    factor    above 1, at most a million

    Raises OptionError for other values.
    """

    minimum: int | str = 16 << 20
    factor: float = 3.0
    name: ClassVar[str] = "factor"

    def __post_init__(self) -> None:
        _put(self, "minimum", parse_size(self.minimum, "minimum"))
        _put(self, "factor", _number(self.factor, "factor", 1.0, MOST_FACTOR, above=True))

    def __str__(self) -> str:
        return _text(self, self.factor)


@dataclass(frozen=True)
class MemBalancer:
    """The limit is live + sqrt(live * g / (c * s)): Kirisame, Shenoy and Panchekha, "Optimal heap
    limits for reducing browser memory use" (OOPSLA 2022).

    g is the rate of allocation, s the speed of collection, both measured and smoothed.

    c         how much collector time a byte of memory is worth: collector seconds per second that
              one byte less may cost.  Smaller uses more memory.  3e-10, V8's value, is 0.03 % of a
              processor for a MiB
    minimum   bytes, an int or a string such as "16MiB"

    Heaps of one process that have the same c share memory in the best way: a byte saves as much
    time in each of them.  Raises OptionError for other values.
    """

    c: float = 3e-10
    minimum: int | str = 16 << 20
    name: ClassVar[str] = "membalancer"

    def __post_init__(self) -> None:
        _put(self, "c", _number(self.c, "c", LEAST_C, MOST_C))
        _put(self, "minimum", parse_size(self.minimum, "minimum"))

    def __str__(self) -> str:
        return _text(self, self.c)


Policy = Fixed | Factor | MemBalancer
# Name -> the class and its parameter.
_KINDS: dict[str, tuple[type, str | None]] = {
    "fixed": (Fixed, None), "factor": (Factor, "factor"), "membalancer": (MemBalancer, "c")}


def parse_policy(value: Policy | str, label: str = "policy") -> Policy:
    """The policy that `value` is or names; OptionError naming `label` for anything else."""
    if isinstance(value, (Fixed, Factor, MemBalancer)):
        return value
    if not isinstance(value, str):
        raise OptionError(f"{label}={shown(value)}: expected {ACCEPTED}")
    head, *parts = (part.strip() for part in value.split(","))
    name, colon, parameter = (part.strip() for part in head.partition(":"))
    kind, wanted = _KINDS.get(name.lower(), (None, None))
    if kind is None or (colon and wanted is None):
        raise OptionError(f"{label}={shown(value)}: expected {ACCEPTED}")
    given: dict[str, str] = {wanted: parameter} if wanted and colon else {}
    for part in parts:
        key, equals, setting = (piece.strip() for piece in part.partition("="))
        if not equals or key != "minimum" or wanted is None or key in given:
            raise OptionError(f"{label}={shown(value)}: {shown(part)} is not understood; expected "
                              f"{ACCEPTED}")
        given[key] = setting
    try:
        return kind(**given)
    except OptionError as error:
        raise OptionError(f"{label}={shown(value)}: {error}") from None


def _text(policy: Factor | MemBalancer, parameter: float) -> str:
    minimum = int(policy.minimum)
    size = f"{minimum >> 20}MiB" if minimum % (1 << 20) == 0 else str(minimum)
    return f"{policy.name}:{parameter!r},minimum={size}"


def _put(policy: object, name: str, value: object) -> None:
    object.__setattr__(policy, name, value)


def _number(value: object, name: str, least: float, most: float, above: bool = False) -> float:
    relation = "above" if above else "from"
    expected = f"expected a number {relation} {least:g} {'and' if above else 'to'} " + (
        f"at most {most:g}" if above else f"{most:g}")
    try:
        number = (
            math.nan if isinstance(value, bool) else
            plain_float(value) if isinstance(value, str) else
            float(value))                   # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not least <= number <= most or (above and number == least):
        raise OptionError(f"{name}={shown(value)}: {expected}")
    return number
