"""The other documented modes: minor, write-protect, poison, SIGBUS, user mode only."""
from __future__ import annotations

import ctypes
import mmap
import os
import signal
from errno import EEXIST, EFAULT

import pytest
from uffd_support import (
    PAGE,
    Worker,
    killed_by,
    libc,
    one_event,
    page_of,
    pagemap,
    reader,
    run_python,
    writer,
)

from gcheap.userfaultfd import (
    ContinueMode,
    CopyMode,
    FaultFlags,
    Features,
    Ioctls,
    RegisterMode,
    UffdError,
    WriteProtectMode,
    read_memory,
    write_memory,
)


def write_protected(address: int) -> bool:
    return bool(pagemap(address) >> 57 & 1)


# -- minor faults --------------------------------------------------------------------------

@pytest.fixture
def cached(make_uffd, scratch):
    """(uffd, a mapping registered for minor faults, the memfd behind it); 4 pages."""
    uffd = make_uffd(Features.MINOR_SHMEM)
    fd = os.memfd_create("minor")
    os.ftruncate(fd, 4 * PAGE)
    start = scratch.map(4 * PAGE, flags=mmap.MAP_SHARED, fd=fd)
    ioctls = uffd.register(start, 4 * PAGE, RegisterMode.MINOR)
    assert Ioctls.CONTINUE in ioctls
    yield uffd, start, fd
    os.close(fd)


def test_a_minor_fault_is_reported_and_continued(cached):
    """The page is in the page cache, not in the page table: the handler may change it first."""
    uffd, start, fd = cached
    os.pwrite(fd, page_of(1), 0)
    late = reader(start, PAGE)
    event = one_event(uffd)
    assert event.address == start and event.flags == FaultFlags.MINOR
    os.pwrite(fd, page_of(2), 0)
    assert uffd.continue_(start, PAGE) == PAGE
    assert late.result() == page_of(2)


def test_continue_dontwake_and_what_it_refuses(cached):
    uffd, start, fd = cached
    os.pwrite(fd, page_of(1), 0)
    late = reader(start)
    one_event(uffd)
    switches = late.wait_blocked()
    uffd.continue_(start, PAGE, ContinueMode.DONTWAKE)
    assert late.sleeps() and late.switches() == switches
    uffd.wake(start, PAGE)
    assert late.result() == b"\1"
    for offset, errno in ((0, EEXIST), (PAGE, EFAULT)):     # mapped; not in the page cache
        with pytest.raises(UffdError) as refusal:
            uffd.continue_(start + offset, PAGE)
        assert refusal.value.errno == errno
    with pytest.raises(UffdError) as refusal:               # of four pages two are there
        os.pwrite(fd, page_of(1), PAGE)
        uffd.continue_(start + PAGE, 3 * PAGE)
    assert refusal.value.done == PAGE


