"""Each program of programs/ does what its comments expect, in every mode, and as clox does it."""
from __future__ import annotations

import pytest

from lox.evaluator import Outcome, evaluate
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


@pytest.mark.soak("the same few programs, many times over")
@pytest.mark.parametrize("name", names(THREADS))
def test_threads_in_many_orders(name, rng):
    for _ in range(40):
        mode = options_of(rng.choice(list(MODES)))
        more = {"verify": rng.choice([0, 2, 3]), "unit_pages": rng.choice([1, 16]),
                "delay_placements_us": rng.choice([0, 50]), "capacity": "64MiB",
                "gc_stress": rng.choice([1, 2, 5, 20])}
        done = run(source_of(name), **(mode | more))
        check(expected_of(source_of(name)), done.status, done.out, done.err)


@pytest.mark.parametrize("unit_pages", [1, 16])
def test_heap_used_goes_in_steps_of_objects(unit_pages):
    """Two words and the elements, and one more of ours; no cycle runs in so short a program."""
    done = run("var before = heapUsed();\narray(1); print heapUsed() - before;\n"
               "array(100); print heapUsed() - before;\n", unit_pages=unit_pages)
    assert done == Outcome(0, f"{4 * 8}\n{(4 + 103) * 8}\n", "")


def test_an_error_in_a_thread_without_frames():
    """What was spawned could not be called: nothing had begun, so there is no trace."""
    done = run("fun f(a) {}\nprint join(spawn(f));")
    assert (done.status, done.out, done.err) == (
        70, "nil\n", "Expected 1 arguments but got 0.\n")


@pytest.mark.parametrize("stress", [0, 1, 5])
def test_a_class_that_another_thread_declares_again(stress):
    """Either all goes well, or one error says what went on; classes are never half there."""
    source = """
        class C { m() { return 1; } }
        fun declarer() {
          for (var i = 0; i < 60; i = i + 1) { redeclare(); if (C().m() != 1) print "wrong"; }
        }
        fun redeclare() { spoil(); }
        fun spoil() { class D < C { m() { return super.m(); } } C = D; C = Base; }
        class Base { m() { return 1; } }
        C = Base;
        var a = spawn(declarer);
        var b = spawn(declarer);
        join(a); join(b);
        print "done";
    """
    assert run(source, gc_stress=stress) == Outcome(0, "done\n", "")


def test_every_program_expects_something():
    silent = {"scanning/only_comments"}
    for name in set(names()) - silent:
        expected = expected_of(source_of(name))
        assert expected.out or expected.errors, name
