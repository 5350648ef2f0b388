"""Two heaps of different configuration and a model in plain Python, driven by the same operations.

Operations run on three threads that are mutators of both heaps, one after the other (lock-step);
test_concurrent.py has threads that run freely.  A failure prints the seed; hypothesis prints the
shrunk list of operations, which becomes a test of tests/test_regressions_fuzz.py.
"""
from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from fuzz.configurations import pairs
from fuzz.machine import DifferentialMachine

CHECKED = pairs((3, 4), (0, 1, 2))
BARE = pairs((0, 1), (0,))


def run(configurations: st.SearchStrategy, examples: int, steps: int) -> None:
    machine = type("Machine", (DifferentialMachine,), {"configurations": configurations})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=steps))


@pytest.mark.parametrize("configurations", [BARE, CHECKED], ids=["bare", "checked"])
def test_two_heaps_do_as_the_model_does(configurations):
    run(configurations, examples=12, steps=40)
