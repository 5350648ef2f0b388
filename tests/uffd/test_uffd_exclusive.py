"""MOVE takes only pages that are exclusively this process's, and acts on one address space."""
from __future__ import annotations

import ctypes
import os
from errno import EBUSY, EINVAL, ENOMEM, ENOSYS, EPERM, ESRCH
from pathlib import Path

import pytest
from support import wait_until
from system import ksm_at_work
from uffd_support import (
    PAGE,
    Child,
    advise,
    content,
    libc,
    page_of,
    present,
    run_python,
)

from gcheap.userfaultfd import UffdError, read_memory, write_memory

pytestmark = pytest.mark.xdist_group("machine")     # they change settings of all of it

MADV_DONTFORK, MADV_MERGEABLE = 10, 12
IO_URING_SETUP, IO_URING_REGISTER = 425, 427
IORING_REGISTER_BUFFERS, IORING_UNREGISTER_BUFFERS = 0, 1


@pytest.fixture
def pair(scratch, mover):
    src, dst = scratch.filled(4), scratch.map(4 * PAGE)
    mover.register(dst, 4 * PAGE)
    return src, dst


def refused_as_busy(mover, dst: int, src: int, length: int = PAGE) -> bool:
    with pytest.raises(UffdError) as caught:
        mover.move(dst, src, length)
    assert caught.value.done == 0
    assert "MADV_DONTFORK" in str(caught.value)
    return caught.value.errno == EBUSY


def test_pages_shared_with_a_live_child_are_ebusy(mover, pair):
    src, dst = pair
    with Child():
        assert refused_as_busy(mover, dst, src, 4 * PAGE)
        assert read_memory(src, 4 * PAGE) == content(1, 4)
        assert mover.copy(dst, src, PAGE) == PAGE           # the way out


def test_after_the_child_has_exited_it_lasts_until_the_page_is_written(mover, pair):
    src, dst = pair
    with Child():
        pass
    assert refused_as_busy(mover, dst, src)
    read_memory(src, 4 * PAGE)                              # reading does not help
    assert refused_as_busy(mover, dst, src)
    write_memory(src, b"\x02")
    assert mover.move(dst, src, PAGE) == PAGE
    assert refused_as_busy(mover, dst + PAGE, src + PAGE)   # its neighbour was not written


def test_writing_while_the_child_lives_makes_the_page_exclusive_too(mover, pair):
    src, dst = pair
    with Child():
        write_memory(src, b"own")
        assert mover.move(dst, src, PAGE) == PAGE
        assert read_memory(dst, 3) == b"own"


def test_dontfork_sources_move_beside_a_live_child(mover, pair):
    src, dst = pair
    advise(src, 4 * PAGE, MADV_DONTFORK)
    with Child():
        assert mover.move(dst, src, 4 * PAGE) == 4 * PAGE
    assert read_memory(dst, 4 * PAGE) == content(1, 4)


