"""Two heaps of different configuration and a model in plain Python, driven by the same operations.

Operations run on three threads that are mutators of both heaps, one after the other (lock-step);
test_concurrent.py has threads that run freely.  A failure prints the seed; hypothesis prints the
shrunk list of operations, which becomes a test of tests/test_regressions_fuzz.py.
"""
from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from fuzz.configurations import pairs
from fuzz.machine import DifferentialMachine

# What a failure has in common with others is not worth minutes.
PHASES = [phase for phase in Phase if phase is not Phase.explain]
CHECKED = pairs((3, 4), (0, 1, 2))
BARE = pairs((0, 1), (0,))


def run(configurations: st.SearchStrategy, examples: int, steps: int) -> None:
    machine = type("Machine", (DifferentialMachine,), {"configurations": configurations})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=steps,
                                   phases=PHASES))


@pytest.mark.parametrize("configurations", [BARE, CHECKED], ids=["bare", "checked"])
def test_two_heaps_do_as_the_model_does(configurations):
    run(configurations, examples=12, steps=40)
