"""MOVE and transparent huge pages: whole, split, the huge zero page, what is left behind."""
from __future__ import annotations

import mmap
import os
import re
import threading
from errno import EAGAIN, EEXIST

import pytest
from uffd_support import (
    HUGE,
    PAGE,
    Worker,
    advise,
    one_event,
    pagemap,
    present,
    smaps,
)

from gcheap.userfaultfd import MoveMode, UffdError, read_memory, write_memory

PAGES = HUGE // PAGE
CONTENT = b"".join(bytes([i % 255 + 1]) * PAGE for i in range(PAGES))


def huge_kb(address: int) -> int:
    return smaps(address)["AnonHugePages"]


@pytest.fixture
def pair(huge_pages, mover):
    """(a huge page with contents, registered room for one)."""
    src, dst = huge_pages(fill=True), huge_pages(fill=False)
    mover.register(dst, HUGE)
    assert huge_kb(src) == HUGE // 1024
    return src, dst


def test_an_aligned_huge_page_moves_whole(mover, pair):
    src, dst = pair
    assert mover.move(dst, src, HUGE) == HUGE
    assert huge_kb(dst) == HUGE // 1024 and huge_kb(src) == 0
    assert read_memory(dst, HUGE) == CONTENT
    assert not present(src)
    assert read_memory(src, HUGE) == bytes(HUGE)


def test_a_fault_served_by_a_huge_move_is_one_fault(mover, pair):
    src, dst = pair
    walk = Worker(lambda: read_memory(dst, HUGE))
    event = one_event(mover)
    mover.move(dst, src, HUGE)
    assert walk.result() == CONTENT
    assert event.address == dst and mover.read_events() == []
    assert huge_kb(dst) == HUGE // 1024


@pytest.mark.parametrize("pages", [1, 16, PAGES // 2])
def test_a_part_of_a_huge_page_moves_by_splitting_it(mover, pair, pages):
    src, dst = pair
    length = pages * PAGE
    assert mover.move(dst, src, length) == length
    assert huge_kb(dst) == 0 and huge_kb(src) == 0
    assert read_memory(dst, length) == CONTENT[:length]
    assert read_memory(src + length, HUGE - length) == CONTENT[length:]
    for offset in range(length, HUGE, length):
        mover.move(dst + offset, src + offset, length)
    assert read_memory(dst, HUGE) == CONTENT


def test_an_unaligned_destination_splits(mover, huge_pages):
    src, dst = huge_pages(fill=True), huge_pages(2, fill=False)
    mover.register(dst, 2 * HUGE)
    assert mover.move(dst + PAGE, src, HUGE) == HUGE
    assert huge_kb(dst) == 0
    assert read_memory(dst + PAGE, HUGE) == CONTENT


def kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:3])


def test_the_huge_zero_page_moves_whole(mover, huge_pages):
    """Read-only: `pagemap` shows one frame for source and destination."""
    if kernel() < (6, 18, 44):
        pytest.skip("older kernels may crash on moving the huge zero page; tried on 6.18.44")
    src, dst = huge_pages(fill=False), huge_pages(fill=False)
    read_memory(src, 1)                                 # a read fault maps it
    if not present(src + HUGE - PAGE) or huge_kb(src):
        pytest.skip("no huge zero page (transparent_hugepage/use_zero_page is 0?)")
    frame = pagemap(src)                                # zero frame numbers unless root
    mover.register(dst, HUGE)
    assert mover.move(dst, src, HUGE) == HUGE
    assert present(dst) and present(dst + HUGE - PAGE) and not present(src)
    assert pagemap(dst) == frame
    assert read_memory(dst, HUGE) == bytes(HUGE)
    write_memory(dst + PAGE, b"own")
    assert read_memory(dst + PAGE, 4) == b"own\0"


