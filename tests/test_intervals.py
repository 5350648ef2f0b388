"""Bootstrap intervals: of a median, of a ratio, and what few repetitions can cover."""
import numpy as np
import pytest

from gcheap.tools.intervals import bootstrap, coverage, interval_facts, ratio, summary


def test_summaries():
    assert summary([3, 1, 2]) == {"median": 2, "low": 1, "high": 3, "rounds": 3}
    assert summary([7]) == {"median": 7, "low": 7, "high": 7, "rounds": 1}
    assert summary([]) == {"median": None, "low": None, "high": None, "rounds": 0}
    row = summary(range(1, 21))
    assert row["median"] == 10.5 and 5 <= row["low"] <= 8 and 13 <= row["high"] <= 16


def test_the_same_values_have_the_same_interval():
    values = [1.0, 5.0, 2.0, 9.0, 4.0, 4.5, 3.0]
    assert summary(values) == summary(list(values))


def test_the_interval_covers_as_often_as_it_says():
    """Of medians of a skewed distribution; the number of misses is that of this seed."""
    rng = np.random.default_rng(7)
    truth = float(np.log(2))
    hits = 0
    for _ in range(200):
        row = summary(rng.exponential(size=15))
        hits += row["low"] <= truth <= row["high"]
    assert 180 <= hits <= 200


def test_what_few_rounds_cover():
    assert [coverage(n) for n in (1, 2, 5)] == [0.0, 0.5, 0.9375]
    assert coverage(6) == coverage(100) == 0.95
    assert interval_facts(0)["coverage"] is None
    with pytest.raises(ValueError, match="at least one"):
        coverage(0)


def test_a_ratio_of_medians():
    row = ratio([10, 10, 10, 10], [15, 15, 15, 15])
    assert row == {"ratio": 1.5, "low": 1.5, "high": 1.5}
    row = ratio([9, 10, 11, 10, 9, 12], [18, 20, 22, 20, 19, 24])
    assert row["ratio"] == 2 and row["low"] < 2 < row["high"]
    assert ratio([], [1]) == ratio([1], []) == ratio([0], [1]) == {
        "ratio": None, "low": None, "high": None}


def test_a_bound_that_is_no_number_is_null():
    row = ratio([0, 1], [1, 1])         # some resamples have a median of 0 below
    assert row["ratio"] == 2 and row["low"] == 1 and row["high"] is None


def test_any_statistic_of_several_groups():
    low, high = bootstrap(lambda a, b: a.mean(axis=-1) - b.mean(axis=-1), [4, 4], [1, 1, 1])
    assert (low, high) == (3, 3)
