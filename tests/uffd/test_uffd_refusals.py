"""Every errno of the ioctls, provoked on the running kernel."""
from __future__ import annotations

import fcntl
import mmap
import os
import struct
from errno import EAGAIN, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, EPERM

import pytest
from uffd_support import (
    PAGE,
    PROT_RW,
    Worker,
    advise,
    checked,
    content,
    libc,
    page_of,
    present,
    reader,
    wait_readable,
)

from gcheap.userfaultfd import (
    CopyMode,
    Features,
    MoveMode,
    RegisterMode,
    RemoveEvent,
    UffdError,
    read_memory,
    write_memory,
)


def refusal(call, *arguments) -> UffdError:
    with pytest.raises(UffdError) as caught:
        call(*arguments)
    return caught.value


@pytest.fixture
def pair(scratch, mover):
    src, dst = scratch.filled(4), scratch.map(4 * PAGE)
    mover.register(dst, 4 * PAGE)
    return src, dst


# -- EAGAIN --------------------------------------------------------------------------------

def _raw(uffd, number: int, *words: int) -> tuple[int, int]:
    """(errno, result field) of an ioctl made without the binding."""
    block = bytearray(struct.pack(f"{len(words) + 1}q", *words, 0))
    request = 3 << 30 | len(block) << 16 | 0xAA << 8 | number
    try:
        fcntl.ioctl(uffd, request, block)
        code = 0
    except OSError as error:
        code = error.errno
    return code, struct.unpack_from("q", block, 8 * len(words))[0]


@pytest.fixture
def changing(make_uffd, scratch):
    """A descriptor with an unread REMOVE event, and what the calls need.

    (uffd, missing page, private source, shared page in the page cache only)
    """
    uffd = make_uffd(Features.EVENT_REMOVE | Features.MOVE | Features.POISON
                     | Features.MINOR_SHMEM)
    start = scratch.map(2 * PAGE)
    uffd.register(start, 2 * PAGE)
    uffd.copy(start, page_of(1), PAGE)
    fd = os.memfd_create("minor")
    os.ftruncate(fd, PAGE)
    os.pwrite(fd, page_of(7), 0)
    shared = scratch.map(PAGE, flags=mmap.MAP_SHARED, fd=fd)
    os.close(fd)
    uffd.register(shared, PAGE, RegisterMode.MINOR)
    src = scratch.filled(1)
    drop = Worker(lambda: advise(start, PAGE, mmap.MADV_DONTNEED))
    wait_readable(uffd)
    yield uffd, start + PAGE, src, shared
    assert uffd.read_events() == [RemoveEvent(start, start + PAGE)]
    drop.result()


def test_an_unread_remove_event_makes_every_filling_call_eagain(changing):
    """-1/EAGAIN and the result field -EAGAIN too, which is no progress."""
    uffd, missing, src, shared = changing
    assert {
        "COPY": _raw(uffd, 3, missing, src, PAGE, 0),
        "ZEROPAGE": _raw(uffd, 4, missing, PAGE, 0),
        "MOVE": _raw(uffd, 5, missing, src, PAGE, 0),
        "CONTINUE": _raw(uffd, 7, shared, PAGE, 0),
        "POISON": _raw(uffd, 8, missing, PAGE, 0),
    } == dict.fromkeys(("COPY", "ZEROPAGE", "MOVE", "CONTINUE", "POISON"), (EAGAIN, -EAGAIN))


def test_the_binding_reports_that_eagain_without_progress(changing):
    uffd, missing, src, shared = changing
    for call, *arguments in ((uffd.copy, missing, src, PAGE), (uffd.zeropage, missing, PAGE),
                             (uffd.move, missing, src, PAGE), (uffd.continue_, shared, PAGE),
                             (uffd.poison, missing, PAGE)):
        error = refusal(call, *arguments)
        assert (error.errno, error.done) == (EAGAIN, 0)
        assert "event" in str(error)


