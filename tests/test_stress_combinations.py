"""Workloads for a short while under every combination, with every read checked."""
from __future__ import annotations

import errno
from contextlib import ExitStack

import pytest

from gcheap import failpoints
from gcheap.stress import StressConfig, run_stress

pytestmark = pytest.mark.sigbus_only("for handler: test_churn of test_handler.py")


def churn(seconds: float, seed: int, **options) -> dict:
    document = run_stress(StressConfig(
        workload="churn", seconds=seconds, live="8MiB", seed=seed, noise_seconds=0, **options))
    assert document["verified"] is True
    assert document["ops"] > 0 and document["cycles"] > 0
    assert document["backend"] == options["backend"]
    return document


@pytest.mark.parametrize("mutators", [1, 2])
@pytest.mark.parametrize("verify", [0, 3])
def test_churn(combination, verify, mutators, seed):
    document = churn(2.0, seed, mutators=mutators, verify=verify, **combination)
    if combination["backend"] == "stw":
        assert document["faults"]["count"] == 0
    else:
        assert document["relocate_ops"] > 0
        assert document["faults"]["count"] > 0


@pytest.mark.parametrize("mutators", [1, 2])
@pytest.mark.parametrize(("live", "unit_pages"), [("1MiB", 1), ("16MiB", 16)])
def test_array_holes(combination, live, unit_pages, mutators, seed):
    document = run_stress(StressConfig(
        workload="array-holes", seconds=1.0, live=live, mutators=mutators, seed=seed,
        unit_pages=unit_pages, verify=3, noise_seconds=0, **combination))
    assert document["verified"] is True, document["failure"]
    assert document["ops"] > 0 and document["cycles"] > 0
    assert document["facts"]["shared_links_read"] > 0


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
        document = churn(0.7, seed, mutators=2, verify=3, unit_pages=unit_pages, **concurrent)
    assert document["faults"]["count"] > 0


@pytest.mark.parametrize("refusal", ["short", errno.EAGAIN, errno.ENOMEM, errno.EBUSY],
                         ids=["short", "EAGAIN", "ENOMEM", "EBUSY"])
def test_churn_with_refusals(concurrent, refusal, seed):
    point = f"place.{concurrent['backend']}"
    if (point, refusal) == ("place.copy", errno.EBUSY):
        pytest.skip("EBUSY is no answer of UFFDIO_COPY")
    refuse = failpoints.short(point, pages=3, times=500) if refusal == "short" else (
        failpoints.fail(point, refusal, times=500))
    with refuse:
        churn(0.7, seed, mutators=2, verify=3, **concurrent)
        assert refuse.hits > 0
