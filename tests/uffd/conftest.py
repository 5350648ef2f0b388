"""Fixtures of the userfaultfd tests."""
from __future__ import annotations

import os
from contextlib import ExitStack
from errno import EPERM

import pytest
from system import swap_space
from uffd_support import HUGE, PAGE, Scratch, advise, smaps

from gcheap.userfaultfd import Features, MissingFeatures, UffdError, Userfaultfd, write_memory


@pytest.fixture
def scratch():
    memory = Scratch()
    yield memory
    memory.close()


@pytest.fixture
def make_uffd(scratch):
    """Descriptors that are closed at the end, which frees every thread that still waits.

    Skips, with the reason, what this kernel or these permissions do not give.
    """
    with ExitStack() as stack:
        def make(features: Features | int = 0, **options) -> Userfaultfd:
            try:
                uffd = Userfaultfd(features, **options)
            except MissingFeatures as error:
                pytest.skip(str(error))
            except UffdError as error:
                if error.ioctl == "open" or error.errno == EPERM:
                    pytest.skip(str(error))
                raise
            return stack.enter_context(uffd)
        yield make


@pytest.fixture
def uffd(make_uffd) -> Userfaultfd:
    return make_uffd()


@pytest.fixture
def mover(make_uffd) -> Userfaultfd:
    """A descriptor with MOVE."""
    return make_uffd(Features.MOVE)


@pytest.fixture
def full_uffd(make_uffd):
    """A maker of descriptors that handle faults inside system calls too."""
    return lambda features=0: make_uffd(features, user_mode_only=False)


@pytest.fixture
def root() -> None:
    if os.geteuid():
        pytest.skip("needs root")


@pytest.fixture(params=["zram", "file"])
def swap(root, request) -> str:
    """SWAP_BYTES (of the test's module) of swap space more, until the end of the test."""
    with swap_space(request.param, request.module.SWAP_BYTES) as path:
        yield path


@pytest.fixture
def huge_pages(scratch):
    """Makes aligned memory; `fill=True` backs it by huge pages, or skips."""
    def make(count: int = 1, *, fill: bool) -> int:
        start = scratch.map_aligned(count * HUGE)
        try:
            advise(start, count * HUGE, 14)             # MADV_HUGEPAGE
        except OSError as error:
            pytest.skip(f"no transparent huge pages: {error}")
        if fill:
            for i in range(count * HUGE // PAGE):
                write_memory(start + i * PAGE, bytes([i % 255 + 1]) * PAGE)
            if smaps(start)["AnonHugePages"] < count * HUGE // 1024:
                try:
                    advise(start, count * HUGE, 25)     # MADV_COLLAPSE
                except OSError as error:
                    pytest.skip(f"no huge page to be had: {error}")
        return start
    return make
