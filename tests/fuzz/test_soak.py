"""The fuzzers for long: many configurations, each with a seed that is printed and can be replayed.

    GCHEAP_FUZZ_SEED=7 GCHEAP_FUZZ_SECONDS=60 pytest -m soak tests/fuzz

Round n has the seed GCHEAP_FUZZ_SEED + n (or of --seed; a fresh one without either), so the seed of
the last line printed is what replays a round that failed, or that ended the process.
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import run_state_machine_as_test

from fuzz.configurations import pairs
from fuzz.conftest import GIVEN, SECONDS
from fuzz.machine import DifferentialMachine
from fuzz.test_concurrent import DELAYS, run_freely

pytestmark = pytest.mark.soak("minutes, not seconds")

# Large enough for the space of huge arrays now and then.
CAPACITIES = ["64MiB", "8MiB", "8MiB", "2MiB", "512KiB", "min"]
PAIRS = pairs((0, 1, 2, 3, 4), (0, 1, 2, 3, 4), CAPACITIES)


# Seconds, of one failure.  Hypothesis would go on for five minutes, and then faulthandler ends the
# process, and nobody learns what had failed.
SHRINKING = 60


@pytest.fixture
def rounds(seed: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
           ) -> Callable[[Callable[[], Any]], None]:
    def run(one: Callable[[], Any]) -> None:
        monkeypatch.setattr(engine, "MAX_SHRINKING_SECONDS", SHRINKING)
        end = time.monotonic() + SECONDS
        at = seed if GIVEN is None else int(GIVEN)
        while time.monotonic() < end:
            said = f"\nGCHEAP_FUZZ_SEED={at}"
            sys.stderr.write(said)              # for the report of the failure
            with capsys.disabled():
                print(said, end=" ", flush=True)
            monkeypatch.setattr(hypothesis.core, "global_force_seed", at)
            one()
            at += 1
    return run


def test_two_heaps_do_as_the_model_does_for_long(rounds):
    machine = type("Machine", (DifferentialMachine,), {"configurations": PAIRS})
    rounds(lambda: run_state_machine_as_test(machine, settings=settings(
        max_examples=40, stateful_step_count=50)))


@pytest.mark.parametrize("count", [60, 300])
def test_threads_run_freely_for_long(count, rounds):
    def one() -> None:
        @settings(max_examples=15)
        @given(PAIRS, st.lists(st.integers(0, 2**32), min_size=2, max_size=4), DELAYS)
        def threads(heaps, seeds, delays):
            run_freely(heaps, seeds, count, delays)
        threads()
    rounds(one)