def test_after_the_event_was_read_the_same_call_succeeds(make_uffd, scratch):
    uffd = make_uffd(Features.EVENT_REMOVE | Features.MOVE)
    start, src = scratch.map(2 * PAGE), scratch.filled(1)
    uffd.register(start, 2 * PAGE)
    uffd.zeropage(start, PAGE)
    drop = Worker(lambda: advise(start, PAGE, mmap.MADV_DONTNEED))
    wait_readable(uffd)
    assert refusal(uffd.move, start + PAGE, src, PAGE).errno == EAGAIN
    uffd.read_events()
    drop.result()
    assert uffd.move(start + PAGE, src, PAGE) == PAGE


def test_a_move_over_a_partly_mapped_destination_is_short(mover, pair):
    src, dst = pair
    mover.zeropage(dst + 2 * PAGE, PAGE)
    error = refusal(mover.move, dst, src, 4 * PAGE)
    assert (error.errno, error.done) == (EAGAIN, 2 * PAGE)
    assert read_memory(dst, 2 * PAGE) == content(1, 2)
    assert read_memory(src + 2 * PAGE, 2 * PAGE) == content(3, 2)
    # The short answer hid its cause; the rest tells.
    assert refusal(mover.move, dst + 2 * PAGE, src + 2 * PAGE, 2 * PAGE).errno == EEXIST
    assert mover.move(dst + 3 * PAGE, src + 3 * PAGE, PAGE) == PAGE


@pytest.mark.parametrize("call", ["copy", "zeropage"])
def test_copy_and_zeropage_are_short_in_the_same_way(uffd, scratch, call):
    src, dst = scratch.filled(4), scratch.map(4 * PAGE)
    uffd.register(dst, 4 * PAGE)
    uffd.zeropage(dst + 3 * PAGE, PAGE)
    error = refusal(getattr(uffd, call), dst, *([src] if call == "copy" else []), 4 * PAGE)
    assert (error.errno, error.done) == (EAGAIN, 3 * PAGE)


# -- EINVAL --------------------------------------------------------------------------------

@pytest.mark.parametrize(("dst", "src", "length", "mode"), [
    (1, 0, PAGE, 0), (0, 1, PAGE, 0), (0, 0, PAGE + 1, 0), (0, 0, PAGE - 1, 0), (0, 0, 0, 0),
    (0, 0, PAGE, 4), (0, 0, PAGE, 1 << 63),
], ids=["dst", "src", "length", "short-length", "zero-length", "mode", "high-mode"])
def test_unaligned_empty_or_unknown_is_einval(mover, pair, dst, src, length, mode):
    source, target = pair
    error = refusal(mover.move, target + dst, source + src, length, mode)
    assert (error.errno, error.done) == (EINVAL, 0)
    assert read_memory(source, PAGE) == content(1, 1) and not present(target)


@pytest.mark.parametrize("length", [(1 << 64) - PAGE, 1 << 47], ids=["wraps", "too-long"])
def test_ranges_outside_the_address_space_are_einval(mover, pair, length):
    src, dst = pair
    assert refusal(mover.move, dst, src, length).errno == EINVAL


def test_destinations_that_are_not_registered_here_are_einval(mover, make_uffd, scratch, pair):
    src, dst = pair
    assert refusal(mover.move, scratch.map(PAGE), src, PAGE).errno == EINVAL
    # Across the end of its mapping.
    assert refusal(mover.move, dst + 3 * PAGE, src, 2 * PAGE).errno == EINVAL
    # Registered, with another descriptor.
    other, elsewhere = make_uffd(), scratch.map(PAGE)
    other.register(elsewhere, PAGE)
    assert refusal(mover.move, elsewhere, src, PAGE).errno == EINVAL


def test_a_side_where_nothing_is_mapped_is_enoent_whatever_the_mode(mover, pair):
    """Not EINVAL, as "the range was invalid" would suggest; nor does ALLOW_SRC_HOLES help."""
    src, dst = pair
    for mode in (0, MoveMode.ALLOW_SRC_HOLES):
        assert refusal(mover.move, dst, 16 * PAGE, PAGE, mode).errno == ENOENT
        assert refusal(mover.move, 16 * PAGE, src, PAGE, mode).errno == ENOENT


