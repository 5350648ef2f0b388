"""Whether two lists of repetitions differ by more than noise: the statistics of `gcheap compare`.

* The test is Mann and Whitney's (1947): ranks alone, no shape of the distribution is assumed.
  Exact, ties included, while the lists are short; by the normal approximation beyond.
* Many figures are compared at once, so some would differ by chance: Holm's procedure (1979) keeps
  the probability that any figure at all is called different, when none is, at 5 % at most.
* With few repetitions even lists that do not overlap are no evidence.  Such a figure is not "the
  same": nothing can be told.
"""
from dataclasses import dataclass
from math import comb, erfc, sqrt

import numpy as np

ALPHA = 0.05
EXACT_UP_TO = 80                # values in both lists together
MOST_REPETITIONS = 1000         # that advice asks for


def rank_sum_test(a, b):
    """The two-sided p of Mann and Whitney's test of two lists."""
    ranks = doubled_ranks([*a, *b])
    observed = sum(ranks[:len(a)])
    # Twice the mean of a rank sum; doubled as ranks are, and a whole number.
    centre = len(a) * (len(a) + len(b) + 1)
    if len(ranks) > EXACT_UP_TO:
        return _approximate(ranks, len(a), len(b), observed - centre)
    ways = rank_sum_ways(ranks, len(a))
    sums = np.arange(len(ways))
    as_far = np.abs(sums - centre) >= abs(observed - centre)
    return float(min(1.0, ways[as_far].sum() / ways.sum()))


def doubled_ranks(values):
    """Twice the rank of each value; equal values share the mean of their ranks."""
    values = np.asarray(values, float)
    order = np.sort(values)
    return (np.searchsorted(order, values, "left")
            + np.searchsorted(order, values, "right") + 1).tolist()


def rank_sum_ways(ranks, count):
    """In how many ways `count` of the ranks have each sum."""
    ways = np.zeros((count + 1, sum(ranks) + 1))
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :ways.shape[1] - rank].copy()
    return ways[count]


def _approximate(ranks, of_a, of_b, distance):
    n = of_a + of_b
    _, ties = np.unique(ranks, return_counts=True)
    spread = of_a * of_b / 12 * (n + 1 - float((ties ** 3 - ties).sum()) / (n * (n - 1)))
    if spread == 0:
        return 1.0
    # `distance` is doubled; half a rank towards the mean corrects for continuity.
    return erfc(max(0.0, abs(distance) / 2 - 0.5) / sqrt(2 * spread))


def least_p(of_a, of_b):
    """The p of two lists that do not overlap at all."""
    return min(1.0, 2 / comb(of_a + of_b, of_a))


def repetitions_needed(comparisons):
    """How many repetitions on each side can tell anything among so many comparisons."""
    return next(n for n in range(1, MOST_REPETITIONS)
                if least_p(n, n) * comparisons <= ALPHA)


def holm(ps):
    """Holm's adjusted p of each: those up to ALPHA stand out, taken together."""
    order = sorted(range(len(ps)), key=lambda at: ps[at])
    adjusted, greatest = [0.0] * len(ps), 0.0
    for place, at in enumerate(order):
        greatest = max(greatest, min(1.0, ps[at] * (len(ps) - place)))
        adjusted[at] = greatest
    return adjusted


@dataclass(frozen=True)
class Verdict:
    """One figure: p of its test, p adjusted for all of them, and what follows.

    word    "better", "worse", "changed" (a figure that has no good side), "same" (nothing stands
            out), "cannot tell" (too few repetitions, whatever they had been)
    """

    p: float | None
    adjusted: float | None
    word: str


def able(lengths):
    """Which of some pairs of lists, of so many values each, can tell anything if all those that can
    are compared together: the largest such set."""
    least = [least_p(*pair) if all(pair) else 1.0 for pair in lengths]
    for count in range(len(least), 0, -1):
        limit = sorted(least)[count - 1]
        if limit * count <= ALPHA:
            return [p <= limit for p in least]
    return [False] * len(least)


def judge(pairs):
    """A Verdict for each (before, after, better): two lists, and "less", "more" or None.

    Figures that cannot tell anything are no comparisons, and cost the others nothing.
    """
    tellable = able([(len(before), len(after)) for before, after, _ in pairs])
    ps = [rank_sum_test(before, after)
          for told, (before, after, _) in zip(tellable, pairs, strict=True) if told]
    rest = iter(zip(ps, holm(ps), strict=True))
    return [Verdict(*(found := next(rest)), _word(found[1], *pair)) if told
            else Verdict(None, None, "cannot tell")
            for told, pair in zip(tellable, pairs, strict=True)]


def _word(adjusted, before, after, better):
    if adjusted > ALPHA:
        return "same"
    # Which way the ranks went, not the medians: that is what was tested.
    ranks = doubled_ranks([*before, *after])
    went_up = sum(ranks[:len(before)]) < len(before) * (len(ranks) + 1)
    if better is None:
        return "changed"
    return "better" if went_up == (better == "more") else "worse"
