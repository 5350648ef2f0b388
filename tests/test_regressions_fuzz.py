"""What the fuzzers of tests/fuzz have found, each as small as it got."""
from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from support import run_cleanly

import gcheap
from gcheap import failpoints
from gcheap.cli import build_parser
from gcheap.options import parse_size
from gcheap.stress import StressConfig
from gcheap.userfaultfd import Userfaultfd

ENORMOUS = 10**4301                     # neither int() nor repr() converts so many digits


class Index:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


# ---- sizes, options, policies, commands --------------------------------------------------

@pytest.mark.parametrize(("text", "nbytes"), [
    ("1.003KB", 1003), ("2.01kb", 2010), ("9007199254740993.0", 2**53 + 1),
    ("8191.999999999068677425384521484375TiB", 2**53 - 1024)])
def test_a_size_with_a_point_is_exact(text, nbytes):
    """Floats refused whole numbers of bytes, and rounded large ones."""
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("refuse", [
    lambda: parse_size(ENORMOUS), lambda: parse_size(Index(ENORMOUS)),
    lambda: parse_size(Index("no integer")), lambda: gcheap.Heap("1MiB", verify=ENORMOUS),
    lambda: gcheap.Heap("1MiB", backend=ENORMOUS), lambda: gcheap.policy.Factor(factor=ENORMOUS),
    lambda: gcheap.policy.Factor(factor=10**400), lambda: StressConfig(seconds=10**400),
    lambda: StressConfig(seed=ENORMOUS)])
def test_a_number_of_any_size_is_refused_as_an_option(refuse):
    """They were OverflowError, or ValueError of the repr() in the message."""
    with pytest.raises(gcheap.OptionError) as caught:
        refuse()
    assert len(str(caught.value)) < 600


def test_a_number_of_any_size_on_the_command_line(capsys):
    """OverflowError of math.isfinite() came out of argparse."""
    with pytest.raises(SystemExit):
        build_parser().parse_args(["stress", "--seconds", "9" * 400])
    args = build_parser().parse_args(["stress", "--mutators", "9" * 400])
    with pytest.raises(gcheap.OptionError, match="mutators"):
        args.run(args)


def test_a_capacity_that_compares_like_an_array():
    """`value == "min"` of an array is an array, and that has no truth."""
    with pytest.raises(gcheap.OptionError, match="capacity"):
        gcheap.Heap(np.array([1, 2]))


def test_a_workload_that_cannot_be_looked_up():
    """TypeError: unhashable."""
    with pytest.raises(gcheap.OptionError, match="workload"):
        StressConfig(workload=[])


# ---- shapes, values, arrays --------------------------------------------------------------

@pytest.mark.parametrize("declare", [
    lambda heap: heap.shape("S", raw=b","), lambda heap: heap.shape("S", refs=5),
    lambda heap: heap.attach().new_array(",", 1)], ids=["raw", "refs", "array"])
def test_a_shape_that_cannot_be_is_a_shape_error(any_heap, declare):
    """SyntaxError of numpy's parser, TypeError of tuple()."""
    with pytest.raises(gcheap.ShapeError):
        declare(any_heap)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("value", "error"), [
    (np.complex128(1 + 2j), TypeError), (np.complex64(1), TypeError), (1 + 0j, TypeError),
    (10**400, OverflowError), ("1", TypeError)])
def test_what_is_no_real_number_is_no_float(any_heap, any_mutator, dtype, value, error):
    """numpy's complex numbers lost their imaginary part with a warning."""
    ref = any_mutator.new(any_heap.shape("S", raw=[("it", dtype)]), it=0.5)
    with pytest.raises(error, match="S.it: "):
        ref.it = value
    assert ref.it == 0.5


@pytest.mark.parametrize(("dtype", "value"), [
    (">f4", 1e300), ("f2", 1e6), ("c8", complex(1, 1e39)), ("u1,i2", (np.int64(300), 1)),
    ("S2,f2", (b"abc", 1.0)), ("S2,f2", (b"ab", 1e6)), ("V4", np.void(b"12345")),
    ("M8[s]", np.datetime64("2020-01-01T00:00:00.5")), ("m8[s]", np.timedelta64(1500, "ms")),
    ("M8[s]", np.float32(1.5))])
