"""UFFDIO_MOVE does what its description says, on small pages."""
from __future__ import annotations

import mmap
from errno import EAGAIN, EEXIST, EINVAL, ENOENT

import pytest
from uffd_support import (
    PAGE,
    PROT_RW,
    Worker,
    advise,
    checked,
    content,
    fill,
    libc,
    mappings,
    one_event,
    present,
    reader,
)

from gcheap.userfaultfd import (
    MoveMode,
    PagefaultEvent,
    UffdError,
    ZeropageMode,
    read_memory,
    write_memory,
)

PAGES = 16
MREMAP_MOVE = 1 | 2                     # MAYMOVE | FIXED


@pytest.fixture
def pair(scratch, mover):
    """(source with contents, missing destination), PAGES each; the source has its content."""
    src, dst = scratch.filled(PAGES), scratch.map(PAGES * PAGE)
    mover.register(dst, PAGES * PAGE)
    return src, dst


def test_a_moved_page_is_at_the_destination_and_the_source_reads_as_zero(mover, pair):
    src, dst = pair
    for i in reversed(range(PAGES)):
        assert mover.move(dst + i * PAGE, src + i * PAGE, PAGE) == PAGE
        assert not present(src + i * PAGE)
    assert read_memory(dst, PAGES * PAGE) == content(1, PAGES)
    assert read_memory(src, PAGES * PAGE) == bytes(PAGES * PAGE)
    assert mover.read_events() == []


def test_a_range_moves_in_one_call_and_the_destination_is_writable(mover, pair):
    src, dst = pair
    assert mover.move(dst, src, PAGES * PAGE) == PAGES * PAGE
    assert read_memory(dst, PAGES * PAGE) == content(1, PAGES)
    assert not any(present(src + i * PAGE) for i in range(PAGES))
    fill(dst, PAGES, 100)
    assert read_memory(dst, PAGES * PAGE) == content(100, PAGES)


