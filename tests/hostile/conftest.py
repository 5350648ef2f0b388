"""Fixtures of the hostile surroundings.

To keep `make test` short, `combination` and `concurrent` have the fault mode `handler` only among
the soaking tests here; `every_combination` has it always.
"""
from __future__ import annotations

import pytest
from support import kernel_offers

SIGBUS = [("move", "sigbus"), ("copy", "sigbus")]
STW = [("stw", "sigbus")]
HANDLER = [("move", "handler"), ("copy", "handler")]
LATER = [pytest.param(pair, marks=pytest.mark.soak("the other fault mode")) for pair in HANDLER]


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


def _options(request, kernel) -> dict[str, str]:
    backend, faults = request.param
    kernel(backend)
    return {"backend": backend, "faults": faults}


def _name(pair: tuple[str, str]) -> str:
    return "-".join(pair)


@pytest.fixture(params=SIGBUS + STW + LATER, ids=_name)
def combination(request, kernel):
    """Options of one backend and fault mode, each in turn."""
    return _options(request, kernel)


@pytest.fixture(params=SIGBUS + LATER, ids=_name)
def concurrent(request, kernel):
    """The same for backends that relocate while mutators run (not stw)."""
    return _options(request, kernel)


@pytest.fixture(params=SIGBUS + STW + HANDLER, ids=_name)
def every_combination(request, kernel):
    return _options(request, kernel)
