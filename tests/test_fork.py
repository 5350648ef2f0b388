"""fork(): parent and child both go on with every heap, whatever was in flight."""
from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from contextlib import ExitStack

import pytest
from support import (
    COUNT,
    PATIENCE,
    Child,
    MutatorThread,
    as_a_child,
    check_interleaved,
    descriptors_of_userfaultfd,
    go_on,
    interleaved,
    node_shape,
    released_while_forking,
    status_of_child,
    threads,
    wait_until,
)

import gcheap
from gcheap import failpoints
from gcheap.core import _testing
from gcheap.workloads import _micro

# A fork here ends the cycle.
ABANDONED = ["mark.before", "mark.concurrent", "mark.traced", "plan.done"]
POINTS = [*ABANDONED, "register.done", "flip.before", "flip.after",
          "compactor.claimed", "compactor.assembled", "compactor.placed", "place.move",
          "place.copy", "relocate.done", "unregister.done", "cycle.end"]
MUTATOR_POINTS = ["mutator.fault", "mutator.claimed", "mutator.assembled", "mutator.placed"]
ONLY = {"register.done": ("move", "copy"), "mark.concurrent": ("move", "copy"),
        "mark.traced": ("move", "copy"),
        "place.move": ("move",), "place.copy": ("copy",)}


# ---- at every point of a cycle -----------------------------------------------------------

@pytest.mark.parametrize("point", POINTS)
def test_a_fork_at_each_point_of_a_cycle(graph, point):
    heap, m, nodes = graph
    if heap.backend not in ONLY.get(point, heap.backend):
        pytest.skip(f"{heap.backend} does not come by {point}")
    with failpoints.pause(point, times=1) as held, \
            failpoints.delay("cycle.abandoned", ns=1) as abandoned, \
            failpoints.delay("fork.prepare", ns=1) as prepared:
        heap.collect(wait=False)
        held.wait()
        with released_while_forking(point):
            child = Child(as_a_child, *graph)
        assert prepared.hits == 1
        go_on(*graph)
        assert abandoned.hits == (point in ABANDONED and heap.backend != "stw")
    child.join()
    assert heap.stats().cycles >= 4                         # the abandoned one's ticket included


@pytest.mark.parametrize("point", MUTATOR_POINTS)
def test_a_fork_while_a_mutator_builds_a_unit(make_concurrent_heap, point):
    heap = make_concurrent_heap(verify=3)
    with heap.attach() as m, MutatorThread(heap) as worker:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.pause("flip.after", times=1) as flipped, \
                failpoints.pause(point, times=1) as held:
            heap.collect(wait=False)
            flipped.wait()
            reader = worker.start(lambda mine: _testing.read_words(mine.native(), nodes, COUNT))
            held.wait()
            with released_while_forking("flip.after", point):
                child = Child(as_a_child, heap, m, nodes)
            assert len(reader.result(PATIENCE)) == COUNT
            go_on(heap, m, nodes)
        child.join()


def test_a_mutator_that_waits_for_a_unit_while_another_thread_forks(make_concurrent_heap):
    heap = make_concurrent_heap(verify=3)
    with heap.attach() as m, MutatorThread(heap) as worker:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.pause("compactor.assembled", times=1) as held, \
                failpoints.delay("mutator.wait", ns=1) as waits:
            heap.collect(wait=False)
            held.wait()
            reader = worker.start(lambda mine: _testing.read_words(mine.native(), nodes, COUNT))
            wait_until(lambda: waits.hits, "a mutator that waits")
            with released_while_forking("compactor.assembled"):
                child = Child(as_a_child, heap, m, nodes)
            assert len(reader.result(PATIENCE)) == COUNT
            go_on(heap, m, nodes)
        child.join()


def test_objects_larger_than_a_slice_of_marking(make_heap):
    heap = make_heap("32MiB", verify=3)
    with heap.attach() as m:
        wide = m.new_slots(200_000)
        wide[0] = wide[199_999] = m.new_bytes(b"x")
        graph = heap, m, interleaved(m, node_shape(heap), COUNT)
        heap.collect(wait=False)
        child = Child(as_a_child, *graph)
        go_on(*graph)
        assert bytes(wide[0]) == bytes(wide[199_999]) == b"x"
        child.join()


# ---- progress ----------------------------------------------------------------------------

def test_who_waits_for_an_abandoned_cycle_gets_it(make_concurrent_heap):
    heap = make_concurrent_heap()
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.pause("mark.concurrent", times=1) as held:
            waiter = threading.Thread(target=heap.collect)
            waiter.start()
            held.wait()
            with released_while_forking("mark.concurrent"):
                child = Child(as_a_child, heap, m, nodes)
        waiter.join(PATIENCE)
        assert not waiter.is_alive() and heap.stats().cycles == 1
        child.join()


