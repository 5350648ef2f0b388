"""`churn` for a short while under every combination, with every read checked."""
from __future__ import annotations

import pytest

from gcheap.stress import StressConfig, run_stress


@pytest.mark.parametrize("mutators", [1, 2])
@pytest.mark.parametrize("verify", [0, 3])
def test_churn(combination, verify, mutators, seed):
    document = run_stress(StressConfig(
        workload="churn", seconds=2.0, live="8MiB", mutators=mutators, verify=verify, seed=seed,
        **combination))
    assert document["verified"] is True
    assert document["ops"] > 0 and document["cycles"] > 0
    assert document["backend"] == combination["backend"]
    if combination["backend"] == "stw":
        assert document["faults"]["count"] == 0
    else:
        assert document["relocate_ops"] > 0
        assert document["faults"]["count"] > 0