def test_allowed_holes_let_a_huge_move_pass_over_nothing(mover, huge_pages):
    """A range of which only some 2 MiB pieces are there: none of them is split."""
    src, dst = huge_pages(2, fill=True), huge_pages(2, fill=False)
    advise(src, HUGE, mmap.MADV_DONTNEED)
    mover.register(dst, 2 * HUGE)
    assert mover.move(dst, src, 2 * HUGE, MoveMode.ALLOW_SRC_HOLES) == 2 * HUGE
    assert not present(dst)
    assert huge_kb(dst) == HUGE // 1024


def test_a_used_destination_splits_the_next_huge_move_unless_it_is_dropped(
        mover, huge_pages):
    """Small pages that moved out leave their page table; MADV_DONTNEED takes it away."""
    used, elsewhere = huge_pages(fill=False), huge_pages(fill=False)
    mover.register(used, HUGE)
    mover.register(elsewhere, HUGE)

    def use() -> None:
        for i in range(0, PAGES, 64):
            mover.copy(used + i * PAGE, CONTENT, 64 * PAGE)
            mover.move(elsewhere + i * PAGE, used + i * PAGE, 64 * PAGE)
        advise(elsewhere, HUGE, mmap.MADV_DONTNEED)
        assert not present(used)

    use()
    first = huge_pages(fill=True)
    assert mover.move(used, first, HUGE) == HUGE
    assert huge_kb(used) == 0                           # split: the page table was in the way
    assert read_memory(used, HUGE) == CONTENT
    advise(used, HUGE, mmap.MADV_DONTNEED)

    use()
    advise(used, HUGE, mmap.MADV_DONTNEED)
    second = huge_pages(fill=True)
    assert mover.move(used, second, HUGE) == HUGE
    assert huge_kb(used) == HUGE // 1024
    assert read_memory(used, HUGE) == CONTENT


def test_a_stray_small_page_in_the_way_of_a_huge_move_is_eexist(mover, pair):
    src, dst = pair
    mover.zeropage(dst, PAGE)
    with pytest.raises(UffdError) as refusal:
        mover.move(dst, src, HUGE)
    assert (refusal.value.errno, refusal.value.done) == (EEXIST, 0)
    advise(dst, HUGE, mmap.MADV_DONTNEED)
    assert mover.move(dst, src, HUGE) == HUGE
    assert read_memory(dst, HUGE) == CONTENT


# -- moves that the kernel does not count ---------------------------------------------------

def move_counting(mover, dst: int, src: int, length: int, go: threading.Barrier) -> int:
    """`move` to the end, whatever it says; returns how many pages had arrived uncounted."""
    done = uncounted = 0
    go.wait(30)
    while done < length:
        try:
            done += mover.move(dst + done, src + done, length - done)
        except UffdError as error:
            done += error.done
            if error.errno != EEXIST:
                assert error.errno == EAGAIN, error
                continue
            assert present(dst + done) and not present(src + done)
            done += PAGE
            uncounted += 1
    return uncounted


def test_a_move_may_say_eexist_of_what_it_has_moved(huge_pages, mover):
    """Two threads move parts of one huge page: it is split by one of them, and the other meets
    EAGAIN inside its call.  Linux 6.18 then moves its pages, does not count them, comes to them
    again and says EEXIST; a kernel that counts them passes as well.  Nothing is lost on either."""
    src, dst = huge_pages(fill=True), huge_pages(fill=False)
    mover.register(dst, HUGE)
    uncounted = 0
    for _ in range(50):
        go = threading.Barrier(2)
        parts = [Worker(lambda at=at, go=go: move_counting(mover, dst + at, src + at, 16 * PAGE,
                                                           go))
                 for at in (8 * PAGE, HUGE // 2)]
        uncounted += sum(part.result() for part in parts)
        for at in (8 * PAGE, HUGE // 2):
            assert read_memory(dst + at, 16 * PAGE) == CONTENT[at:at + 16 * PAGE]
        if uncounted:
            break
        advise(dst, HUGE, mmap.MADV_DONTNEED)
        advise(src, HUGE, mmap.MADV_DONTNEED)
        write_memory(src, CONTENT)
