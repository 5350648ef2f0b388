"""The lower-bound overhead of a collector: how much more it costs than the best that is known.

Z. Cai, S. Blackburn, M. Bond, M. Maas, "Distilling the real cost of production garbage collectors",
ISPASS 2022 (arXiv 2112.07880).  What a program would cost without a collector cannot be measured.
But each configuration's cost, less what of it is collection for certain, is more than that, and so
is the least of them, the *distilled* cost.  Over it

    overhead = total / min over all configurations (total - what is collection for certain)

is a lower bound: the true overhead is at least as high.  What cannot be told apart (barriers,
caches, polling) stays in the distilled cost and is what makes it a bound.  For that, `certain` may
never be more than what is really collection.
"""
from dataclasses import dataclass

import numpy as np

from gcheap.tools.intervals import bootstrap


@dataclass(frozen=True)
class Cost:
    """Of one operation, in ns: all of it, and what of it is collection for certain."""

    total: float
    certain: float


def wall_cost(document):
    """The Cost in mutator time of a run of `gcheap stress`: threads times elapsed time.

    For certain is a mutator's time in faults and, of its stalls and of the pauses, the larger: a
    mutator that stalls may be waiting through pauses, and no time is counted twice.
    """
    cost, ops = document["cost"], document["ops"]
    threads = cost["mutators"]
    certain = cost["fault_ms"] + max(cost["stall_ms"], threads * cost["pause_ms"])
    total = threads * document["seconds"] * 1e9 / ops
    return Cost(total, min(total, certain * 1e6 / ops))


def cpu_cost(document):
    """The Cost in CPU time of the whole process; for certain is that of the threads which only
    collect.  Faults on mutators' threads are not told apart."""
    cost, ops = document["cost"], document["ops"]
    return Cost(cost["cpu_ms"] * 1e6 / ops, cost["collector_cpu_ms"] * 1e6 / ops)


def distilled(costs):
    """The least cost without what is collection for certain, of Costs."""
    return min(cost.total - cost.certain for cost in costs)


def overheads(rounds_of):
    """{case: {"overhead", "low", "high"}} of {case: [Cost of each round]}.

    Medians over the rounds are taken first: the least of single rounds would be their luck.  The
    interval resamples the rounds of every case, since all of them decide on the least.
    """
    cases = list(rounds_of)
    groups = [np.array([(cost.total, cost.certain) for cost in rounds_of[case]])
              for case in cases]

    def of_all(*samples):
        totals = [np.median(sample[..., 0], axis=-1) for sample in samples]
        least = np.min([np.median(sample[..., 0] - sample[..., 1], axis=-1)
                        for sample in samples], axis=0)
        return totals, least

    totals, least = of_all(*groups)
    found = {}
    for at, case in enumerate(cases):
        def of_case(*samples, at=at):
            totals, least = of_all(*samples)
            return totals[at] / least
        low, high = bootstrap(of_case, *groups)
        found[case] = {"overhead": float(totals[at] / least), "low": low, "high": high}
    return found
