"""The compiler and the VM on sources that are nearly programs: no crash, and what clox would say.

Part of what `make sanitize` runs: a read or write outside of what was allocated is then a report.
The evaluator says first whether a source ends, and what it does.
"""
from __future__ import annotations

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from support import kernel_offers

from lox.evaluator import OutOfFuel, evaluate
from lox.expectations import NATIVES, PROGRAMS, THREADS, names
from lox.mutations import byte_mutations, token_mutations
from lox.running import MODES, run_bytes

PHASES = [phase for phase in Phase if phase is not Phase.explain]
SEEDS = names(*(path.name for path in PROGRAMS.iterdir() if path.name not in (NATIVES, THREADS)))
OPTIONS = [options for options in MODES.values()
           if kernel_offers(options.get("backend", "stw")) is None]
CLOCK = b"clock()"      # the one thing that the evaluator does not know


def agree(source: bytes, options: dict) -> None:
    """Runs a source if the evaluator sees it end, and compares; bytes are characters to both."""
    try:
        expected = evaluate(source.decode("latin-1"), fuel=100_000)
    except OutOfFuel:
        assume(False)
    status, out, err = run_bytes(source, **options)
    assert status in (0, 65, 70)
    if CLOCK not in source and b"\0" not in source:
        assert (status, out, err) == (expected.status, expected.out.encode("latin-1"),
                                      expected.err.encode("latin-1"))


@settings(max_examples=150, phases=PHASES)
@given(token_mutations(SEEDS), st.sampled_from(OPTIONS))
def test_tokens_changed(source, options):
    agree(source.encode(), options)


@settings(max_examples=100, phases=PHASES)
@given(byte_mutations(SEEDS), st.sampled_from(OPTIONS))
def test_bytes_changed(source, options):
    agree(source, options)


@settings(max_examples=50, phases=PHASES)
@given(st.binary(max_size=200), st.sampled_from(OPTIONS))
def test_any_bytes(source, options):
    agree(source, options)


@pytest.mark.soak("minutes, not seconds")
@settings(max_examples=20_000, phases=PHASES)
@given(st.one_of(token_mutations(SEEDS).map(str.encode), byte_mutations(SEEDS)),
       st.sampled_from(OPTIONS))
def test_many_changed(source, options):
    agree(source, options)
