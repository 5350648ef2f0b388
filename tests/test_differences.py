"""Mann and Whitney's test, Holm's correction, and verdicts: by hand, by brute force, by chance."""
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcheap.tools.differences import (
    ALPHA,
    Verdict,
    doubled_ranks,
    holm,
    judge,
    least_p,
    rank_sum_test,
    rank_sum_ways,
    repetitions_needed,
)

SHORT_LISTS = st.lists(st.integers(0, 6), min_size=1, max_size=5)


def test_ranks_are_doubled_and_ties_share_theirs():
    assert doubled_ranks([30, 10, 20]) == [6, 2, 4]
    assert doubled_ranks([5, 5, 1]) == [5, 5, 2]


@given(SHORT_LISTS, SHORT_LISTS)
def test_the_exact_test_is_that_of_all_ways_to_divide_the_values(a, b):
    values = [*a, *b]
    ranks = doubled_ranks(values)
    centre = len(a) * (len(values) + 1)
    distances = [abs(sum(ranks[i] for i in chosen) - centre)
                 for chosen in combinations(range(len(values)), len(a))]
    observed = abs(sum(ranks[:len(a)]) - centre)
    expected = sum(distance >= observed for distance in distances) / len(distances)
    assert rank_sum_test(a, b) == pytest.approx(expected)
    assert rank_sum_ways(ranks, len(a)).sum() == len(distances)


def test_known_values():
    """Lists that do not overlap: 2 of C(10, 5) and of C(18, 9) ways are as extreme."""
    assert rank_sum_test(range(5), range(10, 15)) == pytest.approx(2 / 252)
    assert rank_sum_test(range(9), range(20, 29)) == pytest.approx(2 / 48620)
    assert rank_sum_test([1, 1, 1], [1, 1, 1]) == 1


def test_long_lists_are_approximated():
    """Exact where both are computed, to a few parts in a hundred."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=40), rng.normal(0.5, size=40)
    exact = rank_sum_test(a, b)
    longer = rank_sum_test([*a, 0.0], [*b, 0.0])        # 82 values: approximated
    assert 0.5 < longer / exact < 2
    assert rank_sum_test([1] * 50, [1] * 50) == 1
    assert rank_sum_test([1] * 50, [2] * 50) < 1e-15


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_how_many_repetitions_tell_anything():
    assert least_p(3, 3) == pytest.approx(0.1) and least_p(1, 1) == 1
    assert repetitions_needed(1) == 4 and repetitions_needed(12) == 6


A, HIGHER = [10, 11, 12, 10, 11, 12, 10], [20, 21, 22, 20, 21, 22, 20]


@pytest.mark.parametrize(("before", "after", "better", "word"), [
    (A, HIGHER, "less", "worse"), (A, HIGHER, "more", "better"), (A, HIGHER, None, "changed"),
    (HIGHER, A, "less", "better"), (HIGHER, A, "more", "worse"),
    (A, A, "less", "same"), (A, [11, 10, 12, 11, 10, 12, 13], "less", "same"),
    (A[:3], HIGHER[:3], "less", "cannot tell"), ([], A, "less", "cannot tell"),
])
def test_verdicts(before, after, better, word):
    verdict, = judge([(before, after, better)])
    assert verdict.word == word
    assert (verdict.p is None) == (word == "cannot tell")


def test_what_cannot_tell_costs_the_others_nothing():
    few = [(A[:2], HIGHER[:2], "less")] * 30
    verdicts = judge([*few, (A[:4], HIGHER[:4], "less")])
    assert verdicts[:30] == [Verdict(None, None, "cannot tell")] * 30
    assert verdicts[30].word == "worse" and verdicts[30].adjusted == verdicts[30].p


def test_many_comparisons_raise_few_false_alarms():
    """100 comparisons of 40 figures that do not differ: an alarm in about 5, of this seed."""
    rng = np.random.default_rng(11)
    alarms = 0
    for _ in range(100):
        pairs = [(rng.exponential(size=9), rng.exponential(size=9), "less") for _ in range(40)]
        alarms += any(verdict.word != "same" for verdict in judge(pairs))
    assert alarms <= 100 * ALPHA * 2


def test_a_planted_difference_among_many_is_found_alone():
    rng = np.random.default_rng(5)
    pairs = [(rng.normal(100, 5, 12), rng.normal(100, 5, 12), "less") for _ in range(50)]
    pairs[17] = (pairs[17][0], pairs[17][1] + 30, "less")
    assert [at for at, verdict in enumerate(judge(pairs)) if verdict.word != "same"] == [17]
