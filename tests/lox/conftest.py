"""The seed of the generated programs is that of the fuzzers: fixed, so that a run is repeatable."""
from fuzz.conftest import fuzz_seed, seeded

__all__ = ["fuzz_seed", "seeded"]
