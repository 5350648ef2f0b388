"""Medians and ratios with intervals from the repetitions themselves, by the bootstrap.

Resampling (B. Efron, "Bootstrap methods: another look at the jackknife", 1979) assumes no shape of
the distribution, and serves any figure that is computed from repetitions, such as a ratio of
medians or a least over configurations.  The resamples are drawn with a fixed seed: the same
document has the same intervals.
"""
from statistics import median

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 4000
MOST_DRAWN = 1 << 16            # numbers drawn at once
METHOD = (
    f"percentile bootstrap of the rounds, {RESAMPLES} resamples, {CONFIDENCE:.0%}; with fewer than "
    "6 rounds even the lowest to the highest cover less (see `coverage`)"
)


def coverage(rounds):
    """How probably an interval of so many rounds holds the median, at best.

    The lowest to the highest of n values hold it with probability 1 - 2**(1 - n), whatever the
    distribution; no interval made of the values can do better.
    """
    if rounds < 1:
        raise ValueError(f"an interval needs at least one round, not {rounds}")
    return min(CONFIDENCE, 1 - 2.0 ** (1 - rounds))


def interval_facts(rounds):
    """What a document says about its intervals."""
    return {"method": METHOD, "coverage": coverage(rounds) if rounds else None}


def summary(values):
    """`{median, low, high, rounds}` of a list of numbers; all null when it is empty."""
    values = [float(value) for value in values]
    if not values:
        return {"median": None, "low": None, "high": None, "rounds": 0}
    low, high = bootstrap(lambda sample: np.median(sample, axis=-1), values)
    return {"median": median(values), "low": low, "high": high, "rounds": len(values)}


def ratio(below, above):
    """`{ratio, low, high}` of the medians of two independent lists: above / below.

    All null when a list is empty, or the ratio is not a number: a median below is 0.
    """
    if not len(below) or not len(above) or not median(below):
        return {"ratio": None, "low": None, "high": None}

    def of_medians(lower, upper):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.median(upper, axis=-1) / np.median(lower, axis=-1)

    low, high = bootstrap(of_medians, below, above)
    return {"ratio": median(above) / median(below), "low": low, "high": high}


def bootstrap(statistic, *groups):
    """(low, high) of `statistic(*resamples)`; each group is resampled by itself.

    `statistic` takes one array a group, of shape (resamples, values of the group), and returns one
    number a resample.  None for a bound that is no finite number.
    """
    rng = np.random.default_rng(1)
    groups = [np.asarray(group, float) for group in groups]
    at_once = max(1, MOST_DRAWN // max(len(group) for group in groups))
    found = []
    for start in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - start)
        found.append(statistic(*(
            group[rng.integers(0, len(group), (count, len(group)))] for group in groups)))
    tail = (1 - CONFIDENCE) / 2
    # An infinite resample (nothing below a ratio) must not turn its neighbours into NaN.
    bounds = np.quantile(np.concatenate(found), [tail, 1 - tail], method="nearest")
    return tuple(float(bound) if np.isfinite(bound) else None for bound in bounds)
