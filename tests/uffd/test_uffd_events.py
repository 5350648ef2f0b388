"""Typed events: what the kernel reports besides pages, and the details of page faults."""
from __future__ import annotations

import array
import mmap
import os
import socket
from errno import EAGAIN

import pytest
from support import PATIENCE
from uffd_support import (
    PAGE,
    Child,
    Worker,
    advise,
    checked,
    libc,
    one_event,
    page_of,
    reader,
    run_python,
    wait_readable,
    writer,
)

from gcheap.userfaultfd import (
    FaultFlags,
    Features,
    ForkEvent,
    PagefaultEvent,
    RemapEvent,
    RemoveEvent,
    UffdError,
    UnmapEvent,
    Userfaultfd,
    read_memory,
)


def test_reads_and_writes_are_told_apart(uffd, scratch):
    start = scratch.map(2 * PAGE)
    uffd.register(start, 2 * PAGE)
    late = reader(start)
    assert one_event(uffd) == PagefaultEvent(start, FaultFlags(0), None)
    uffd.zeropage(start, PAGE)
    late.result()
    late = writer(start + PAGE + 5)
    assert one_event(uffd) == PagefaultEvent(start + PAGE, FaultFlags.WRITE, None)
    uffd.zeropage(start + PAGE, PAGE)
    late.result()


def test_the_event_names_the_thread_where_asked_for(make_uffd, scratch):
    uffd = make_uffd(Features.THREAD_ID)
    start = scratch.map(PAGE)
    uffd.register(start, PAGE)
    late = reader(start)
    assert one_event(uffd).thread_id == late.tid
    uffd.zeropage(start, PAGE)
    late.result()


@pytest.mark.parametrize("exact", [False, True])
def test_the_address_is_exact_where_asked_for(make_uffd, scratch, exact):
    uffd = make_uffd(Features.EXACT_ADDRESS if exact else 0)
    start = scratch.map(PAGE)
    uffd.register(start, PAGE)
    late = reader(start + 123)
    event = one_event(uffd)
    assert event.address == start + (123 if exact else 0)
    assert event.page == start
    uffd.zeropage(event.page, PAGE)
    late.result()


def test_several_threads_on_one_page_are_an_event_each(uffd, scratch):
    start = scratch.map(PAGE)
    uffd.register(start, PAGE)
    late = [reader(start) for _ in range(3)]
    events = []
    while len(events) < 3:
        events += uffd.read_events(timeout=PATIENCE)
    assert events == [PagefaultEvent(start, FaultFlags(0), None)] * 3
    uffd.copy(start, page_of(9), PAGE)
    assert [thread.result() for thread in late] == [b"\t"] * 3


def test_a_removed_range_is_reported_and_faults_again(make_uffd, scratch):
    """madvise waits until its event is read; the range stays registered."""
    uffd = make_uffd(Features.EVENT_REMOVE)
    start = scratch.map(4 * PAGE)
    uffd.register(start, 4 * PAGE)
    uffd.copy(start, page_of(1), PAGE)
    drop = Worker(lambda: advise(start, 3 * PAGE, mmap.MADV_DONTNEED))
    wait_readable(uffd)
    assert not drop.done
    assert one_event(uffd) == RemoveEvent(start, start + 3 * PAGE)
    drop.result()
    late = reader(start)
    assert one_event(uffd).address == start
    uffd.copy(start, page_of(2), PAGE)
    assert late.result() == b"\2"


def test_a_remapped_range_is_reported_and_served_where_it_is_now(make_uffd, scratch):
    uffd = make_uffd(Features.EVENT_REMAP)
    old, new = scratch.map(4 * PAGE), scratch.map(4 * PAGE)
    uffd.register(old, 4 * PAGE)
    uffd.copy(old, page_of(1), PAGE)
    move = Worker(lambda: checked(libc.mremap(old, 4 * PAGE, 4 * PAGE, 3, new)))
    assert one_event(uffd) == RemapEvent(old, new, 4 * PAGE)
    assert move.result() == new
    late = Worker(lambda: read_memory(new, 2 * PAGE))
    assert one_event(uffd).address == new + PAGE
    uffd.copy(new + PAGE, page_of(2), PAGE)
    assert late.result() == page_of(1) + page_of(2)