def test_a_fork_after_an_abandoned_cycle_waits_for_its_successor(make_concurrent_heap):
    """So a process that forks all the time still collects."""
    heap = make_concurrent_heap()
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.pause("mark.concurrent", times=1) as held, \
                failpoints.delay("cycle.abandoned", ns=1) as abandoned:
            heap.collect(wait=False)
            held.wait()
            with released_while_forking("mark.concurrent"):
                first = Child(lambda: sys.exit(heap.stats().cycles))
            assert abandoned.hits == 1

            def second_body():
                assert heap.stats().cycles >= 1
                as_a_child(heap, m, nodes)
            second = Child(second_body)
            assert heap.stats().cycles >= 1
        second.join()
        assert os.waitpid(first.pid, 0)[1] >> 8 == 1        # SystemExit is an exception there
        os.close(first._read)


def test_ten_forks_during_relocations(graph):
    heap, m, nodes = graph
    children = []
    with failpoints.delay("compactor.placed", ns=1_000_000), \
            failpoints.delay("relocate.done", ns=1) as relocated:
        for _ in range(10):
            interleaved(m, node_shape(heap), 300)
            with failpoints.pause("flip.after", times=1) as flipped:
                heap.collect(wait=False)
                flipped.wait()
                with released_while_forking("flip.after"):
                    children.append(Child(as_a_child, *graph))
            go_on(*graph, rounds=3)
        assert relocated.hits >= 40
    for child in children:
        child.join()


def test_a_storm_of_forks_while_others_allocate(checked_heap):
    heap = checked_heap
    stop = threading.Event()

    def allocate(m):
        shape = node_shape(heap)
        while not stop.is_set():
            m.new(shape, key=1)
            _micro.alloc_loop(m.native(), shape.id, 5000)
        return True

    with ExitStack() as stack:
        m = stack.enter_context(heap.attach())
        nodes = interleaved(m, node_shape(heap), COUNT)
        workers = [stack.enter_context(MutatorThread(heap)) for _ in range(3)]
        work = [worker.start(allocate) for worker in workers]
        children = []
        before = heap.stats().cycles
        for i in range(20):
            heap.collect(wait=False)
            children.append(Child(as_a_child, heap, m, nodes, COUNT, i % 3))
        stop.set()
        assert all(w.result(PATIENCE) for w in work)
        for child in children:
            child.join()
        assert heap.stats().cycles > before
        go_on(heap, m, nodes)


def test_native_mutators_that_run_while_another_thread_forks(checked_heap):
    heap = checked_heap
    shape = heap.shape("Garbage", refs=("next",), raw=[("key", "u8")])
    with heap.attach() as m, MutatorThread(heap) as one, MutatorThread(heap) as two:
        nodes = interleaved(m, node_shape(heap), COUNT)
        for _ in range(5):
            work = [w.start(lambda mine: _micro.alloc_loop(mine.native(), shape.id, 300_000))
                    for w in (one, two)]
            children = [Child(as_a_child, heap, m, nodes, COUNT, 1) for _ in range(3)]
            for w in work:
                w.result(PATIENCE)
            for child in children:
                child.join()
        go_on(heap, m, nodes)


# ---- what the child has ------------------------------------------------------------------

def test_a_child_starts_nothing_until_it_needs_a_cycle(graph):
    heap, m, nodes = graph
    uffds = int(heap.backend != "stw")
    own = 2 + (heap.fault_mode == "handler")
    before = len(descriptors_of_userfaultfd())              # heaps of other tests may still live
    assert before >= uffds

    def body():
        assert threads() == 1 and descriptors_of_userfaultfd() == []
        assert check_interleaved(nodes) == COUNT
        m.new(node_shape(heap), key=1)
        heap.stats(), heap.pauses(), heap.cycles(), heap.histogram("fault"), repr(heap)
        assert threads() == 1 and descriptors_of_userfaultfd() == []
        heap.collect()
        assert threads() == own and len(descriptors_of_userfaultfd()) == uffds
        go_on(*graph)
        assert threads() == own and len(descriptors_of_userfaultfd()) == uffds
        heap.close()
        wait_until(lambda: threads() == 1, "the collector's end")
        assert descriptors_of_userfaultfd() == []
    Child(body).join()
    assert len(descriptors_of_userfaultfd()) == before
    go_on(*graph)


