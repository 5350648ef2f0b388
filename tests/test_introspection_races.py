"""Looking at the graph beside a collector that works, mutators that write, and without memory.

A failpoint holds the compactor, or the report itself in its pause.
"""
from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import (
    PATIENCE,
    MutatorThread,
    check_interleaved,
    counts,
    interleaved,
    node_shape,
    run_cleanly,
    wait_until,
)

import gcheap
from gcheap import failpoints


def test_reports_while_the_compactor_is_held(make_concurrent_heap):
    """An attached caller builds the units that have not arrived by itself, inside its pause."""
    heap = make_concurrent_heap("16MiB", verify=3)
    node = node_shape(heap)
    with heap.attach() as m:
        nodes = interleaved(m, node, 20_000)
        target = nodes[9_999]
        with failpoints.pause("flip.after", times=1) as point:
            heap.collect(wait=False)
            point.wait()
            before = heap.stats()
            assert counts(heap.census())["Node"] == (20_000, 48 * 20_000)
            assert heap.stats().faults > before.faults
            assert set(heap.referrers(target)) == {(nodes, 9_999), (nodes[10_000], "next")}
            assert heap.retained(nodes).objects == 10_001      # `target` reaches the others
            assert len(heap.why_alive(target)) == 3
            assert sum(1 for _ in heap.walk()) == 20_001
            assert heap.stats().cycles == before.cycles
        heap.collect()
        assert check_interleaved(nodes) == 20_000


@pytest.mark.sigbus_only("with a handler it is served as any other thread")
def test_an_unattached_thread_waits_for_the_compactor(make_concurrent_heap):
    heap = make_concurrent_heap("16MiB")
    node = node_shape(heap)
    with heap.attach() as m, ThreadPoolExecutor(max_workers=1) as pool:
        nodes = interleaved(m, node, 20_000)
        with failpoints.pause("flip.after", times=1) as point, \
                failpoints.delay("mutator.wait", ns=1, times=1) as waiting:
            heap.collect(wait=False)
            point.wait()
            census = pool.submit(heap.census)
            # No call of this thread may enter the heap meanwhile: the pause lasts until then.
            wait_until(lambda: waiting.hits == 1, "the census waits for a unit")
            assert not census.done()
            point.release()
            assert counts(census.result(PATIENCE))["Node"][0] == 20_000
        assert heap.stats().foreign_faults > 0
        assert check_interleaved(nodes) == 20_000


@pytest.mark.parametrize("where", ["mark.before", "mark.concurrent", "plan.done", "register.done",
                                   "flip.before", "relocate.done", "unregister.done"])
def test_reports_in_every_phase(make_concurrent_heap, where):
    """Between pauses the report comes at once; where the collector stands in a pause of its own,
    the report waits for that."""
    heap = make_concurrent_heap("16MiB", verify=3)
    node = node_shape(heap)
    with heap.attach() as m, ThreadPoolExecutor(max_workers=1) as pool:
        nodes = interleaved(m, node, 5000)
        with failpoints.pause(where, times=1) as point:
            heap.collect(wait=False)
            point.wait()
            report = pool.submit(lambda: (heap.census(), len(list(heap.walk()))))
            if where not in ("mark.before", "flip.before"):
                report.result(PATIENCE)
            point.release()
            census, walked = report.result(PATIENCE)
        assert counts(census)["Node"] == (5000, 48 * 5000) and walked == 5001
        heap.collect()
        assert check_interleaved(nodes) == 5000


def test_the_collector_waits_for_a_report_and_close_does_too(make_heap):
    heap = make_heap()
    node = node_shape(heap)
    with ThreadPoolExecutor(max_workers=2) as pool:
        with heap.attach() as m:
            nodes = interleaved(m, node, 1000)
            with failpoints.pause("inspect.stopped", times=1) as point:
                census = pool.submit(heap.census)
                point.wait()
                heap.collect(wait=False)
                cycles = len(heap.cycles())
                assert cycles == 0 and not census.done()
                point.release()
                assert counts(census.result(PATIENCE))["Node"][0] == 1000
            heap.collect()
            assert check_interleaved(nodes) == 1000
        with failpoints.pause("inspect.stopped", times=1) as point:
            census = pool.submit(heap.census)
            point.wait()
            closing = pool.submit(heap.close)
            wait_until(lambda: heap.closed, "close() has begun")
            assert not closing.done()
            point.release()
            assert counts(census.result(PATIENCE))["Node"][0] == 1000
            closing.result(PATIENCE)
    with pytest.raises(gcheap.HeapClosed):
        heap.census()