def test_an_unmapped_range_is_reported(make_uffd, scratch):
    uffd = make_uffd(Features.EVENT_UNMAP)
    start = scratch.map(4 * PAGE)
    uffd.register(start, 4 * PAGE)
    unmap = Worker(lambda: checked(libc.munmap(start + PAGE, 2 * PAGE)))
    assert one_event(uffd) == UnmapEvent(start + PAGE, start + 3 * PAGE)
    unmap.result()


def test_events_that_nobody_asked_for_do_not_come(uffd, scratch):
    start = scratch.map(4 * PAGE)
    uffd.register(start, 4 * PAGE)
    uffd.zeropage(start, 2 * PAGE)
    advise(start, PAGE, mmap.MADV_DONTNEED)
    checked(libc.munmap(start + 3 * PAGE, PAGE))
    assert uffd.read_events() == []


FORKER = """
    import array, mmap, os, socket, sys
    from gcheap.userfaultfd import Features, UffdError, Userfaultfd
    channel = socket.socket(fileno=int(sys.argv[1]))
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    uffd = Userfaultfd(Features.EVENT_FORK)
    uffd.register(memory)
    from gcheap.userfaultfd import address_of
    channel.sendmsg([address_of(memory).to_bytes(8, "little")],
                    [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [uffd.fileno()]))])
    pid = os.fork()             # waits, with the GIL, until the monitor has read the event
    if pid == 0:
        channel.send(b"child " + memory[:1])
        os._exit(0)
    channel.send(b"parent " + memory[:1])
    os.waitpid(pid, 0)
"""


def test_fork_is_reported_with_a_descriptor_for_the_childs_memory(full_uffd):
    """The monitor is another process, as it must be when Python forks: this one."""
    full_uffd(Features.EVENT_FORK)                      # skips where it is not permitted
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE)
    run = Worker(lambda: run_python_with(theirs))
    message, control, _, _ = ours.recvmsg(8, socket.CMSG_SPACE(4))
    start = int.from_bytes(message, "little")
    fd, = array.array("i", control[0][2])
    with Userfaultfd.adopt(fd, Features.EVENT_FORK) as parent:
        assert (parent.opened_by, parent.user_mode_only) == ("adopted", None)
        assert not os.get_blocking(fd) and not os.get_inheritable(fd)
        event = one_event(parent)
        assert isinstance(event, ForkEvent)
        with event.child as child:
            # The same address in both processes, served through a descriptor for each.
            for uffd, letter in ((parent, b"p"), (child, b"c")):
                fault = one_event(uffd)
                assert fault.address == start
                uffd.copy(start, letter * PAGE, PAGE)
            answers = {ours.recv(64), ours.recv(64)}
            assert answers == {b"parent p", b"child c"}
    result = run.result()
    assert result.returncode == 0, result.stderr
    ours.close()
    theirs.close()


def run_python_with(channel: socket.socket):
    os.set_inheritable(channel.fileno(), True)
    return run_python(FORKER, channel.fileno(), pass_fds=[channel.fileno()])


def test_without_the_fork_event_the_childs_missing_pages_are_zeros(uffd, scratch):
    start = scratch.map(PAGE)
    uffd.register(start, PAGE)
    with Child(lambda: read_memory(start, 4)) as child:
        assert child.result == bytes(4)
    assert uffd.read_events() == []


def test_a_call_under_an_unread_event_is_told_to_read_it(make_uffd, scratch):
    uffd = make_uffd(Features.EVENT_UNMAP)
    start = scratch.map(2 * PAGE)
    uffd.register(start, 2 * PAGE)
    unmap = Worker(lambda: checked(libc.munmap(start + PAGE, PAGE)))
    wait_readable(uffd)
    with pytest.raises(UffdError) as refusal:
        uffd.zeropage(start, PAGE)
    assert refusal.value.errno == EAGAIN
    assert isinstance(one_event(uffd), UnmapEvent)
    unmap.result()
    assert uffd.zeropage(start, PAGE) == PAGE