def test_a_source_that_runs_past_its_mapping_is_einval(mover, scratch, pair):
    src, dst = pair
    assert refusal(mover.move, dst, src + 3 * PAGE, 2 * PAGE).errno == EINVAL


def test_overlapping_ranges_are_not_refused_as_such(mover, scratch):
    """They act page by page: downwards it is a slide, upwards the first mapped page stops it."""
    start = scratch.map(4 * PAGE)
    mover.register(start, 4 * PAGE)
    mover.copy(start + PAGE, content(1, 2), 2 * PAGE)
    assert mover.move(start, start + PAGE, 2 * PAGE) == 2 * PAGE
    assert read_memory(start, 2 * PAGE) == content(1, 2)
    assert not present(start + 2 * PAGE)
    error = refusal(mover.move, start + PAGE, start, 2 * PAGE)
    assert (error.errno, error.done) == (EEXIST, 0)


@pytest.mark.parametrize("kind", ["shared-file", "private-file", "shared-anonymous"])
def test_sources_other_than_private_anonymous_memory_are_einval(mover, scratch, pair, kind):
    fd = os.memfd_create("file")
    os.ftruncate(fd, PAGE)
    private = mmap.MAP_PRIVATE
    src = {
        "shared-file": lambda: scratch.map(PAGE, flags=mmap.MAP_SHARED, fd=fd),
        "private-file": lambda: scratch.map(PAGE, flags=private, fd=fd),
        "shared-anonymous": lambda: scratch.map(PAGE, flags=mmap.MAP_SHARED
                                                | mmap.MAP_ANONYMOUS),
    }[kind]()
    os.close(fd)
    write_memory(src, b"here")
    assert refusal(mover.move, pair[1], src, PAGE).errno == EINVAL
    assert read_memory(src, 4) == b"here"


