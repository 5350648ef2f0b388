"""Percentiles of histograms and of samples, one definition for all that gcheap reports.

The nearest-rank definition: the q-th percentile is the smallest recorded value that at
least q of all values do not exceed.  A histogram reports the upper edge of a bucket (three
significant digits), never more than the exact maximum.  With no sample there is no
percentile: None.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

LINEAR = 2048  # gcheap/core/events.pxd: values below it have a bucket each
PER_OCTAVE = 1024  # ... and above it every power of two is cut in so many


def rank(q: float, count: int) -> int:
    """The 1-based nearest rank of quantile `q` (0..1) among `count` values."""
    # The decimal that was written, not its binary neighbour: 0.999 of 1000 is 999.
    return min(count, max(1, math.ceil(Fraction(repr(q)) * count)))


def of_histogram(values, counts, maximum: int, q: float) -> int | None:
    """Quantile `q` (0..1) of a histogram given as edges and counts, None when it is empty."""
    total = int(np.sum(counts, dtype=np.uint64))
    if total == 0:
        return None
    if q >= 1:
        return int(maximum)
    below = np.cumsum(counts, dtype=np.uint64)
    at = int(np.searchsorted(below, np.uint64(rank(q, total))))
    return min(int(values[at]), int(maximum))


def of_samples(samples, q: float) -> int | float | None:
    """Quantile `q` (0..1) of an array of samples, None when there is none."""
    samples = np.asarray(samples)
    if samples.size == 0:
        return None
    at = rank(q, samples.size) - 1
    return np.partition(samples, at)[at].item()


def difference(before, after):
    """The histogram of what was recorded between two looks at a growing one.

    The maximum is exact when it grew in between; otherwise it is the edge of the highest
    bucket that did.
    """
    values = np.asarray(after[0], dtype=np.uint64)
    counts = np.array(after[1], dtype=np.int64)
    # Every bucket that was there is there again, if perhaps with a higher edge: that of the
    # greatest value is cut at the maximum, which may have grown.
    old = np.searchsorted(values, np.asarray(before[0], dtype=np.uint64))
    np.subtract.at(counts, old, np.asarray(before[1], dtype=np.int64))
    grew = counts > 0
    values, counts = values[grew], counts[grew].astype(np.uint64)
    if values.size == 0:
        return values, counts, 0
    maximum = after[2] if after[2] > before[2] else min(int(values[-1]), int(after[2]))
    return values, counts, int(maximum)


def histogram_of(samples):
    """(edges, counts, maximum) of samples, with the buckets of the native histograms."""
    samples = np.asarray(samples, dtype=np.uint64)
    if samples.size == 0:
        return samples, samples.copy(), 0
    # A frexp of the float is one too high where rounding carries into the next power of two.
    msb = np.frexp(samples.astype(np.float64))[1].astype(np.int64) - 1
    msb -= np.right_shift(samples, np.maximum(msb, 0).astype(np.uint64)) == 0
    shift = np.maximum(msb - 10, 0).astype(np.uint64)
    upper = (((samples >> shift) + np.uint64(1)) << shift) - np.uint64(1)
    values, counts = np.unique(np.where(samples < LINEAR, samples, upper), return_counts=True)
    maximum = int(samples.max())
    values[-1] = min(int(values[-1]), maximum)
    return values, counts.astype(np.uint64), maximum


def merged(histograms):
    """One histogram of all that these hold."""
    histograms = [h for h in histograms if len(h[0])]
    if not histograms:
        return np.zeros(0, "u8"), np.zeros(0, "u8"), 0
    values, at = np.unique(np.concatenate([h[0] for h in histograms]).astype("u8"),
                           return_inverse=True)
    counts = np.zeros(values.size, "u8")
    np.add.at(counts, at, np.concatenate([h[1] for h in histograms]).astype("u8"))
    return values, counts, max(int(h[2]) for h in histograms)


def mean_and_deviation(values, counts):
    """Mean and standard deviation of a histogram, within its three digits; None when empty."""
    counts = np.asarray(counts, dtype=np.float64)
    total = counts.sum()
    if not total:
        return None, None
    values = np.asarray(values, dtype=np.float64)
    mean = float((values * counts).sum() / total)
    return mean, float(np.sqrt((((values - mean) ** 2) * counts).sum() / total))
