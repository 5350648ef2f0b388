"""The fuzzers for long: many configurations, each with a seed that is printed and can be replayed.

    GCHEAP_FUZZ_SEED=7 GCHEAP_FUZZ_SECONDS=60 pytest -m soak tests/fuzz

Round n has the seed GCHEAP_FUZZ_SEED + n, so the seed of the last line printed is what replays a
round that failed, or that ended the process.  Without GCHEAP_FUZZ_SEED it is a fresh one.
"""
from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from fuzz.configurations import pairs
from fuzz.conftest import GIVEN, SECONDS
from fuzz.machine import DifferentialMachine
from fuzz.test_concurrent import DELAYS, run_freely

pytestmark = pytest.mark.soak("minutes, not seconds")

# Large enough for the space of huge arrays now and then.
CAPACITIES = ["64MiB", "8MiB", "8MiB", "2MiB", "512KiB", "min"]
PAIRS = pairs((0, 1, 2, 3, 4), (0, 1, 2, 3, 4), CAPACITIES)


def rounds(one: Callable[[], Any], monkeypatch: pytest.MonkeyPatch,
           capsys: pytest.CaptureFixture) -> None:
    seed = secrets.randbits(32) if GIVEN is None else int(GIVEN)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with capsys.disabled():
            print(f"\nGCHEAP_FUZZ_SEED={seed}", end=" ", flush=True)
        monkeypatch.setattr(hypothesis.core, "global_force_seed", seed)
        one()
        seed += 1


def test_two_heaps_do_as_the_model_does_for_long(monkeypatch, capsys):
    machine = type("Machine", (DifferentialMachine,), {"configurations": PAIRS})
    rounds(lambda: run_state_machine_as_test(machine, settings=settings(
        max_examples=40, stateful_step_count=50)), monkeypatch, capsys)


@pytest.mark.parametrize("count", [60, 300])
def test_threads_run_freely_for_long(count, monkeypatch, capsys):
    def one() -> None:
        @settings(max_examples=15)
        @given(PAIRS, st.lists(st.integers(0, 2**32), min_size=2, max_size=4), DELAYS)
        def threads(heaps, seeds, delays):
            run_freely(heaps, seeds, count, delays)
        threads()
    rounds(one, monkeypatch, capsys)
