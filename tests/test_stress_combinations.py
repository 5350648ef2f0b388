"""Workloads for a short while under every combination, with every read checked."""
from __future__ import annotations

import errno
from contextlib import ExitStack

import pytest
from support import stress_until

from gcheap import failpoints

pytestmark = pytest.mark.sigbus_only("for handler: test_churn of test_handler.py")


def churn(seconds: float, seed: int, **options) -> None:
    """Runs until there were operations while a cycle relocated, and faults."""
    stw = options["backend"] == "stw"

    def enough(runs: list[dict]) -> bool:
        facts = [run["cycles"] for run in runs], [run["relocate_ops"] for run in runs], [
            run["faults"]["count"] for run in runs]
        return all(map(any, facts[:1] if stw else facts))

    runs = stress_until(enough, seed=seed, workload="churn", seconds=seconds, live="8MiB",
                        warm_up=0, **options)
    for run in runs:
        assert run["ops"] > 0 and run["backend"] == options["backend"]
        assert not stw or run["faults"]["count"] == 0


@pytest.mark.parametrize("mutators", [1, 2])
@pytest.mark.parametrize("verify", [0, 3])
def test_churn(combination, verify, mutators, seed):
    churn(1.0, seed, mutators=mutators, verify=verify, **combination)


@pytest.mark.parametrize("mutators", [1, 2])
@pytest.mark.parametrize(("live", "unit_pages"), [("1MiB", 1), ("16MiB", 16)])
def test_array_holes(combination, live, unit_pages, mutators, seed):
    stress_until(
        lambda runs: any(run["cycles"] and run["facts"]["shared_links_read"] for run in runs),
        seed=seed, workload="array-holes", seconds=0.7, live=live, mutators=mutators,
        unit_pages=unit_pages, verify=3, warm_up=0, **combination)


# Each thread of the protocol made slow in turn, so that the others overtake it.
SLOW = {
    "compactor": ("flip.after", "compactor.claimed", "compactor.assembled", "relocate.done"),
    "mutators": ("mutator.fault", "mutator.claimed", "mutator.assembled", "mutator.wait"),
    "collector": ("plan.done", "flip.before", "unregister.done"),
}


@pytest.mark.parametrize("unit_pages", [1, 16])
@pytest.mark.parametrize("points", SLOW.values(), ids=SLOW)
def test_churn_with_slow_threads(concurrent, points, unit_pages, seed):
    with ExitStack() as slow:
        for point in points:
            slow.enter_context(failpoints.delay(point, ns=50_000, times=10_000))
        churn(0.5, seed, mutators=2, verify=3, unit_pages=unit_pages, **concurrent)


@pytest.mark.parametrize("refusal", ["short", errno.EAGAIN, errno.ENOMEM, errno.EBUSY],
                         ids=["short", "EAGAIN", "ENOMEM", "EBUSY"])
def test_churn_with_refusals(concurrent, refusal, seed):
    point = f"place.{concurrent['backend']}"
    if (point, refusal) == ("place.copy", errno.EBUSY):
        pytest.skip("EBUSY is no answer of UFFDIO_COPY")
    refuse = failpoints.short(point, pages=3, times=500) if refusal == "short" else (
        failpoints.fail(point, refusal, times=500))
    with refuse:
        churn(0.5, seed, mutators=2, verify=3, **concurrent)
        assert refuse.hits > 0