def test_reports_while_mutators_rewrite_the_graph(make_heap, seed):
    """Whatever mutators do, a report sees one consistent moment: each ring is whole."""
    heap = make_heap("32MiB", verify=3)
    node = node_shape(heap)
    stop = threading.Event()
    rings = 40

    def rewrite(m, number):
        """Keeps `rings` rings of two nodes, and replaces one at a time by one store."""
        rng = random.Random(seed + number)
        array = m.new_slots(rings)
        for i in range(rings):
            array[i] = m.new(node, key=0, next=m.new(node))
        ready.release()
        while not stop.is_set():
            i = rng.randrange(rings)
            new = m.new(node, key=1)
            new.next = m.new(node, key=2, next=new)
            array[i] = new
            del new
        return len(array)

    ready = threading.Semaphore(0)
    with MutatorThread(heap) as one, MutatorThread(heap) as two:
        running = [t.start(rewrite, n) for n, t in enumerate((one, two))]
        ready.acquire()
        ready.acquire()
        for _ in range(15):
            census = counts(heap.census())
            # At most four Refs of each thread are on their way into an array.
            assert 4 * rings <= census["Node"][0] <= 4 * rings + 2 * 4
            assert census["slots"][0] == 2
            for ref in heap.walk():
                assert ref is not None
        heap.collect()
        stop.set()
        assert [f.result(PATIENCE) for f in running] == [rings, rings]


# ---- without memory ----------------------------------------------------------------------

@pytest.mark.uninstrumented("it reserves terabytes of address space for itself")
def test_a_report_without_memory_says_so_and_breaks_nothing(combination):
    """However little address space is left: the answer is right, or MemoryError."""
    out = run_cleanly(f"""
        import gc, resource
        import gcheap
        gcheap.Records              # and numpy, while there is memory to import them
        heap = gcheap.Heap("64MiB", **{combination!r})
        node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
        with heap.attach() as m:
            wide = m.new_slots(150_000)
            for i in range(len(wide)):
                wide[i] = m.new(node, key=i)
            middle, target = wide, wide[70_000]
            handles = heap.stats().handles
            asks = (lambda: int(heap.census()["objects"].sum()) == 150_001,
                    lambda: heap.referrers(target)[0][1] == 70_000,
                    lambda: heap.retained(wide).objects == 150_000,
                    lambda: len(heap.why_alive(target)) == 3,
                    lambda: sum(1 for _ in heap.walk()) == 150_001)
            answers = [0, 0]
            limits = resource.getrlimit(resource.RLIMIT_AS)
            for extra in list(range(0, 24, 1)) + [64, 256]:
                with open("/proc/self/statm") as f:
                    now = int(f.read().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (now + (extra << 18), limits[1]))
                for ask in asks:
                    try:
                        assert ask()
                        answers[0] += 1
                    except MemoryError:
                        answers[1] += 1
                resource.setrlimit(resource.RLIMIT_AS, limits)
            gc.collect()
            assert heap.stats().handles == handles, (heap.stats().handles, handles)
            assert all(ask() for ask in asks)
            heap.collect()
            assert target.key == 70_000
        print(all(answers))
    """)
    assert out == "True\n"


@pytest.mark.parametrize("verify", [0, 3])
def test_what_a_report_names_of_the_frozen_outlives_their_unfreezing(make_concurrent_heap, verify):
    """Only the frozen set held it, marking had not come to that, and it is unfrozen: the Ref that
    walk() gave is a root that no snapshot has."""
    heap = make_concurrent_heap("16MiB", verify=verify)
    heap.disable()                      # collect(wait=False) would join an automatic cycle
    with heap.attach() as m:
        node = heap.shape("Frozen", refs=("next",), raw=[("key", "u8")])
        kept = m.new(node, next=m.new(node, key=2), key=1)
        heap.freeze()
        del kept
        with failpoints.pause("mark.concurrent", times=1) as point:
            heap.collect(wait=False)
            point.wait()
            found = list(heap.walk())
            heap.unfreeze()
            point.release()
        heap.collect()
        for _ in range(1000):
            m.new(node, key=77)
        assert sorted(ref.key for ref in found) == [1, 2]
        heap.collect()
        assert sorted(ref.key for ref in found) == [1, 2]