def test_nothing_is_cut_on_its_way_through_numpy(any_heap, any_mutator, dtype, value):
    """It became infinity, was wrapped or lost its end, without a word."""
    array = any_mutator.new_array(dtype, 1)
    fixed = any_mutator.new(any_heap.shape("S", raw=[("it", dtype)]))
    with pytest.raises(OverflowError):
        array[0] = value
    with pytest.raises(OverflowError):
        fixed.it = value
    if not isinstance(value, tuple):
        with pytest.raises(OverflowError):
            array.copy_in(np.array([value]))
    assert not any(bytes(array))


@pytest.mark.parametrize("values", [[0.1, float("nan"), float("inf")], np.float64([0.1])])
def test_copy_in_rounds_floats_as_single_elements_do(any_mutator, values):
    """What float32 does not hold exactly, and every NaN, was refused."""
    array = any_mutator.new_array("f4", 3)
    array.copy_in(values)
    assert array.copy_out()[0] == np.float32(0.1)


def test_a_text_that_bytes_cannot_hold_says_so(any_mutator):
    """UnicodeEncodeError cannot be made from a message, and TypeError said so instead."""
    array = any_mutator.new_array("S5", 1)
    with pytest.raises(ValueError, match="does not fit"):
        array[0] = "\xe9"
    with pytest.raises(ValueError, match="do not fit"):
        any_mutator.new_array("S3", 1).copy_in(np.array(["2020-01-01"], "M8[s]"))


def test_an_integer_of_any_size_as_index_value_or_word(any_mutator):
    """The message could not be made: ValueError of int's digits."""
    array, slots = any_mutator.new_array("u1", 1), any_mutator.new_slots(1)
    with pytest.raises(IndexError):
        array[ENORMOUS]
    with pytest.raises(IndexError):
        slots[-ENORMOUS] = None
    with pytest.raises(OverflowError):
        array[0] = ENORMOUS
    with pytest.raises(TypeError):
        slots[0] = ENORMOUS
    with pytest.raises(OverflowError):
        gcheap.Tagged(ENORMOUS)


def test_a_place_that_is_no_integer_is_a_type_error(any_mutator):
    """AttributeError: no __index__."""
    with pytest.raises(TypeError, match="1.5"):
        any_mutator.new_array("u1", 4).copy_in(b"x", 1.5)


def test_events_by_no_number_are_a_type_error():
    """A Decimal that is no number raised InvalidOperation."""
    with Userfaultfd() as uffd, pytest.raises(TypeError):
        uffd.read_events(Decimal("NaN"))


# ---- the heap ----------------------------------------------------------------------------

def test_a_thread_may_enter_the_heap_while_a_pause_is_verified():
    """It says RUNNING for a moment before it sees the pause.  Verification took that for a mutator
    that runs, and aborted."""
    run_cleanly("""
        import threading
        import gcheap
        from gcheap.core import _testing
        with gcheap.Heap("1MiB", verify=1, safepoint_warning_ms=0) as heap:
            def enter():
                with heap.attach() as m:
                    _testing.enter_slowly(m.native(), 150, 500_000)
            threads = [threading.Thread(target=enter) for _ in range(3)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                heap.collect()
    """)


@pytest.mark.parametrize("point", ["weak.cleared", "weak.resurrected", "weak.done"])
def test_an_agent_is_there_while_its_registration_falls_due(concurrent, point):
    """Between the moment at which its object was found dead and the one at which the guardian could
    yield it, no report had the agent, and freeze() left it out."""
    with gcheap.Heap("4MiB", **concurrent) as heap, heap.attach() as m:
        shape = heap.shape("Agent", raw=[("key", "u8")])
        guardian = heap.guardian()
        guardian.register(m.new_bytes(b"dies"), m.new(shape, key=1))
        with failpoints.pause(point) as held:
            heap.collect(wait=False)
            held.wait()
            assert [tuple(row) for row in heap.census()] == [("Agent", "fixed", 1, 16)]
            assert [ref.key for ref in heap.walk()] == [1]
        heap.collect()
        assert guardian().key == 1