def test_a_child_may_close_a_heap_that_it_never_used(graph):
    heap, m, nodes = graph

    def body():
        heap.close()
        heap.close()
        assert heap.closed and threads() == 1
        with pytest.raises(gcheap.HeapClosed):
            nodes[0]                                        # noqa: B018
        with gcheap.Heap("4MiB", backend=heap.backend) as own, own.attach() as mine:
            go_on(own, mine, interleaved(mine, node_shape(own), 100), 100)
    Child(body).join()
    go_on(*graph)


def test_mutators_of_other_threads_end_in_the_child(checked_heap):
    heap = checked_heap
    with MutatorThread(heap) as other, heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        theirs = other.call(lambda mine: mine)
        ref = other.call(lambda mine: mine.new_bytes(b"theirs"))

        def body():
            allocated = heap.stats().allocated_bytes
            assert allocated >= 6
            with pytest.raises(gcheap.NotAttached):
                theirs.new_bytes(b"")
            with pytest.raises(gcheap.NotAttached):
                theirs.detach()
            as_a_child_with(ref)

        def as_a_child_with(ref):
            assert heap.stats().mutators == 1
            go_on(heap, m, nodes)
            assert bytes(ref) == b"theirs"
            m.detach()
            with heap.attach() as again:
                assert check_interleaved(nodes) == COUNT
                again.new_bytes(b"")
        Child(body).join()
        assert bytes(other.call(lambda mine: ref)) == b"theirs"


def test_a_fork_by_a_thread_that_is_no_mutator(graph):
    heap, _, nodes = graph
    outcome: list = []

    def work():
        def body():
            assert heap.stats().mutators == 0
            with heap.attach() as mine:
                as_a_child(heap, mine, nodes)
        child = Child(body)
        child.join()
        outcome.append("done")
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    assert outcome == ["done"]
    go_on(*graph)


def test_children_of_children(graph):
    heap, m, nodes = graph

    def generation(left):
        go_on(*graph, rounds=1)
        heap.collect(wait=False)
        if left:
            child = Child(generation, left - 1)
            go_on(*graph, rounds=1)
            child.join()
        as_a_child(*graph, rounds=1)
    generation_of_first = Child(generation, 2)
    go_on(*graph)
    generation_of_first.join()


def test_pages_shared_with_a_live_child_are_moved_or_copied_and_counted(graph):
    """What is slid has been written since, so MOVE takes it; what it refuses is copied."""
    heap, m, nodes = graph
    arrays = [m.new_bytes(i.to_bytes(4, "little") * 30_000) for i in range(20)]

    def check():
        for i, array in enumerate(arrays):
            assert bytes(array) == i.to_bytes(4, "little") * 30_000
    hold, release = os.pipe()

    def body():
        os.close(release)
        go_on(*graph)
        check()
        os.read(hold, 1)
        check()
    child = Child(body)
    before = heap.stats()
    for _ in range(3):
        go_on(*graph, rounds=1)
        check()
    after = heap.stats()
    refused = after.ioctls["move"].refused.get("EBUSY", 0)
    if heap.backend == "move":
        assert after.moved_bytes > before.moved_bytes
        assert (after.copied_bytes > 0) == (refused > 0)
    os.close(release)
    os.close(hold)
    child.join()
    check()


# ---- who forks, and from where -----------------------------------------------------------

@pytest.mark.parametrize("in_flight", [False, True])
def test_c_code_forks_while_it_runs(graph, in_flight):
    heap, m, nodes = graph
    for _ in range(3):
        if in_flight:
            heap.collect(wait=False)
        pid = _testing.fork_running(m.native(), nodes[COUNT - 1], COUNT, 2)
        go_on(*graph, rounds=1)
        assert status_of_child(pid) == 0


def test_many_threads_fork_at_once(graph):
    """C's fork() without the GIL: only one at a time gets through, the others are stopped."""
    heap, m, nodes = graph
    heads = [nodes[COUNT - 1] for _ in range(3)]

    def fork_often(mine, head):
        return [_testing.fork_running(mine.native(), head, COUNT, 1) for _ in range(4)]
    with ExitStack() as stack:
        workers = [stack.enter_context(MutatorThread(heap)) for _ in heads]
        work = [worker.start(fork_often, head)
                for worker, head in zip(workers, heads, strict=True)]
        while not all(w.done() for w in work):
            heap.collect()
        for w in work:
            for pid in w.result(PATIENCE):
                assert status_of_child(pid) == 0
        go_on(*graph)


