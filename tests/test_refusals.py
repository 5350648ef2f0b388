"""ioctls that are refused or fall short: counted, taken down the ladder, nothing lost."""
from __future__ import annotations

import ctypes
import errno
import os
import signal

import pytest
from support import (
    MutatorThread,
    check_interleaved,
    interleaved,
    node_shape,
    writable_mappings,
)

from gcheap import failpoints

COUNT = 20_000
NAME = {"move": "place.move", "copy": "place.copy"}


@pytest.fixture
def moving_heap(make_concurrent_heap):
    return make_concurrent_heap("16MiB")


class LiveChild:
    """A forked child that does nothing but live until the end of the block.

    It is made by clone(2), so that it may come at any point of a cycle: fork() would wait.  It
    makes system calls only, and keeps the GIL, which it shares with threads that it does not have.
    """

    def __enter__(self) -> LiveChild:
        libc = ctypes.PyDLL(None)
        number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
        hold, self._release = os.pipe()
        byte = ctypes.create_string_buffer(1)
        self.pid = libc.syscall(number, int(signal.SIGCHLD), 0, 0, 0, 0)
        if self.pid == 0:
            libc.close(self._release)
            libc.read(hold, byte, 1)
            libc._exit(0)
        os.close(hold)
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._release)
        assert os.waitpid(self.pid, 0)[1] == 0


def black_arrays(m, count: int = 200) -> list:
    """Byte arrays made while a cycle runs: their pages move whole, without assembly."""
    return [m.new_bytes(i.to_bytes(4, "little") * 700) for i in range(count)]


def check_black_arrays(arrays: list) -> None:
    for i, array in enumerate(arrays):
        assert bytes(array) == i.to_bytes(4, "little") * 700


def check_that_moves_became_copies(heap, before) -> None:
    after = heap.stats()
    if heap.backend == "move":
        assert after.ioctls["move"].refused["EBUSY"] > 0
    assert after.ioctls["copy"].pages > before.ioctls["copy"].pages
    assert after.copied_bytes > before.copied_bytes


def test_pages_that_a_live_forked_child_shares_are_copied(moving_heap):
    """The child is forked between marking and the flip, with whole units about to move."""
    with moving_heap.attach() as m:
        nodes = interleaved(m, node_shape(moving_heap), COUNT)
        before = moving_heap.stats()
        with failpoints.pause("plan.done", times=1) as point:
            moving_heap.collect(wait=False)
            point.wait()
            arrays = black_arrays(m)
            with LiveChild():
                point.release()
                moving_heap.collect()
                check_that_moves_became_copies(moving_heap, before)
                assert check_interleaved(nodes) == COUNT
                check_black_arrays(arrays)
                moving_heap.collect()
        for _ in range(2):
            interleaved(m, node_shape(moving_heap), 500)
            moving_heap.collect()
            assert check_interleaved(nodes) == COUNT
            check_black_arrays(arrays)


def test_a_buffer_that_a_live_forked_child_shares_is_copied(moving_heap):
    """The child is forked while the compactor holds an assembled batch."""
    with moving_heap.attach() as m:
        nodes = interleaved(m, node_shape(moving_heap), COUNT)
        before = moving_heap.stats()
        with failpoints.pause("compactor.assembled", times=1) as point:
            moving_heap.collect(wait=False)
            point.wait()
            with LiveChild():
                point.release()
                moving_heap.collect()
                check_that_moves_became_copies(moving_heap, before)
        assert check_interleaved(nodes) == COUNT
        moving_heap.collect()
        assert check_interleaved(nodes) == COUNT


def test_faults_on_pages_that_a_live_forked_child_shares(moving_heap):
    """The same for a mutator that builds the units itself."""
    with moving_heap.attach() as m:
        nodes = interleaved(m, node_shape(moving_heap), COUNT)
        with failpoints.pause("plan.done", times=1) as planned, \
                failpoints.pause("flip.after", times=1) as flipped:
            moving_heap.collect(wait=False)
            planned.wait()
            arrays = black_arrays(m)
            planned.release()
            flipped.wait()
            before = moving_heap.stats()
            with LiveChild():
                assert check_interleaved(nodes, range(COUNT - 1, -1, -1)) == COUNT
                check_black_arrays(arrays)
                check_that_moves_became_copies(moving_heap, before)
                assert moving_heap.stats().faults > before.faults
                flipped.release()
                moving_heap.collect()
        assert check_interleaved(nodes) == COUNT
        check_black_arrays(arrays)


def test_a_child_that_came_and_went_between_cycles(moving_heap):
    with moving_heap.attach() as m:
        nodes = interleaved(m, node_shape(moving_heap), COUNT)
        for _ in range(3):
            with LiveChild():
                pass
            moving_heap.collect()
            assert check_interleaved(nodes) == COUNT
            interleaved(m, node_shape(moving_heap), 300)


@pytest.mark.parametrize("pages", [1, 3])
@pytest.mark.parametrize("unit_pages", [4, 16])
def test_short_placements_are_resumed(make_concurrent_heap, pages, unit_pages):
    heap = make_concurrent_heap("16MiB", unit_pages=unit_pages)
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        before = heap.stats().ioctls[heap.backend]
        with failpoints.short(NAME[heap.backend], pages=pages, times=20) as point:
            heap.collect()
            assert point.hits == 20
        after = heap.stats().ioctls[heap.backend]
        assert after.pages - before.pages > 20
        assert check_interleaved(nodes) == COUNT
        heap.collect()
        assert check_interleaved(nodes) == COUNT