def test_a_shared_destination_is_einval(mover, scratch, pair):
    shared = scratch.map(PAGE, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    mover.register(shared, PAGE)
    assert refusal(mover.move, shared, pair[0], PAGE).errno == EINVAL


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_difference_in_mlock_is_einval(mover, scratch, side):
    src, dst = scratch.filled(1), scratch.map(PAGE)
    mover.register(dst, PAGE)
    locked = src if side == "source" else dst
    on_fault = 1                                    # MLOCK_ONFAULT: populates nothing
    checked(libc.mlock2(locked, PAGE, on_fault))
    assert refusal(mover.move, dst, src, PAGE).errno == EINVAL
    checked(libc.mlock2(src, PAGE, on_fault))
    checked(libc.mlock2(dst, PAGE, on_fault))
    assert mover.move(dst, src, PAGE) == PAGE       # both locked


@pytest.mark.parametrize("protection", [mmap.PROT_READ, PROT_RW | mmap.PROT_EXEC],
                         ids=["read-only", "executable"])
def test_a_difference_in_protection_is_einval(mover, pair, protection):
    src, dst = pair
    checked(libc.mprotect(src, 4 * PAGE, protection))
    assert refusal(mover.move, dst, src, PAGE).errno == EINVAL
    checked(libc.mprotect(src, 4 * PAGE, PROT_RW))
    assert mover.move(dst, src, PAGE) == PAGE


# -- ENOENT, EEXIST, ENOMEM ----------------------------------------------------------------

def test_a_hole_in_the_source_is_enoent(mover, pair):
    src, dst = pair
    advise(src, PAGE, mmap.MADV_DONTNEED)
    error = refusal(mover.move, dst, src, PAGE)
    assert (error.errno, error.done) == (ENOENT, 0)
    assert "ALLOW_SRC_HOLES" in str(error)


def test_a_hole_further_on_makes_the_move_short(mover, pair):
    src, dst = pair
    advise(src + PAGE, PAGE, mmap.MADV_DONTNEED)
    error = refusal(mover.move, dst, src, 4 * PAGE)
    assert (error.errno, error.done) == (EAGAIN, PAGE)
    assert refusal(mover.move, dst + PAGE, src + PAGE, 3 * PAGE).errno == ENOENT


def test_a_mapped_destination_is_eexist(mover, pair):
    src, dst = pair
    mover.zeropage(dst, PAGE)
    error = refusal(mover.move, dst, src, 4 * PAGE)
    assert (error.errno, error.done) == (EEXIST, 0)
    assert read_memory(src, 4 * PAGE) == content(1, 4)


def test_enomem_comes_out_with_its_progress(mover, pair, monkeypatch):
    """Injected at the wrapper: the kernel cannot be made to run out of page tables here."""
    class Exhausted:
        def move(self, dst, src, length, mode):
            return PAGE, ENOMEM
    monkeypatch.setattr(mover, "_descriptor", Exhausted())
    src, dst = pair
    error = refusal(mover.move, dst, src, 4 * PAGE)
    monkeypatch.undo()
    assert (error.errno, error.done, error.ioctl) == (ENOMEM, PAGE, "MOVE")
    assert "memory" in str(error)


# -- the other ioctls ----------------------------------------------------------------------

def test_mapped_pages_are_eexist_for_every_filling_call(make_uffd, scratch):
    uffd = make_uffd(Features.POISON)
    start = scratch.map(PAGE)
    uffd.register(start, PAGE)
    uffd.zeropage(start, PAGE)
    for call, *arguments in ((uffd.copy, start, page_of(1), PAGE), (uffd.zeropage, start, PAGE),
                             (uffd.poison, start, PAGE)):
        assert refusal(call, *arguments).errno == EEXIST


def test_unregistered_ranges_are_enoent_for_the_others(make_uffd, scratch):
    uffd = make_uffd(Features.POISON)
    start = scratch.map(PAGE)
    for call, *arguments in ((uffd.copy, start, page_of(1), PAGE), (uffd.zeropage, start, PAGE),
                             (uffd.poison, start, PAGE), (uffd.continue_, start, PAGE),
                             (uffd.writeprotect, start, PAGE)):
        assert refusal(call, *arguments).errno == ENOENT


def test_an_unreadable_source_of_copy_is_efault(uffd, scratch):
    start = scratch.map(PAGE)
    uffd.register(start, PAGE)
    assert refusal(uffd.copy, start, 16 * PAGE, PAGE).errno == EFAULT


def test_modes_that_the_range_lacks_are_refused(uffd, scratch):
    start = scratch.map(PAGE)
    uffd.register(start, PAGE)
    assert refusal(uffd.writeprotect, start, PAGE).errno == ENOENT
    assert refusal(uffd.copy, start, page_of(1), PAGE, CopyMode.WP).errno == EINVAL
    assert refusal(uffd.continue_, start, PAGE).errno == EINVAL


def test_bad_ranges_of_register_unregister_and_wake(uffd, make_uffd, scratch):
    start = scratch.map(2 * PAGE)
    for length, modes in ((PAGE + 1, 1), (0, 1), (PAGE, 0), (PAGE, 1 << 40)):
        assert refusal(uffd.register, start, length, modes).errno == EINVAL
    assert refusal(uffd.register, start + 1, PAGE).errno == EINVAL
    assert refusal(uffd.register, 16 * PAGE, PAGE).errno == EINVAL      # nothing there
    assert refusal(uffd.register, start, PAGE, RegisterMode.MINOR).errno == EINVAL
    uffd.register(start, PAGE)
    assert refusal(make_uffd().register, start, 2 * PAGE).errno == EBUSY
    assert refusal(make_uffd().unregister, start, PAGE).errno == EINVAL
    assert refusal(uffd.unregister, start, PAGE + 1).errno == EINVAL
    assert refusal(uffd.wake, start + 1, PAGE).errno == EINVAL
    uffd.unregister(start + PAGE, PAGE)             # never registered: allowed
    uffd.unregister(start, PAGE)
    assert reader(start).result() == b"\0"


def test_memory_that_cannot_be_written_is_not_registered(uffd, scratch):
    with open("/proc/self/exe", "rb") as program:
        start = scratch.map(PAGE, flags=mmap.MAP_SHARED, fd=program.fileno(),
                            prot=mmap.PROT_READ)
    assert refusal(uffd.register, start, PAGE).errno in (EINVAL, EPERM)
