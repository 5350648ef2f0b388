"""Programs of `generator.py`: the VM and the evaluator say the same, whatever the heap does."""
from __future__ import annotations

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from support import kernel_offers

from lox.evaluator import Outcome, OutOfFuel, evaluate
from lox.generator import programs
from lox.running import MODES, many, run

PHASES = [phase for phase in Phase if phase is not Phase.explain]
OPTIONS = [options | more for options in MODES.values()
           if kernel_offers(options.get("backend", "stw")) is None
           for more in ({}, {"verify": 3, "relocate": "always"})]


def evaluated(source: str) -> Outcome:
    try:
        return evaluate(source, fuel=200_000)
    except OutOfFuel:
        assume(False)
        raise


@settings(max_examples=60, phases=PHASES)
@given(programs(), st.sampled_from(OPTIONS))
def test_the_vm_does_as_the_evaluator_does(source, options):
    assert run(source, **options) == evaluated(source)


@pytest.mark.soak("minutes, not seconds")
@settings(max_examples=many(3000), phases=PHASES)
@given(programs(size=10), st.sampled_from(OPTIONS))
def test_more_and_longer_programs(source, options):
    found = run(source, **options)
    # The evaluator has no limits; test_limits.py is about those.
    assume(not found.err.endswith("Too many constants in one chunk.\n"))
    assert found == evaluated(source)


def test_programs_of_the_generator_do_much():
    """They compile, most get somewhere, and some end in an error."""
    seen = []

    @settings(max_examples=30, phases=[Phase.generate])
    @given(programs())
    def look(source):
        seen.append(evaluated(source))
    look()
    statuses = [outcome.status for outcome in seen]
    assert set(statuses) <= {0, 70} and statuses.count(0) > 3
    assert sum(outcome.out.count("\n") for outcome in seen) > len(seen)