def test_short_placements_in_the_fault_path_are_resumed(moving_heap):
    with moving_heap.attach() as m:
        nodes = interleaved(m, node_shape(moving_heap), COUNT)
        with failpoints.pause("flip.after") as point:
            moving_heap.collect(wait=False)
            point.wait()
            with failpoints.short(NAME[moving_heap.backend], pages=1, times=40) as shorter:
                assert check_interleaved(nodes, range(COUNT - 1, -1, -1)) == COUNT
                assert shorter.hits == 40
        moving_heap.collect()
        assert check_interleaved(nodes) == COUNT


# EEXIST once: the stray page is dropped and the placement retried. EBUSY is no answer of COPY.
REFUSALS = {
    "EBUSY": (errno.EBUSY, 5), "EAGAIN": (errno.EAGAIN, 30), "ENOMEM": (errno.ENOMEM, 3),
    "EEXIST": (errno.EEXIST, 1),
}


@pytest.mark.parametrize(("number", "times"), REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("who", ["compactor", "mutator"])
def test_injected_refusals_lose_nothing(moving_heap, number, times, who):
    heap, kind, name = moving_heap, moving_heap.backend, errno.errorcode[number]
    if (kind, name) == ("copy", "EBUSY"):
        pytest.skip("EBUSY is no answer of UFFDIO_COPY")
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        before = heap.stats()
        refuse = failpoints.fail(NAME[kind], number, times=times)
        if who == "compactor":
            with refuse:
                heap.collect()
                hits = refuse.hits
        else:
            with failpoints.pause("flip.after") as flip:
                heap.collect(wait=False)
                flip.wait()
                with refuse:
                    assert check_interleaved(nodes, range(COUNT - 1, -1, -1)) == COUNT
                    hits = refuse.hits
            heap.collect()
        stats = heap.stats()
        assert hits == times
        assert stats.ioctls[kind].refused[name] >= times
        if name == "EEXIST":
            assert stats.stray_pages > before.stray_pages
        if name == "EBUSY":
            assert stats.ioctls["copy"].pages > before.ioctls["copy"].pages
            assert stats.copied_bytes > before.copied_bytes
        assert check_interleaved(nodes) == COUNT
        heap.collect()
        assert check_interleaved(nodes) == COUNT


def test_every_move_refused_is_a_whole_cycle_by_copy(moving_heap):
    if moving_heap.backend != "move":
        pytest.skip("the ladder starts at MOVE")
    with moving_heap.attach() as m, MutatorThread(moving_heap) as second:
        nodes = interleaved(m, node_shape(moving_heap), COUNT)
        before = moving_heap.stats()
        with failpoints.fail("place.move", errno.EBUSY, times=None):
            moving_heap.collect(wait=False)
            walk = second.start(lambda m: check_interleaved(nodes, range(COUNT - 1, -1, -1)))
            assert check_interleaved(nodes) == walk.result() == COUNT
            moving_heap.collect()
        after = moving_heap.stats()
        assert after.moved_bytes == before.moved_bytes
        assert after.copied_bytes > before.copied_bytes
        assert check_interleaved(nodes) == COUNT


@pytest.mark.parametrize("answer", ["EEXIST", "EAGAIN"])
@pytest.mark.parametrize("who", ["compactor", "mutator"])
def test_pages_that_move_without_being_counted_are_not_taken_for_strays(make_concurrent_heap, who,
                                                                        answer):
    """What Linux 6.18 does after an EAGAIN inside of a MOVE: tests/uffd/test_uffd_huge.py."""
    heap = make_concurrent_heap("16MiB", verify=3)
    if heap.backend != "move":
        pytest.skip("the ladder starts at MOVE")
    unreported = failpoints.fail("place.unreported", getattr(errno, answer), times=5)
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        before = heap.stats()
        with failpoints.pause("plan.done", times=1) as point:
            heap.collect(wait=False)
            point.wait()
            arrays = black_arrays(m)                # whole units: their sources may be holes
            if who == "compactor":
                with unreported:
                    point.release()
                    heap.collect()
            else:
                with failpoints.pause("flip.after") as flip:
                    point.release()
                    flip.wait()
                    with unreported:
                        check_black_arrays(arrays)
                        assert check_interleaved(nodes, range(COUNT - 1, -1, -1)) == COUNT
                heap.collect()
        after = heap.stats()
        assert unreported.hits == 5 and after.stray_pages == before.stray_pages
        assert after.unreported_pages - before.unreported_pages >= 5
        assert check_interleaved(nodes) == COUNT
        check_black_arrays(arrays)


def test_stray_pages_of_a_debugger_do_no_harm(concurrent, make_concurrent_heap):
    """Somebody reads all of the empty half, which gives it pages, before it is registered."""
    before = writable_mappings()
    heap = make_concurrent_heap("8MiB")
    mine = {s: e for s, e in writable_mappings().items() if before.get(s) != e}
    assert sum(end - start for start, end in mine.items()) >= 2 * heap.capacity

    def read_everything():
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            for start, end in mine.items():
                for page in range(start, min(end, start + (16 << 20)), heap.page_size):
                    memory.seek(page)
                    memory.read(1)

    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        for moment in ("mark.before", "plan.done"):
            with failpoints.pause(moment, times=1) as point:
                heap.collect(wait=False)
                point.wait()
                read_everything()
            heap.collect()
            assert check_interleaved(nodes) == COUNT
        assert heap.stats().stray_pages == 0                # they were dropped once registered
