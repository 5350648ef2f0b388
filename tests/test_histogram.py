"""The core's log-linear histogram, against the hdrhistogram package and its own promise."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcheap.core._testing import histogram

VALUES = st.lists(st.integers(0, 2**40), min_size=1, max_size=200)


@given(VALUES)
def test_every_value_is_counted_within_a_thousandth(values):
    rows = histogram(values)
    assert sum(count for _, count in rows) == len(values)
    uppers = [upper for upper, count in rows for _ in range(count)]
    for value, upper in zip(sorted(values), uppers, strict=True):
        assert value <= upper <= value + value // 1000


@given(VALUES)
def test_percentiles_agree_with_hdrhistogram(values):
    hdr = pytest.importorskip("hdrh.histogram", reason="hdrhistogram is not installed")
    reference = hdr.HdrHistogram(1, 2**41, 3)
    for value in values:
        reference.record_value(max(value, 1))
    uppers = [max(upper, 1) for upper, count in histogram(values) for _ in range(count)]
    for percentile in (50, 90, 99, 100):
        theirs = reference.get_value_at_percentile(percentile)
        rank = max(1, -(-len(values) * percentile // 100))
        ours = uppers[rank - 1]
        neighbours = (uppers[max(rank - 2, 0)], uppers[min(rank, len(uppers) - 1)])
        # Ranks are rounded differently by the two; buckets are not.
        assert any(abs(theirs - mine) <= mine // 500 + 1 for mine in (ours, *neighbours))


@given(st.integers(0, 2**63))
def test_whatever_is_recorded_is_counted(value):
    """Beyond the last edge (see docs/reference/benchmarks.md) the exact maximum still tells."""
    (upper, count), = histogram([value])
    assert count == 1 and (value <= upper <= value + value // 1000 or value >= 2**49)


@given(VALUES)
def test_edges_are_those_of_three_significant_digits_of_hdrhistogram(values):
    """The same buckets, for every value: HdrHistogram's highest equivalent value."""
    hdr = pytest.importorskip("hdrh.histogram", reason="hdrhistogram is not installed")
    reference = hdr.HdrHistogram(1, 2**41, 3)
    for value in values:
        (upper, _), = histogram([value])
        assert upper == reference.get_highest_equivalent_value(value)
