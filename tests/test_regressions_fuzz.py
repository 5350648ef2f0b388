"""What the fuzzers of tests/fuzz have found, each as small as it got."""
from __future__ import annotations

import numpy as np
import pytest

import gcheap
from gcheap.cli import build_parser
from gcheap.options import parse_size
from gcheap.stress import StressConfig

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
