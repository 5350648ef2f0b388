"""MOVE takes swapped-out pages along without reading them in.

As root: a zram device (or, without zram, a swap file beside the tests) that the test makes, and
that a janitor process takes away again even when the test is killed.  Where a page is, its page
table entry says; VmSwap is a sum over processors that the kernel brings up to date now and then.
"""
from __future__ import annotations

import pytest
from uffd_support import (
    MADV_PAGEOUT,
    PAGE,
    advise,
    content,
    pagemap,
)

from gcheap.userfaultfd import MoveMode, UffdError, read_memory

pytestmark = pytest.mark.xdist_group("machine")     # they change settings of all of it

SWAP_BYTES = 32 << 20
PAGES = 64


def swapped(address: int) -> bool:
    return bool(pagemap(address) >> 62 & 1)


def places(address: int) -> list[int]:
    """Where in swap each of PAGES pages is: bits 0 to 54, for root."""
    return [pagemap(address + i * PAGE) & (1 << 55) - 1 for i in range(PAGES)]


@pytest.fixture
def swapped_pages(swap, scratch):
    """PAGES pages with contents, all in swap."""
    src = scratch.filled(PAGES)
    for _ in range(20):
        advise(src, PAGES * PAGE, MADV_PAGEOUT)
        if all(swapped(src + i * PAGE) for i in range(PAGES)):
            return src
    pytest.skip("the kernel does not swap these pages out")


def test_swapped_out_pages_move_without_being_read_in(mover, scratch, swapped_pages):
    src, dst = swapped_pages, scratch.map(PAGES * PAGE)
    mover.register(dst, PAGES * PAGE)
    before = places(src)
    assert len(set(before)) == PAGES
    assert mover.move(dst, src, PAGES * PAGE) == PAGES * PAGE
    assert places(dst) == before
    assert all(swapped(dst + i * PAGE) for i in range(PAGES))
    assert not any(swapped(src + i * PAGE) for i in range(PAGES))
    assert read_memory(dst, PAGES * PAGE) == content(1, PAGES)
    assert not any(swapped(dst + i * PAGE) for i in range(PAGES))
    assert read_memory(src, PAGES * PAGE) == bytes(PAGES * PAGE)


def test_a_mixture_of_swapped_present_and_missing_pages_moves(mover, scratch, swapped_pages):
    src, dst = swapped_pages, scratch.map(PAGES * PAGE)
    mover.register(dst, PAGES * PAGE)
    advise(src, PAGE, 4)                                # a hole, then pages read in again
    read_memory(src + PAGE, 4 * PAGE)
    try:
        moved = mover.move(dst, src, PAGES * PAGE, MoveMode.ALLOW_SRC_HOLES)
    except UffdError as error:                          # a page in the swap cache may be busy
        report = mover.move_all(dst + error.done, src + error.done, PAGES * PAGE - error.done,
                                MoveMode.ALLOW_SRC_HOLES)
        moved = error.done + report.done
    assert moved == PAGES * PAGE
    assert read_memory(dst + PAGE, (PAGES - 1) * PAGE) == content(2, PAGES - 1)