def test_pages_missing_from_shared_memory_too_are_ordinary_missing_faults(make_uffd, scratch):
    uffd = make_uffd(Features.MISSING_SHMEM)
    start = scratch.map(PAGE, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    uffd.register(start, PAGE)
    late = reader(start)
    assert one_event(uffd).flags == FaultFlags(0)
    uffd.copy(start, page_of(5), PAGE)
    assert late.result() == b"\5"


# -- write protection ----------------------------------------------------------------------

@pytest.fixture
def protected(make_uffd, scratch):
    """(uffd, 4 pages with contents, all write-protected)."""
    uffd = make_uffd(Features.PAGEFAULT_FLAG_WP)
    start = scratch.filled(4)
    uffd.register(start, 4 * PAGE, RegisterMode.WP)
    assert uffd.writeprotect(start, 4 * PAGE) == 4 * PAGE
    return uffd, start


@pytest.mark.uninstrumented("it reads what a write that waits will change", only="thread")
def test_a_write_to_a_protected_page_waits_until_it_is_lifted(protected):
    uffd, start = protected
    assert write_protected(start)
    before = read_memory(start, PAGE)                       # reading is free
    late = writer(start, b"new")
    event = one_event(uffd)
    assert event.flags == FaultFlags.WRITE | FaultFlags.WP and event.page == start
    late.wait_blocked()
    assert read_memory(start, PAGE) == before
    uffd.writeprotect(start, PAGE, 0)
    late.result()
    assert read_memory(start, 3) == b"new"
    assert not write_protected(start) and write_protected(start + PAGE)


def test_lifting_with_dontwake_leaves_the_writer_blocked(protected):
    uffd, start = protected
    late = writer(start, b"new")
    one_event(uffd)
    switches = late.wait_blocked()
    uffd.writeprotect(start, PAGE, WriteProtectMode.DONTWAKE)
    assert late.sleeps() and late.switches() == switches
    uffd.wake(start, PAGE)
    late.result()


def test_copied_pages_can_arrive_protected(make_uffd, scratch):
    uffd = make_uffd(Features.PAGEFAULT_FLAG_WP)
    start = scratch.map(PAGE)
    uffd.register(start, PAGE, RegisterMode.MISSING | RegisterMode.WP)
    uffd.copy(start, page_of(1), PAGE, CopyMode.WP)
    assert write_protected(start)
    late = writer(start)
    assert FaultFlags.WP in one_event(uffd).flags
    uffd.writeprotect(start, PAGE, 0)
    late.result()


@pytest.mark.parametrize("unpopulated", [False, True])
def test_missing_pages_are_protected_only_with_wp_unpopulated(make_uffd, scratch, unpopulated):
    features = Features.PAGEFAULT_FLAG_WP
    if unpopulated:
        features |= Features.WP_UNPOPULATED
    uffd = make_uffd(features)
    start = scratch.map(PAGE)
    uffd.register(start, PAGE, RegisterMode.WP)
    uffd.writeprotect(start, PAGE)
    late = writer(start)
    if unpopulated:
        assert FaultFlags.WP in one_event(uffd).flags
        uffd.writeprotect(start, PAGE, 0)
    late.result()
    assert uffd.read_events() == []


def test_asynchronous_protection_is_lifted_by_the_kernel_and_leaves_a_mark(make_uffd, scratch):
    """WP_ASYNC: no event, no wait; what was written lost its mark in pagemap."""
    uffd = make_uffd(Features.WP_ASYNC | Features.PAGEFAULT_FLAG_WP)
    start = scratch.filled(4)
    uffd.register(start, 4 * PAGE, RegisterMode.WP)
    uffd.writeprotect(start, 4 * PAGE)
    write_memory(start + 2 * PAGE, b"x")
    assert [write_protected(start + i * PAGE) for i in range(4)] == [True, True, False, True]
    assert uffd.read_events() == []


def test_write_protection_of_shared_memory(make_uffd, scratch):
    uffd = make_uffd(Features.WP_HUGETLBFS_SHMEM | Features.PAGEFAULT_FLAG_WP)
    start = scratch.map(PAGE, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    write_memory(start, b"old")
    uffd.register(start, PAGE, RegisterMode.WP)
    uffd.writeprotect(start, PAGE)
    late = writer(start, b"new")
    assert FaultFlags.WP in one_event(uffd).flags
    uffd.writeprotect(start, PAGE, 0)
    late.result()


# -- poison and SIGBUS: in a process of its own, which dies --------------------------------

PRELUDE = """
    import mmap
    from gcheap.userfaultfd import *
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 4 * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
"""


def test_a_poisoned_page_kills_by_sigbus(make_uffd):
    make_uffd(Features.POISON)                              # skips where it is lacking
    result = run_python(PRELUDE + """
    uffd = Userfaultfd(Features.POISON)
    assert Ioctls.POISON in uffd.register(memory)
    uffd.zeropage(memory, page)
    assert uffd.poison(memoryview(memory)[page:], page) == page
    assert memory[0] == 0
    print("poisoned", flush=True)
    memory[page]
    """)
    assert killed_by(result, signal.SIGBUS), result.stderr
    assert result.stdout == "poisoned\n"


def test_a_waiting_thread_is_killed_by_poison(make_uffd):
    make_uffd(Features.POISON)
    result = run_python(PRELUDE + """
    import threading
    uffd = Userfaultfd(Features.POISON)
    uffd.register(memory)
    threading.Thread(target=read_memory, args=(address_of(memory), 1), daemon=True).start()
    event, = uffd.read_events(timeout=30)
    print("waits", flush=True)
    uffd.poison(event.page, page)
    threading.Event().wait(30)
    """)
    assert killed_by(result, signal.SIGBUS), result.stderr
    assert result.stdout == "waits\n"


def test_with_the_sigbus_feature_a_missing_page_is_a_signal_and_no_event(make_uffd):
    make_uffd(Features.SIGBUS)
    result = run_python(PRELUDE + """
    uffd = Userfaultfd(Features.SIGBUS)
    uffd.register(memory)
    uffd.copy(memory, b"x" * page, page)
    assert memory[:1] == b"x" and uffd.read_events() == []
    print("served", flush=True)
    memory[page]
    """)
    assert killed_by(result, signal.SIGBUS), result.stderr
    assert result.stdout == "served\n"


def test_a_sigbus_handler_can_serve_the_fault_itself(make_uffd):
    """As gcheap's heaps do: the faulting thread's own handler fills the page, then returns.

    A ctypes callback, since handlers of the signal module run too late; it is safe only as
    `read_memory` has let go of the GIL.
    """
    make_uffd(Features.SIGBUS)
    result = run_python(PRELUDE + """
    import ctypes, signal
    uffd = Userfaultfd(Features.SIGBUS)
    uffd.register(memory)
    start = address_of(memory)
    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def handler(number):
        uffd.zeropage(start, 4 * page)
    ctypes.CDLL(None).signal(ctypes.c_int(signal.SIGBUS), handler)
    print(read_memory(start, 2), uffd.read_events())
    """)
    assert result.stdout == "b'\\x00\\x00' []\n", result


# -- faults inside system calls ------------------------------------------------------------

def write_to_pipe(address: int) -> int:
    """0, or the errno of write(2) from that address."""
    into, out = os.pipe()
    try:
        done = libc.write(out, address, 1)
        return 0 if done == 1 else ctypes.get_errno()
    finally:
        os.close(into)
        os.close(out)


def test_user_mode_only_makes_system_calls_on_missing_pages_fail_with_efault(
        make_uffd, scratch):
    uffd = make_uffd(user_mode_only=True)
    assert uffd.user_mode_only is True
    start = scratch.map(2 * PAGE)
    uffd.register(start, 2 * PAGE)
    assert write_to_pipe(start) == EFAULT
    assert uffd.read_events() == []
    late = reader(start)                                    # user code is served as ever
    assert one_event(uffd).address == start
    uffd.copy(start, page_of(1), PAGE)
    assert late.result() == b"\1"
    assert write_to_pipe(start) == 0


def test_without_it_the_system_call_waits_for_the_page(full_uffd, scratch):
    uffd = full_uffd()
    assert uffd.user_mode_only is False
    start = scratch.map(PAGE)
    uffd.register(start, PAGE)
    call = Worker(lambda: write_to_pipe(start))
    assert one_event(uffd).address == start
    uffd.copy(start, page_of(1), PAGE)
    assert call.result() == 0
