"""Fuzzing what options are made of: sizes, numbers, policies, the environment, the command line.

Each value is either accepted, and then means what it says and reads back, or it is OptionError.
"""
from __future__ import annotations

import contextlib
import io
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gcheap
from fuzz.anything import ANYTHING, HUGE, NUMBERS
from gcheap import policy
from gcheap.cli import build_parser
from gcheap.options import BY_NAME, OPTIONS, format_size, parse_size, resolve
from gcheap.policy import parse_policy
from gcheap.stress import StressConfig

UNITS = {"": 1, "B": 1, "k": 2**10, "KiB": 2**10, "KB": 10**3, "m": 2**20, "MiB": 2**20,
         "MB": 10**6, "g": 2**30, "GiB": 2**30, "GB": 10**9, "T": 2**40, "TiB": 2**40}


def refused(message: str) -> None:
    """One line, of a length that somebody reads."""
    assert message and "\n" not in message and len(message) < 2000, message


@example("1", "003", "KB", False, "")
@example("9007199254740993", "0", "", False, " ")
@given(st.integers(0, 10**20).map(str), st.from_regex(r"[0-9]{0,12}", fullmatch=True),
       st.sampled_from(list(UNITS)), st.booleans(), st.sampled_from(["", " ", "\t"]))
def test_a_size_is_exact_or_refused(whole, fraction, unit, lower, space):
    text = f"{whole}{'.' + fraction if fraction else ''}{space}{unit.lower() if lower else unit}"
    exact = Fraction(f"{whole}.{fraction or 0}") * UNITS[unit]
    if exact.denominator == 1 and 0 < exact < 2**63:
        assert parse_size(text) == exact
    else:
        with pytest.raises(gcheap.OptionError) as caught:
            parse_size(text)
        refused(str(caught.value))


@given(st.integers(1, 2**63 - 1))
def test_a_size_reads_back(nbytes):
    assert parse_size(nbytes) == parse_size(str(nbytes)) == parse_size(f"{nbytes}B") == nbytes
    number, unit = format_size(nbytes).split()              # for people: rounded
    assert abs(Fraction(number) * UNITS[unit] - nbytes) <= nbytes / 10


@example(HUGE)
@given(ANYTHING)
def test_a_size_of_any_kind(value):
    try:
        nbytes = parse_size(value)
    except gcheap.OptionError as error:
        refused(str(error))
    else:
        assert type(nbytes) is int and 0 < nbytes < 2**63


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
@settings(max_examples=60)
@given(data=st.data())
def test_an_option_of_any_kind(option, data):
    value = data.draw(st.one_of(ANYTHING, st.sampled_from([option.default, *option.choices])))
    try:
        accepted = option.validate(value)
    except gcheap.OptionError as error:
        refused(str(error))
        assert option.name in str(error)
        return
    assert option.validate(accepted) == accepted
    assert option.validate(str(accepted)) == accepted       # what the environment would hold
    if option.choices:
        assert accepted in option.choices


TEXTS = st.one_of(st.text(max_size=12), st.sampled_from(
    ["fixed", "move", "1", "16", "0", "64MiB", "min", "1e3", "factor:2", "none", "always", " 4 ",
     "1_0", "+2", "0x10", "٣", "handler"]))
ENVIRONMENTS = st.dictionaries(
    st.one_of(st.sampled_from([option.env for option in OPTIONS]),
              st.text(max_size=6).map("GCHEAP_".__add__), st.text(max_size=6)),
    TEXTS, max_size=4)


@given(ENVIRONMENTS, st.dictionaries(st.sampled_from([*BY_NAME, "bakend", ""]), TEXTS, max_size=3))
def test_any_environment(environ, given_options):
    try:
        values = resolve(given_options, environ)
    except gcheap.OptionError as error:
        refused(str(error))
        return
    assert values.keys() == BY_NAME.keys()
    assert all(name in BY_NAME for name in given_options)
    assert {name for name in environ if name.startswith("GCHEAP_")} <= (
        {option.env for option in OPTIONS} | {"GCHEAP_BUILD"})
    assert resolve(values, {}) == values


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from([n for n in BY_NAME if n not in ("capacity", "backend")]),
                       ANYTHING, max_size=3))
def test_a_heap_with_any_options(options):
    """What is accepted makes a heap that works; what is not leaves nothing behind."""
    try:
        heap = gcheap.Heap("8MiB", **options)
    except gcheap.OptionError as error:
        refused(str(error))
        return
    with heap, heap.attach() as m:
        kept = m.new_bytes(b"kept")
        heap.collect()
        assert bytes(kept) == b"kept"


# ---- policies ----------------------------------------------------------------------------

@example("factor", HUGE, 1 << 20)
@given(st.sampled_from(["factor", "membalancer"]), st.one_of(ANYTHING, NUMBERS),
       st.one_of(ANYTHING, st.sampled_from(["64KiB", "1MiB"])))
def test_a_policy_of_any_kind(name, parameter, minimum):
    try:
        made = (policy.Factor(minimum, parameter) if name == "factor"
                else policy.MemBalancer(parameter, minimum))
    except gcheap.OptionError as error:
        refused(str(error))
        return
    assert parse_policy(str(made)) == made


@given(st.one_of(st.text(max_size=20), st.from_regex(
    r"(fixed|factor|MemBalancer)? ?(: ?[0-9e.+-]{0,6})?"
    r"(, ?(minimum|max)? ?= ?[0-9a-zMiB.]{0,6}){0,2}",
    fullmatch=True)))
def test_the_text_of_a_policy(text):
    try:
        made = parse_policy(text)
    except gcheap.OptionError as error:
        refused(str(error))
        return
    assert parse_policy(str(made)) == made


# ---- the command line --------------------------------------------------------------------

def _flags() -> list[str]:
    """Every flag of every command, from the help texts."""
    parser, found = build_parser(), set()
    todo = [parser]
    while todo:
        at = todo.pop()
        for action in at._actions:
            found |= set(action.option_strings)
            if isinstance(action.choices, dict):
                todo += action.choices.values()
    return sorted(found)


WORDS = st.one_of(
    st.sampled_from(["stress", "bench", "doctor", "options", "uffd", "backends", "pauses", "churn",
                     "-", "--", "-1", "0", "1", "64MiB", "min", "fixed", "", "1e400", "nan",
                     "9" * 400, "9" * 5000, *_flags()]),
    st.text(max_size=6))


@example(["stress", "--mutators", "9" * 400])
@example(["stress", "--seed", "9" * 5000])
@settings(max_examples=300)
@given(st.lists(WORDS, max_size=6))
def test_any_command_line(words):
    """It is understood, or one line on standard error and status 2 (0 after --help)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            args = build_parser().parse_args(words)
        except SystemExit as end:
            assert end.code in (0, 2)
            if end.code == 2:
                assert err.getvalue().endswith("\n"), err.getvalue()
                assert err.getvalue().count("\n") == 1, err.getvalue()
            return
    assert callable(args.run)


@example("seconds", HUGE)
@example("settings", np.array([1, 2]))
@settings(max_examples=200)
@given(st.sampled_from(list(StressConfig.__dataclass_fields__)), ANYTHING)
def test_a_stress_run_of_any_kind(name: str, value: Any):
    try:
        config = StressConfig(**{name: value})
    except gcheap.OptionError as error:
        refused(str(error))
        return
    assert config.capacity > config.live and config.mutators >= 1 and config.seconds > 0
