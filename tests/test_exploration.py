"""Schedules explored by randomized delays at every failpoint, with seeds that can be replayed."""
from __future__ import annotations

import pytest

from gcheap import failpoints
from gcheap.stress import StressConfig, run_stress

WORKLOADS = ("churn", "trees", "array-holes")
SEEDS = (1, 2)
MANY = range(100, 130)


def explore(workload: str, options: dict[str, str], seed: int, *, seconds: float, share: float,
            ns: int, unit_pages: int) -> None:
    with failpoints.explore(seed, ns=ns, share=share) as schedule:
        document = run_stress(StressConfig(
            workload=workload, seconds=seconds, live="2MiB", mutators=2, seed=seed, verify=3,
            unit_pages=unit_pages, warm_up=0, noise_seconds=0, **options))
        assert document["verified"] is True, (document["failure"], schedule)
        assert document["ops"] > 0, schedule
        visited = schedule.visited()
    assert {"safepoint.asked", "mutator.leave", "tlab.taken"} <= set(visited)
    assert sum(ns for _, ns in visited.values()) > 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_explored_schedules_lose_nothing(combination, workload, seed):
    explore(workload, combination, seed, seconds=0.1, share=0.1, ns=200_000,
            unit_pages=(4, 16)[seed % 2])


@pytest.mark.soak("many seeds")
@pytest.mark.parametrize("seed", MANY)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_many_explored_schedules_lose_nothing(combination, workload, seed):
    explore(workload, combination, seed, seconds=0.6, share=(0.02, 0.2, 0.7)[seed % 3],
            ns=(20_000, 300_000, 3_000_000)[seed // 3 % 3], unit_pages=(1, 4, 16)[seed // 9 % 3])