@pytest.mark.parametrize("at_once", [1, 4, PAGES])
def test_a_faulting_reader_is_served_by_moves(mover, pair, at_once):
    """One fault for each piece moved: neighbours that arrive along with it do not fault."""
    src, dst = pair
    walk = Worker(lambda: read_memory(dst, PAGES * PAGE))
    faults = []
    for _ in range(PAGES // at_once):
        event = one_event(mover)
        assert isinstance(event, PagefaultEvent) and not event.flags
        faults.append(event.address)
        offset = (event.address - dst) // (at_once * PAGE) * (at_once * PAGE)
        mover.move(dst + offset, src + offset, at_once * PAGE)
    assert walk.result() == content(1, PAGES)
    assert mover.read_events() == []
    assert len({(address - dst) // (at_once * PAGE) for address in faults}) == PAGES // at_once


def test_source_and_destination_may_lie_in_the_same_mapping(mover, scratch):
    start = scratch.map(4 * PAGE)
    fill(start, 2)
    mover.register(start, 4 * PAGE)
    mover.move(start + 2 * PAGE, start, 2 * PAGE)
    assert read_memory(start + 2 * PAGE, 2 * PAGE) == content(1, 2)
    assert not present(start) and not present(start + PAGE)


def test_a_moved_away_page_of_a_registered_source_faults_again(mover, scratch):
    start = scratch.map(2 * PAGE)
    fill(start, 1)
    mover.register(start, 2 * PAGE)
    mover.move(start + PAGE, start, PAGE)
    late = reader(start)
    assert one_event(mover).address == start
    mover.zeropage(start, PAGE)
    assert late.result() == b"\0"


def test_the_zero_page_moves_as_a_page(mover, scratch):
    src, dst = scratch.map(PAGE), scratch.map(PAGE)
    assert read_memory(src, PAGE) == bytes(PAGE)        # now the zero page is mapped there
    mover.register(dst, PAGE)
    assert mover.move(dst, src, PAGE) == PAGE
    assert present(dst) and not present(src)
    write_memory(dst, b"own")
    assert read_memory(dst, 4) == b"own\0"


def test_dontwake_leaves_the_reader_blocked_until_wake(mover, pair):
    """Blocked means: asleep in the page fault, never scheduled since it went to sleep."""
    src, dst = pair
    blocked = reader(dst)
    assert one_event(mover).address == dst
    switches = blocked.wait_blocked()
    mover.move(dst, src, PAGE, MoveMode.DONTWAKE)
    assert present(dst)
    mover.wake(dst + PAGE, PAGE)                        # another page's waiters
    assert blocked.sleeps() and blocked.switches() == switches
    assert not blocked.done
    mover.wake(dst, PAGE)
    assert blocked.result() == content(1, 1)[:1]
    assert mover.read_events() == []


def test_waking_without_a_page_makes_the_thread_fault_again(mover, pair):
    src, dst = pair
    blocked = reader(dst)
    assert one_event(mover).address == dst
    blocked.wait_blocked()
    mover.wake(dst, PAGE)
    assert one_event(mover).address == dst
    mover.move(dst, src, PAGE)
    assert blocked.result() == content(1, 1)[:1]


def test_allowed_source_holes_count_as_moved_and_stay_holes(mover, pair):
    src, dst = pair
    advise(src + 2 * PAGE, 3 * PAGE, mmap.MADV_DONTNEED)
    assert mover.move(dst, src, PAGES * PAGE, MoveMode.ALLOW_SRC_HOLES) == PAGES * PAGE
    assert [present(dst + i * PAGE) for i in range(PAGES)] == [
        not 2 <= i < 5 for i in range(PAGES)]


def test_a_range_of_holes_alone_is_moved_whole(mover, scratch):
    src, dst = scratch.map(4 * PAGE), scratch.map(4 * PAGE)
    mover.register(dst, 4 * PAGE)
    assert mover.move(dst, src, 4 * PAGE, MoveMode.ALLOW_SRC_HOLES) == 4 * PAGE
    assert not any(present(dst + i * PAGE) for i in range(4))


def test_a_moved_hole_faults_when_read_and_is_served_by_zeropage(mover, pair):
    src, dst = pair
    advise(src, PAGE, mmap.MADV_DONTNEED)
    mover.move(dst, src, 2 * PAGE, MoveMode.ALLOW_SRC_HOLES)
    late = Worker(lambda: read_memory(dst, 2 * PAGE))
    assert one_event(mover).address == dst
    assert mover.zeropage(dst, PAGE, ZeropageMode(0)) == PAGE
    assert late.result() == bytes(PAGE) + content(2, 1)


@pytest.mark.uninstrumented("it maps memory of its own")
def test_moving_back_and_forth_keeps_the_number_of_mappings(mover, scratch):
    """1,000 single-page moves; the same by mremap splits mappings at every other page."""
    count = 1000
    src, dst = scratch.map(count * PAGE), scratch.map(count * PAGE)
    fill(src, count)
    mover.register(dst, count * PAGE)
    scattered = range(0, count, 2)
    spans = (src, count * PAGE), (dst, count * PAGE)
    before = mappings(*spans)
    for i in (*scattered, *range(1, count, 2)):
        mover.move(dst + i * PAGE, src + i * PAGE, PAGE)
    assert mappings(*spans) == before
    assert read_memory(dst, count * PAGE) == content(1, count)

    far = scratch.map(count * PAGE)
    spans += (far, count * PAGE),
    before = mappings(*spans)
    for i in scattered:
        checked(libc.mremap(dst + i * PAGE, PAGE, PAGE, MREMAP_MOVE, far + i * PAGE))
    assert mappings(*spans) > before + len(scattered)


def test_two_threads_move_into_the_same_range_at_once(mover, scratch):
    """Each page arrives once, whoever moves it; the other one is told EEXIST or ENOENT."""
    count = 200
    src, dst = scratch.filled(count), scratch.map(count * PAGE)
    mover.register(dst, count * PAGE)

    def move_each() -> int:
        won = 0
        for i in range(count):
            try:
                won += mover.move(dst + i * PAGE, src + i * PAGE, PAGE) == PAGE
            except UffdError as error:
                assert error.errno in (ENOENT, EEXIST, EAGAIN), error
        return won

    workers = [Worker(move_each), Worker(move_each)]
    assert sum(worker.result() for worker in workers) == count
    assert read_memory(dst, count * PAGE) == content(1, count)


def test_a_read_only_pair_is_refused_and_moves_once_it_is_writable(mover, scratch):
    src, dst = scratch.filled(1), scratch.map(PAGE)
    mover.register(dst, PAGE)
    for start in (src, dst):
        checked(libc.mprotect(start, PAGE, mmap.PROT_READ))
    with pytest.raises(UffdError) as refusal:
        mover.move(dst, src, PAGE)
    assert refusal.value.errno == EINVAL
    for start in (src, dst):
        checked(libc.mprotect(start, PAGE, PROT_RW))
    assert mover.move(dst, src, PAGE) == PAGE
