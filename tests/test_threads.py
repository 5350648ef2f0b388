"""Any number of threads attach, work, detach, or end while attached, as cycles go on."""
from __future__ import annotations

import gc
import os
import threading

import pytest
from support import PATIENCE, check_interleaved, interleaved, node_shape, wait_until

import gcheap

THREADS = 64


class Cycles:
    """Collects, one cycle after the other, until the block is left."""

    def __init__(self, heap) -> None:
        self._heap = heap
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._heap.collect()

    def __enter__(self) -> Cycles:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


def run_all(work, count: int = THREADS) -> None:
    """Runs `work(k)` in a thread each, all at once; raises what any of them raised."""
    start = threading.Barrier(count)
    problems: list[BaseException] = []

    def run(k: int) -> None:
        try:
            start.wait(PATIENCE)
            work(k)
        except BaseException as e:                          # noqa: BLE001
            problems.append(e)

    threads = [threading.Thread(target=run, args=(k,), name=f"worker {k}") for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    if problems:
        raise problems[0]


def detached(heap, left: int) -> None:
    """Waits until `left` mutators are left: join() returns a moment before a thread has ended."""
    wait_until(lambda: heap.stats().mutators == left, f"all but {left} mutators detached")


@pytest.mark.parametrize("ending", ["detach", "end attached", "either"])
def test_many_threads_come_and_go_while_cycles_run(make_heap, ending):
    heap = make_heap("32MiB", unit_pages=2)
    node = node_shape(heap)
    made: list = [None] * THREADS
    with heap.attach() as m:
        shared = interleaved(m, node, 500)

        def work(k: int) -> None:
            mine = heap.attach()
            made[k] = interleaved(mine, node, 50)
            assert check_interleaved(shared, range(k, 500, THREADS)) > 0
            if ending == "detach" or (ending == "either" and k % 2):
                mine.detach()

        with Cycles(heap):
            run_all(work)
        heap.collect()
        detached(heap, 1)
        assert [check_interleaved(nodes) for nodes in made] == [50] * THREADS
        assert check_interleaved(shared) == 500
        # What they counted is not lost with them.
        assert heap.stats().allocated_bytes >= THREADS * 50 * 2 * 48
        made, shared = [], None
    heap.collect()
    heap.collect()                  # handles that were dropped during the first one's marking
    assert heap.stats().live_bytes == 0
    assert heap.stats().handles == 0


def test_threads_attach_again_and_again(make_heap):
    heap = make_heap("16MiB", unit_pages=2)
    node = node_shape(heap)
    rounds = 10

    def work(k: int) -> None:
        kept = None
        for n in range(rounds):
            with heap.attach() as m:
                assert kept is None or (kept.key, kept.next) == (k + n - 1, None)
                kept = m.new(node, key=k + n)

    with Cycles(heap):
        run_all(work, 32)
    assert heap.stats().mutators == 0
    assert heap.stats().cycles > 0


def test_a_thread_ends_attached_to_many_heaps(combination):
    heaps = [gcheap.Heap("1MiB", **combination) for _ in range(8)]
    kept: list = []

    def run() -> None:
        for heap in heaps:
            kept.append(heap.attach().new(node_shape(heap), key=7))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    heaps[3].close()
    for heap in heaps:
        if heap is heaps[3]:
            continue
        heap.collect()
        detached(heap, 0)
        with heap.attach():
            assert kept[heaps.index(heap)].key == 7
        heap.close()


@pytest.mark.parametrize("closed_first", [True, False])
def test_threads_end_attached_to_a_heap_that_is_gone(combination, closed_first):
    """The heap is closed, or its Python object dropped, before its threads end."""
    before = len(os.listdir("/proc/self/task"))
    heap = gcheap.Heap("4MiB", **combination)
    go = threading.Event()
    attached = threading.Semaphore(0)

    def run(heap) -> None:
        heap.attach()
        del heap
        attached.release()
        go.wait(PATIENCE)

    threads = [threading.Thread(target=run, args=(heap,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert attached.acquire(timeout=PATIENCE)
    if closed_first:
        heap.close()
    del heap
    go.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    del thread, threads
    wait_until(lambda: len(os.listdir("/proc/self/task")) <= before, "the heap's threads' end")


@pytest.mark.sigbus_only("about Python's own garbage collector")
def test_a_thread_attaches_while_python_collects_its_garbage(make_heap):
    """A Mutator and a Shape are objects of Python's: making one may run callbacks and finalizers,
    which make others."""
    heap, other = make_heap("1MiB"), make_heap("1MiB")
    at_work, names = [], iter(range(1000))

    def attach_too(phase, _info):
        if not at_work:
            at_work.append(phase)
            other.attach().detach()
            other.shape(f"Other{next(names)}")
            at_work.clear()

    threshold = gc.get_threshold()
    gc.callbacks.append(attach_too)
    gc.set_threshold(1)
    try:
        for i in range(20):
            heap.attach().detach()
            heap.shape(f"Mine{i}")
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(attach_too)
    assert heap.stats().mutators == other.stats().mutators == 0
