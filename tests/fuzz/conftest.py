"""The seed of the fuzzers: fixed, so that a run is repeatable, or GCHEAP_FUZZ_SEED."""
from __future__ import annotations

import os

import hypothesis
import pytest

# Taken out of the environment: a heap refuses variables that no option has.
GIVEN = os.environ.pop("GCHEAP_FUZZ_SEED", None)
SECONDS = float(os.environ.pop("GCHEAP_FUZZ_SECONDS", "120"))      # of each soak test
CHOSEN = 20_240_611


@pytest.fixture
def fuzz_seed(request: pytest.FixtureRequest) -> int:
    """GCHEAP_FUZZ_SEED, else --seed, else a fixed number."""
    if GIVEN is not None:
        return int(GIVEN)
    given = request.config.getoption("--seed")
    return CHOSEN if given is None else given


@pytest.fixture(autouse=True)
def seeded(fuzz_seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every hypothesis test here draws from that seed."""
    monkeypatch.setattr(hypothesis.core, "global_force_seed", fuzz_seed)
