"""Threads that run freely on two heaps, each with objects and a model of its own, beside a thread
that collects all the time; what they share does not depend on the schedule either.

Failpoints delay the collector and the fault path here and there, for other interleavings.
"""
from __future__ import annotations

import random
import threading
from contextlib import ExitStack, closing
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support import PATIENCE, MutatorThread

import gcheap
from fuzz import checks
from fuzz.configurations import pairs
from fuzz.operations import LOCAL, at_random
from fuzz.shared import Owner, Shared, first_number
from fuzz.side import Side
from fuzz.together import Together
from gcheap import failpoints

# Not those of forks and of refused ioctls.
DELAYED = [name for name in failpoints.NAMES
           if name.split(".")[0] not in ("fork", "place", "inspect")]
# While the collector stands here, what mutators do matters most.
WINDOWS = ["mark.concurrent", "mark.traced", "weak.before", "weak.cleared", "flip.after"]


class Script:
    """What one thread does: the same operations on both heaps."""

    def __init__(self, heaps: list[gcheap.Heap], shared: list[Shared], owner: int, seed: int,
                 count: int) -> None:
        self.rng = random.Random(seed)
        self.count = count
        self.sides = [Side({}, heap) for heap in heaps]
        for side in self.sides:
            side.made = first_number(owner)
        self.together = Together(self.sides)
        self.owners = [Owner(s, side, owner)
                       for s, side in zip(shared, self.sides, strict=True)]

    def run(self, _: Any) -> None:
        """On a thread of its own, which is attached to the first heap."""
        rng = self.rng
        heaps = [side.heap for side in self.sides]
        with ExitStack() as stack:
            mutators = [_, *(stack.enter_context(heap.attach()) for heap in heaps[1:])]
            for _i in range(self.count):
                if rng.random() < 0.3:
                    for owner, m in zip(self.owners, mutators, strict=True):
                        owner.act(m, random.Random(rng.randrange(2**32)))
                elif rng.random() < 0.05:
                    self.together.settle()
                else:
                    self.together.do(mutators, *at_random(rng, LOCAL))
                if rng.random() < 0.05:
                    for side in self.sides:
                        side.compare()
                        checks.counters(side)
            self.together.settle()
            for side, owner in zip(self.sides, self.owners, strict=True):
                side.compare()
                owner.words.clear()


def collect_until(stop: threading.Event, heap: gcheap.Heap) -> None:
    while not stop.is_set():
        heap.collect()
        heap.census()


def run_freely(given_options: list[dict], seeds: list[int], count: int,
               delays: dict[str, int]) -> None:
    with ExitStack() as stack:
        heaps = [stack.enter_context(closing(gcheap.Heap(**o))) for o in given_options]
        mutators = [stack.enter_context(heap.attach("main")) for heap in heaps]
        shared = [Shared(heap, m, len(seeds)) for heap, m in zip(heaps, mutators, strict=True)]
        scripts = [Script(heaps, shared, i, seed, count) for i, seed in enumerate(seeds)]
        stop = threading.Event()
        collectors = [threading.Thread(target=collect_until, args=(stop, heap))
                      for heap in heaps]
        with ExitStack() as inner:
            for name, ns in delays.items():
                inner.enter_context(failpoints.delay(name, ns))
            threads = [inner.enter_context(MutatorThread(heaps[0], f"script {i}"))
                       for i in range(len(scripts))]
            for thread in collectors:
                thread.start()
            try:
                futures = [thread.start(script.run)
                           for thread, script in zip(threads, scripts, strict=True)]
                for future in futures:
                    future.result(10 * PATIENCE)
            finally:
                stop.set()
                for thread in collectors:
                    thread.join(PATIENCE)
        for i, heap in enumerate(heaps):
            shared[i].over()
            shared[i].board = None
            same_census(heap, [script.sides[i] for script in scripts])


def same_census(heap: gcheap.Heap, sides: list[Side]) -> None:
    """What all models together say is what is in the heap."""
    wanted = sum((side.tally(side.model.reachable()) for side in sides), start=type(
        sides[0].tally([]))())
    found = {(str(row["shape"]), what): int(row[what])
             for row in heap.census() for what in ("objects", "bytes")}
    assert found == dict(wanted)


HEAPS = pairs((0, 1, 3), (0, 2))
DELAYS = st.dictionaries(
    st.one_of(st.sampled_from(DELAYED), st.sampled_from(WINDOWS)),
    st.sampled_from([1_000, 50_000, 400_000, 2_000_000]), max_size=4)


@settings(max_examples=8)
@given(HEAPS, st.lists(st.integers(0, 2**32), min_size=2, max_size=3), DELAYS)
def test_threads_run_freely(heaps, seeds, delays):
    run_freely(heaps, seeds, 60, delays)
