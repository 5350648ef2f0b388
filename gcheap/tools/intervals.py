"""A median with an interval that assumes nothing about the distribution."""
from math import comb
from statistics import median

CONFIDENCE = 0.95
METHOD = (
    "order statistics of the rounds (the sign test's interval of the median): the narrowest "
    "symmetric pair that covers it with at least 95 %; with fewer than 6 rounds the lowest "
    "and the highest, which cover less (see `coverage`)"
)


def order_interval(rounds):
    """(k, coverage): the interval runs from the k-th lowest to the k-th highest value.

    `k` counts from 0 and `coverage` is the probability that the interval holds the median,
    whatever the distribution (exact, by the binomial distribution with p = 1/2).
    """
    if rounds < 1:
        raise ValueError(f"an interval needs at least one round, not {rounds}")
    k, coverage = 0, _coverage(rounds, 0)
    while 2 * (k + 1) < rounds and _coverage(rounds, k + 1) >= CONFIDENCE:
        k += 1
        coverage = _coverage(rounds, k)
    return k, coverage


def summary(values):
    """`{median, low, high, rounds}` of a list of numbers; all null when it is empty."""
    ordered = sorted(values)
    if not ordered:
        return {"median": None, "low": None, "high": None, "rounds": 0}
    k, _ = order_interval(len(ordered))
    return {"median": median(ordered), "low": ordered[k], "high": ordered[-1 - k],
            "rounds": len(ordered)}


def _coverage(rounds, k):
    outside = sum(comb(rounds, i) for i in range(k + 1))
    return max(0.0, 1 - 2 * outside / 2 ** rounds)
