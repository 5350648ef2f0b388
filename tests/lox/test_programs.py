"""Each program of programs/ does what its comments expect, in every mode, and as clox does it."""
from __future__ import annotations

import pytest

from lox.evaluator import evaluate
from lox.expectations import NATIVES, PROGRAMS, THREADS, check, expected_of, names, source_of
from lox.running import MODES, options_of, run

PLAIN = names(*(path.name for path in PROGRAMS.iterdir() if path.name not in (NATIVES, THREADS)))


@pytest.mark.parametrize("name", PLAIN)
def test_the_evaluator_agrees_with_the_comments(name):
    """The comments were written by hand, the evaluator from the book: neither from the VM."""
    done = evaluate(source_of(name))
    check(expected_of(source_of(name)), done.status, done.out, done.err)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PLAIN)
def test_a_program_does_what_it_should(name, mode):
    """To the last byte: all of the trace and every compile error too."""
    assert run(source_of(name), **options_of(mode)) == evaluate(source_of(name))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", names(NATIVES))
def test_natives_beyond_the_book(name, mode):
    done = run(source_of(name), args=("one", "zwei"), **options_of(mode))
    check(expected_of(source_of(name)), done.status, done.out, done.err)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", names(THREADS))
def test_threads(name, mode):
    done = run(source_of(name), **(options_of(mode) | {"capacity": "64MiB"}))
    check(expected_of(source_of(name)), done.status, done.out, done.err)


def test_every_program_expects_something():
    silent = {"scanning/only_comments"}
    for name in set(names()) - silent:
        expected = expected_of(source_of(name))
        assert expected.out or expected.errors, name