@pytest.mark.parametrize("point", ["plan.done", "flip.after"])
def test_c_code_forks_while_it_runs_at_a_point_of_a_cycle(make_concurrent_heap, point):
    heap = make_concurrent_heap(verify=3)
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.pause(point, times=1) as held:
            heap.collect(wait=False)
            held.wait()
            with released_while_forking(point):
                pid = _testing.fork_running(m.native(), nodes[COUNT - 1], COUNT, 2)
        assert status_of_child(pid) == 0
        go_on(heap, m, nodes)


def test_a_signal_handler_forks_inside_collect(make_concurrent_heap):
    """The child finds itself in the middle of collect(), waiting for a cycle of the parent's."""
    heap = make_concurrent_heap(verify=3)
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        pids: list[int] = []
        ready = _testing.awaited_forks() + 1

        def handle(*_):
            wait_until(lambda: _testing.awaited_forks() >= ready, "a thread that waits")
            pids.append(os.fork())
        before = signal.signal(signal.SIGUSR1, handle)
        try:
            with failpoints.pause("mark.concurrent", times=1) as held:
                def interrupt():
                    held.wait()
                    os.kill(os.getpid(), signal.SIGUSR1)
                    _testing.release_while_forking([failpoints.NAMES.index("mark.concurrent")])
                thread = threading.Thread(target=interrupt)
                thread.start()
                try:
                    heap.collect()
                    if pids == [0]:
                        as_a_child(heap, m, nodes)
                        os._exit(0)
                except BaseException:                       # noqa: BLE001
                    if pids == [0]:
                        traceback.print_exc()
                        os._exit(1)
                    raise
                thread.join(PATIENCE)
            assert len(pids) == 1 and status_of_child(pids[0]) == 0
            go_on(heap, m, nodes)
        finally:
            signal.signal(signal.SIGUSR1, before)


def test_a_fork_while_another_thread_closes_the_heap(combination):
    heap = gcheap.Heap("4MiB", **combination)
    shape = node_shape(heap)
    with MutatorThread(heap) as worker, failpoints.pause("cycle.end", times=1) as held:
        def stall(mine):
            with pytest.raises((gcheap.HeapClosed, MemoryError)):
                while True:
                    _micro.alloc_loop(mine.native(), shape.id, 1_000_000)
        work = worker.start(stall)
        held.wait()
        wait_until(lambda: heap.stats().used_bytes + 65536 > heap.capacity, "a stall")
        closer = threading.Thread(target=heap.close)
        closer.start()
        wait_until(lambda: heap.closed, "a close in progress")

        def body():
            assert heap.closed
            heap.close()
            with pytest.raises(gcheap.HeapClosed):
                heap.collect()
        with released_while_forking("cycle.end"):
            child = Child(body)
        child.join()
        work.result(PATIENCE)
        closer.join(PATIENCE)
        assert not closer.is_alive()


def test_many_heaps(combination):
    with ExitStack() as stack:
        heaps, graphs = [], []
        for k in range(6):
            heap = stack.enter_context(gcheap.Heap(
                "4MiB", verify=3, fork="none" if k == 4 else None,
                **(combination if k != 3 else {"backend": "stw"})))
            m = stack.enter_context(heap.attach())
            heaps.append(heap)
            graphs.append((heap, m, interleaved(m, node_shape(heap), 500 + k), 500 + k))
        gone = gcheap.Heap("4MiB", **combination)
        other = stack.enter_context(MutatorThread(gone))
        gone.attach()
        gone.close()
        del gone
        gc.collect()
        for heap in heaps:
            heap.collect(wait=False)

        def body():
            for k, graph in enumerate(graphs):
                if k == 4:
                    with pytest.raises(gcheap.HeapClosed):
                        graph[0].collect()
                else:
                    go_on(*graph)
        children = [Child(body) for _ in range(2)]
        for graph in graphs:
            go_on(*graph)
        for child in children:
            child.join()
        assert other is not None


@pytest.mark.uninstrumented("a child may find its allocator locked", only="address")
def test_heaps_come_and_go_while_another_thread_forks(combination):
    stop = threading.Event()
    failures: list = []

    def come_and_go():
        try:
            while not stop.is_set():
                with gcheap.Heap("1MiB", **combination) as heap, heap.attach() as m:
                    m.new_bytes(b"x")
                    heap.collect(wait=False)
        except BaseException as e:                          # noqa: BLE001
            failures.append(e)
    workers = [threading.Thread(target=come_and_go) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        with gcheap.Heap("4MiB", **combination) as heap, heap.attach() as m:
            nodes = interleaved(m, node_shape(heap), 500)
            for _ in range(6):
                Child(as_a_child, heap, m, nodes, 500, 1).join()
    finally:
        stop.set()
        for worker in workers:
            worker.join(PATIENCE)
    assert failures == []
