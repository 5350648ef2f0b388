"""The compiler and the VM on sources that are nearly programs: no crash, and what clox would say.

Part of what `make sanitize` runs: a read or write outside of what was allocated is then a report.
The evaluator says first whether a source ends, and what it does.  Of threads it knows only how many
there are, and of what depends on time or the machine nothing: those programs run for so long and no
longer, and all that they must not do is crash.
"""
from __future__ import annotations

import re

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from support import kernel_offers

from lox.evaluator import OutOfFuel, TooManyThreads, evaluate
from lox.expectations import NATIVES, PROGRAMS, THREADS, names
from lox.mutations import byte_mutations, token_mutations
from lox.running import MODES, many, run_bytes, run_for

PHASES = [phase for phase in Phase if phase is not Phase.explain]
SEEDS = names(*(path.name for path in PROGRAMS.iterdir() if path.name not in (NATIVES, THREADS)))
UNEVEN = names(NATIVES, THREADS)
OPTIONS = [options for options in MODES.values()
           if kernel_offers(options.get("backend", "stw")) is None]
UNKNOWN = re.compile(rb"clock\(\)|spawn|join|args|heapUsed|readFile")
SECONDS = 0.1           # of a program that may never end


def agree(source: bytes, options: dict) -> None:
    """Runs a source if the evaluator sees it end, and compares; bytes are characters to both."""
    unknown = UNKNOWN.search(source)
    try:
        expected = evaluate(source.decode("latin-1"), fuel=100_000)
    except TooManyThreads:
        assume(False)
    except (OutOfFuel, RecursionError):     # threads within threads: each has its frames
        assume(unknown)
    if unknown:
        assert run_for(SECONDS, source, args=("one", "zwei"), **options) in (0, 65, 70)
        return
    status, out, err = run_bytes(source, **options)
    assert status in (0, 65, 70)
    if b"\0" not in source:
        assert (status, out, err) == (expected.status, expected.out.encode("latin-1"),
                                      expected.err.encode("latin-1"))


@settings(max_examples=60, phases=PHASES)
@given(st.one_of(token_mutations(UNEVEN).map(str.encode), byte_mutations(UNEVEN)),
       st.sampled_from(OPTIONS))
def test_threads_and_natives_changed(source, options):
    agree(source, options)


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
@settings(max_examples=many(20_000), phases=PHASES)
@given(st.one_of(*(kind for seeds in (SEEDS, UNEVEN) for kind in (
           token_mutations(seeds).map(str.encode), byte_mutations(seeds)))),
       st.sampled_from(OPTIONS))
def test_many_changed(source, options):
    agree(source, options)