def test_pages_merged_by_ksm_are_ebusy(root, mover, scratch):
    count = 8
    src, dst = scratch.map(count * PAGE), scratch.map(count * PAGE)
    for i in range(count):
        write_memory(src + i * PAGE, b"merge me" * (PAGE // 8))
    mover.register(dst, count * PAGE)
    advise(src, count * PAGE, MADV_MERGEABLE)
    merged = Path("/proc/self/ksm_merging_pages")
    with ksm_at_work():
        wait_until(lambda: int(merged.read_text()) > 0, "KSM merges the pages")
    # KSM may have left one of the equal pages alone.
    busy = 0
    for i in range(count):
        try:
            mover.move(dst + i * PAGE, src + i * PAGE, PAGE)
        except UffdError as error:
            assert error.errno == EBUSY, error
            busy += 1
    assert busy >= int(merged.read_text()) > 0


class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def test_a_page_pinned_by_an_io_uring_fixed_buffer_is_ebusy(mover, pair):
    src, dst = pair
    parameters = ctypes.create_string_buffer(120)
    ring = libc.syscall(IO_URING_SETUP, 1, parameters)
    if ring < 0:
        code = ctypes.get_errno()
        assert code in (EPERM, ENOSYS), os.strerror(code)
        pytest.skip(f"io_uring is not available: {os.strerror(code)}")
    try:
        vector = IoVec(src, PAGE)
        assert libc.syscall(IO_URING_REGISTER, ring, IORING_REGISTER_BUFFERS,
                            ctypes.byref(vector), 1) == 0, os.strerror(ctypes.get_errno())
        assert refused_as_busy(mover, dst, src)
        assert mover.move(dst + PAGE, src + PAGE, PAGE) == PAGE     # its neighbour is free
        assert libc.syscall(IO_URING_REGISTER, ring, IORING_UNREGISTER_BUFFERS, None, 0) == 0
        # The kernel gives the pin back a little later.
        wait_until(lambda: moves(mover, dst, src), "the unpinned page moves")
    finally:
        os.close(ring)
    assert read_memory(dst, 2 * PAGE) == content(1, 2)


def moves(mover, dst: int, src: int) -> bool:
    try:
        return mover.move(dst, src, PAGE) == PAGE
    except UffdError as error:
        assert error.errno == EBUSY, error
        return False


def test_an_inherited_descriptor_acts_on_the_parent(mover, pair):
    """COPY from a forked child fills the *parent's* page, and none of the child's."""
    _, dst = pair

    def in_child():
        done = mover.copy(dst, page_of(7), PAGE)
        return done, present(dst), read_memory(dst, 1)

    with Child(in_child) as child:
        assert child.result == (PAGE, False, b"\0")
        assert present(dst)
        assert read_memory(dst, PAGE) == page_of(7)


def test_move_from_a_child_is_einval(mover, pair):
    src, dst = pair

    def in_child():
        try:
            return mover.move(dst, src, PAGE)
        except UffdError as error:
            return error.errno

    with Child(in_child) as child:
        assert child.result == EINVAL
    assert not present(dst)


def test_after_the_parents_exit_its_descriptor_says_so():
    result = run_python("""
        import mmap, os, sys
        from gcheap.userfaultfd import Userfaultfd, UffdError
        memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            uffd = Userfaultfd()
        except UffdError as error:
            print("skip", error)
            os._exit(0)
        uffd.register(memory)
        life, ours = os.pipe()
        if os.fork():
            os._exit(0)                 # all of the parent's memory goes with it
        os.close(ours)
        os.read(life, 1)                # its end: a dying process drops its memory before
                                        # its files, so that is gone by now
        page = mmap.PAGESIZE
        for call, *arguments in ((uffd.copy, memory, b"x" * page, page),
                                 (uffd.zeropage, memory, page),
                                 (uffd.writeprotect, memory, page),
                                 (uffd.poison, memory, page), (uffd.continue_, memory, page),
                                 (uffd.move, memory, memory, page),
                                 (uffd.register, memory, page), (uffd.unregister, memory)):
            try:
                print("done", call(*arguments))
            except UffdError as error:
                print(error.ioctl, error.errno, error)
        sys.stdout.flush()
        os._exit(0)
    """)
    answers = result.stdout.splitlines()
    assert answers, result.stderr
    if answers[0].startswith("skip"):
        pytest.skip(answers[0])
    errnos = {answer.split()[0]: int(answer.split()[1]) for answer in answers}
    esrch = dict.fromkeys(("COPY", "ZEROPAGE", "WRITEPROTECT", "POISON", "CONTINUE"), ESRCH)
    # MOVE looks first whether the memory is the caller's own, so ESRCH never shows; the two
    # ioctls of registration call it ENOMEM.
    assert errnos == esrch | {"MOVE": EINVAL, "REGISTER": ENOMEM, "UNREGISTER": ENOMEM}
    assert all("exited" in answer for answer in answers if "MOVE" not in answer)
