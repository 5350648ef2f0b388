"""Minimum mutator utilization against brute force over every position of the window."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcheap.workloads.mmu import minimum_utilization


@st.composite
def runs(draw):
    """(starts, durations, begin, end): gaps in order, some beyond the ends of the run."""
    starts, durations, at = [], [], draw(st.integers(0, 30))
    for _ in range(draw(st.integers(0, 8))):
        at += draw(st.integers(0, 20))
        durations.append(draw(st.integers(1, 25)))
        starts.append(at)
        at += durations[-1]
    begin = draw(st.integers(0, 40))
    return starts, durations, begin, begin + draw(st.integers(1, 150))


def brute_force(starts, durations, begin, end, window):
    """Every gap ends on a whole nanosecond, so the worst window starts on one."""
    busy = np.zeros(1000, dtype=int)
    for start, duration in zip(starts, durations, strict=True):
        busy[start:start + duration] = 1
    return min(1 - busy[at:at + window].sum() / window
               for at in range(begin, end - window + 1))


@given(runs(), st.integers(1, 60))
def test_equals_brute_force(run, window):
    starts, durations, begin, end = run
    if end - begin < window:
        assert minimum_utilization(starts, durations, begin, end, window) is None
    else:
        assert minimum_utilization(starts, durations, begin, end, window) == pytest.approx(
            brute_force(starts, durations, begin, end, window), abs=1e-12)


def test_without_gaps_all_time_is_the_mutators():
    assert minimum_utilization([], [], 0, 100, 10) == 1.0


def test_window_inside_a_gap_leaves_nothing():
    assert minimum_utilization([40], [20], 0, 100, 10) == 0.0


def test_times_of_a_monotonic_clock_lose_no_precision():
    hour = 3600 * 10**9
    begin = 400 * 24 * hour + 1
    starts = np.array([begin + 5_000_001, begin + 5_999_999], dtype="u8")
    durations = np.array([100_000, 50_000], dtype="u8")
    # Both gaps together span 1,049,998 ns: a window of 1 ms misses 49,998 of them.
    got = minimum_utilization(starts, durations, begin, begin + 10**7, 1_000_000)
    assert got == pytest.approx(1 - (150_000 - 49_998) / 1_000_000, abs=1e-12)


def test_a_window_is_longer_than_nothing():
    with pytest.raises(ValueError, match="window 0"):
        minimum_utilization([], [], 0, 10, 0)


@given(runs(), st.integers(1, 60), st.integers(1, 7))
def test_is_exact_whatever_the_unit_of_time(run, window, factor):
    """Positions between whole nanoseconds are no worse: a finer clock finds the same minimum."""
    starts, durations, begin, end = run
    coarse = minimum_utilization(starts, durations, begin, end, window)
    fine = minimum_utilization([factor * start for start in starts],
                               [factor * duration for duration in durations],
                               factor * begin, factor * end, factor * window)
    assert fine == (None if coarse is None else pytest.approx(coarse, abs=1e-12))


@given(runs(), st.integers(1, 60))
def test_a_window_twice_as_long_is_no_worse_than_its_halves(run, window):
    starts, durations, begin, end = run
    if end - begin >= 2 * window:
        assert minimum_utilization(starts, durations, begin, end, 2 * window) >= \
            minimum_utilization(starts, durations, begin, end, window) - 1e-12
