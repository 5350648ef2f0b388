"""Percentiles against numpy's, and the difference of two looks at one histogram."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcheap.percentiles import difference, of_histogram, of_samples, rank

QUANTILES = st.sampled_from([0.5, 0.9, 0.99, 0.999, 0.9999, 1.0])
SAMPLES = st.lists(st.integers(0, 10**12), min_size=1, max_size=200)


@given(SAMPLES, QUANTILES)
def test_nearest_rank_of_samples(samples, q):
    assert of_samples(samples, q) == sorted(samples)[rank(q, len(samples)) - 1]


def exact(samples):
    values, counts = np.unique(np.array(samples, dtype="u8"), return_counts=True)
    return values, counts.astype("u8"), max(samples)


@given(SAMPLES, QUANTILES)
def test_a_histogram_of_exact_values_agrees_with_its_samples(samples, q):
    assert of_histogram(*exact(samples), q) == of_samples(samples, q)


@pytest.mark.parametrize(("q", "count", "expected"), [
    (0.5, 1, 1), (0.5, 2, 1), (0.5, 3, 2), (0.99, 100, 99), (0.999, 1000, 999),
    (0.9999, 9999, 9999), (1.0, 7, 7)])
def test_rank_takes_the_decimal_as_written(q, count, expected):
    assert rank(q, count) == expected


def test_no_sample_has_no_percentile():
    nothing = np.array([], dtype="u8")
    assert of_samples([], 0.5) is None
    assert of_histogram(nothing, nothing, 0, 0.99) is None


def test_a_bucket_edge_never_exceeds_the_maximum():
    assert of_histogram(np.array([4095]), np.array([3]), 4000, 0.5) == 4000


@given(st.lists(st.integers(0, 5000), max_size=50), SAMPLES)
def test_difference_holds_what_came_between(earlier, later):
    before = exact(earlier) if earlier else (np.array([], "u8"), np.array([], "u8"), 0)
    values, counts, maximum = difference(before, exact(earlier + later))
    expected = exact(later)
    assert values.tolist() == expected[0].tolist()
    assert counts.tolist() == expected[1].tolist()
    assert maximum == expected[2]


def test_the_cut_edge_of_the_greatest_bucket_may_grow():
    edges = [10, 4090], [1, 2], 4090                # the bucket's own edge is 4095
    later = [10, 4095, 9000], [1, 5, 1], 9000
    values, counts, maximum = difference(edges, later)
    assert (values.tolist(), counts.tolist(), maximum) == ([4095, 9000], [3, 1], 9000)
