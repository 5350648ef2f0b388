"""Arguments of operations: hypothesis can draw and shrink them, a seeded generator draws fast.

A hypothesis step costs far more than an operation, so long runs take most operations from
`random.Random(seed)`, where the seed is all that hypothesis draws.
"""
from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True)
class Draw:
    strategy: st.SearchStrategy
    random: Callable[[random.Random], Any]


def whole(least: int, most: int) -> Draw:
    return Draw(st.integers(least, most), lambda rng: rng.randint(least, most))


def choice(*values: Any) -> Draw:
    return Draw(st.sampled_from(values), lambda rng: rng.choice(values))


def either(*draws: Draw) -> Draw:
    return Draw(st.one_of(*(d.strategy for d in draws)), lambda rng: rng.choice(draws).random(rng))


def several(draw: Draw, least: int, most: int) -> Draw:
    return Draw(st.lists(draw.strategy, min_size=least, max_size=most),
                lambda rng: [draw.random(rng) for _ in range(rng.randint(least, most))])


def made(function: Callable[..., Any], *draws: Draw) -> Draw:
    return Draw(st.builds(function, *(d.strategy for d in draws)),
                lambda rng: function(*(d.random(rng) for d in draws)))
