"""Fixtures of the hostile surroundings."""
from __future__ import annotations

import pytest
from support import kernel_offers


@pytest.fixture
def kernel():
    """Skips the test where this kernel lacks a backend."""
    def offers(backend: str) -> None:
        reason = kernel_offers(backend)
        if reason is not None:
            pytest.skip(f"no backend {backend} here: {reason}")
    return offers


@pytest.fixture(params=["move", "copy"])
def served_by_sigbus(request, kernel):
    """Options of heaps whose threads serve their own faults."""
    kernel(request.param)
    return {"backend": request.param, "faults": "sigbus"}


@pytest.fixture(params=["move", "copy"])
def handled(request, kernel):
    """Options of heaps with a thread that serves faults."""
    kernel(request.param)
    return {"backend": request.param, "faults": "handler"}
