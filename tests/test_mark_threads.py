"""Marking by several threads (option mark_threads): who gets what, who waits for whom, and the end.

Whatever is marked is compared with a second marking (verify=4): an object that nobody marked
aborts, one that two threads counted makes plan and mark disagree, which aborts as well.

"marker.claim" stops a thread that has found an object unmarked; "marker.taken" one that was given
entries.  The backends make no difference to marking; `stw`, which marks inside its pause, does.
"""
from __future__ import annotations

import errno
import os
import re
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support import (
    COUNT,
    NODE,
    Child,
    as_a_child,
    check_interleaved,
    go_on,
    interleaved,
    node_shape,
    released_while_forking,
    run_python,
    slots_bytes,
    wait_until,
)

import gcheap
from gcheap import failpoints
from gcheap.core import failpoint as native
from gcheap.stress import StressConfig, run_stress

WIDTH = 4000                    # slots: the collector traces one such array before it asks others
ARRAYS = 8


@pytest.fixture
def make():
    """Makes heaps that two threads mark, unless told otherwise."""
    made = []

    def new(capacity="32MiB", **options):
        made.append(gcheap.Heap(capacity, **({"mark_threads": 2, "verify": 4} | options)))
        return made[-1]

    yield new
    for heap in made:
        heap.close()


def named(name: str) -> int:
    """Threads of this process that are called so."""
    found = 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):                             # it has just ended
            found += (task / "comm").read_text().strip() == name
    return found


def wide(m, shape, target):
    """Eight arrays, the first of which leads to a leaf, all slots of the others to `target`."""
    table = m.new_slots(ARRAYS)
    for i in range(ARRAYS):
        table[i] = m.new_slots(WIDTH)
        to = target if i else m.new(shape)
        array = table[i]
        for k in range(WIDTH):
            array[k] = to
    return table


def wide_bytes() -> int:
    return slots_bytes(ARRAYS) + ARRAYS * slots_bytes(WIDTH) + NODE


def stopped_at(name: str) -> int:
    return native.waiting(failpoints.NAMES.index(name))


def collected(heap, cycles: int) -> None:
    wait_until(lambda: heap.stats().cycles > cycles, "the end of the cycle")


@contextmanager
def shared_marking(heap):
    """A cycle in which another thread than the collector marks for certain: it waits already, is
    given something, and the collector, if it runs out first, is kept from taking that back."""
    cycles = heap.stats().cycles
    with failpoints.delay("marker.taken", ns=1) as taken, \
            failpoints.pause("marker.idle", times=1) as idle:
        heap.collect(wait=False)
        idle.wait()
        wait_until(lambda: taken.arrivals, "entries that somebody takes")
        yield
        idle.release()
        collected(heap, cycles)


# ---- threads -----------------------------------------------------------------------------

def test_threads_are_started_when_there_is_something_to_share_and_end_with_the_heap(make):
    before = named("gcheap-mark")
    heap = make(mark_threads=3)
    with heap.attach() as m:
        heap.collect()
        assert heap.stats().marker_threads == 0 and named("gcheap-mark") == before
        table = wide(m, node_shape(heap), None)
        for _ in range(3):
            heap.collect()
            assert heap.stats().marker_threads == 2 and named("gcheap-mark") == before + 2
        del table
    assert heap.resident_bytes() > 0
    heap.close()
    assert named("gcheap-mark") == before


def test_one_thread_is_the_default_and_starts_no_other():
    before = named("gcheap-mark")
    with gcheap.Heap("32MiB", mark_threads=1) as heap, heap.attach() as m:
        table = wide(m, node_shape(heap), None)
        heap.collect()
        stats = heap.stats()
        assert (stats.marker_threads, stats.marker_bytes) == (0, 0)
        assert named("gcheap-mark") == before and len(table) == ARRAYS


@pytest.mark.parametrize(("point", "error"), [
    ("thread.marker", errno.EAGAIN), ("memory.map", errno.ENOMEM)])
def test_without_a_thread_marking_goes_on_with_those_there_are(make, point, error):
    heap = make(mark_threads=3)
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        table = wide(m, node_shape(heap), nodes)
        with failpoints.fail(point, error, times=1, after=2) as refused:
            heap.collect()
            assert refused.hits == 1 and heap.stats().marker_threads == 1
        heap.collect()
        assert heap.stats().marker_threads == 2
        assert check_interleaved(table[1][0]) == COUNT


# ---- who gets what -------------------------------------------------------------------------

def test_two_threads_race_for_one_object(make):
    """Both have found it unmarked, before either sets the mark: one wins it."""
    heap = make()
    shape = node_shape(heap)
    with heap.attach() as m:
        target = None
        for i in range(1000):
            target = m.new(shape, key=i, next=target)
        table = wide(m, shape, target)
        del target                                          # a root would be marked first
        heap.collect()                                      # the other thread waits from now on
        cycles = heap.stats().cycles
        with failpoints.pause("marker.claim", times=2) as claim:
            heap.collect(wait=False)
            wait_until(lambda: stopped_at("marker.claim") == 2, "two threads at one object")
            claim.release()
            collected(heap, cycles)
        assert heap.stats().live_bytes == 1000 * NODE + wide_bytes()
        assert table[7][0].key == 999


@pytest.mark.parametrize("kind", ["large", "pinned"])
def test_two_threads_race_for_one_large_object(make, kind):
    heap = make()
    with heap.attach() as m:
        target = m.new_array("u1", 300_000, pinned=kind == "pinned")
        target[299_999] = 7
        table = wide(m, node_shape(heap), target)
        del target
        heap.collect()
        live = heap.stats().live_bytes
        cycles = heap.stats().cycles
        with failpoints.pause("marker.claim", times=2) as claim:
            heap.collect(wait=False)
            wait_until(lambda: stopped_at("marker.claim") == 2, "two threads at one object")
            claim.release()
            collected(heap, cycles)
        assert heap.stats().live_bytes == live              # counted once
        assert table[5][0][299_999] == 7


def test_objects_that_share_a_block_or_reach_over_several(make):
    """Of all sizes, many threads: bits and lowest starts of a block, which verification reads."""
    heap = make(mark_threads=4)
    with heap.attach() as m:
        table = m.new_slots(ARRAYS)
        for i in range(ARRAYS):
            array = table[i] = m.new_slots(WIDTH)
            for k in range(0, WIDTH, 7):
                array[k] = m.new_bytes(bytes((i * k) % 1500))
                array[k - 1] = array[k // 2]
        heap.collect()
        for _ in range(3):
            with shared_marking(heap):
                pass
        assert heap.stats().marker_bytes > 0
        assert len(bytes(table[3][7 * 100])) == 3 * 700 % 1500


def test_a_large_slot_array_is_shared(make):
    """One array, and nothing else: its grains go to both threads."""
    heap = make()
    with heap.attach() as m:
        array = m.new_slots(200_000)
        for i in range(0, 200_000, 50):
            array[i] = m.new_bytes(b"x" * (i % 30))
        heap.collect()
        live, before = heap.stats().live_bytes, heap.stats().marker_bytes
        with shared_marking(heap):
            pass
        assert heap.stats().marker_bytes > before and heap.stats().live_bytes == live
        assert len(bytes(array[199_950])) == 199_950 % 30


def test_two_lists_are_two_threads_work(make):
    """A stack of two entries: the one is given away."""
    heap = make()
    shape = node_shape(heap)
    with heap.attach() as m:
        heads = m.new_slots(2)
        for _ in range(10_000):
            heads[0] = m.new(shape, next=heads[0])
            heads[1] = m.new(shape, next=heads[1])
        heap.collect()
        before = heap.stats().marker_bytes
        with shared_marking(heap):
            pass
        assert before < heap.stats().marker_bytes
        assert heap.stats().live_bytes == 20_000 * NODE + slots_bytes(2)


def test_values_of_a_weak_table_whose_keys_several_threads_find(make):
    heap = make(mark_threads=4)
    shape = node_shape(heap)
    with heap.attach() as m:
        weak = heap.weak_key_table()
        table = m.new_slots(ARRAYS)
        for i in range(ARRAYS):
            array = table[i] = m.new_slots(WIDTH)
            for k in range(0, WIDTH, 20):
                key = m.new(shape, key=k)
                weak[key] = m.new(shape, key=k + i, next=m.new(shape, key=9))
                if k % 40 == 0:
                    array[k] = key                          # the others go
        del array, key
        for _ in range(2):
            heap.collect()
            with shared_marking(heap):
                pass
            assert len(weak) == ARRAYS * WIDTH // 40
        assert all(weak[table[i][k]].key == k + i and weak[table[i][k]].next.key == 9
                   for i in range(ARRAYS) for k in range(0, WIDTH, 400))


def test_the_survey_by_shape_counts_what_every_thread_marked(make):
    heap = make("4MiB", policy="fixed", stall_warning_ms=0)
    shape = node_shape(heap)
    with heap.attach() as m:
        nodes = m.new_slots(100_000)
        with pytest.raises(gcheap.HeapExhausted) as caught:
            for i in range(100_000):
                nodes[i] = m.new(shape, key=i)
        assert heap.stats().marker_threads == 1
        # Only this thread allocates, and it waited for the last cycle, which was surveyed.
        found = re.search(r"live in ([\d,]+) objects \(largest shapes: Node", str(caught.value))
        assert int(found.group(1).replace(",", "")) == 1 + i


# ---- who waits for whom ----------------------------------------------------------------------

@pytest.mark.parametrize(("point", "after"), [("marker.taken", 1), ("marker.idle", 2)])
def test_marking_does_not_end_while_a_thread_is_stopped(make, point, after):
    """It has entries; or it has none, and has not said so."""
    heap = make()
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        table = wide(m, node_shape(heap), nodes)
        heap.collect()
        cycles = heap.stats().cycles
        with failpoints.pause(point, times=1, after=after) as held, \
                failpoints.delay("marker.sleep", ns=1) as sleeps, \
                failpoints.delay("marker.done", ns=1) as done, \
                failpoints.delay("mark.traced", ns=1) as traced:
            heap.collect(wait=False)
            held.wait()
            # The other has traced the rest, and found nobody to get anything from.
            wait_until(lambda: sleeps.arrivals, "a thread that waits for entries")
            assert done.arrivals == traced.arrivals == 0
            held.release()
            collected(heap, cycles)
            assert done.arrivals >= 1 and traced.arrivals >= 1
        assert check_interleaved(table[1][0]) == COUNT


def test_nobody_sleeps_when_the_futex_does_not(make):
    heap = make(mark_threads=3)
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        table = wide(m, node_shape(heap), nodes)
        with failpoints.fail("marker.sleep", errno.EAGAIN, times=200) as awake:
            for _ in range(3):
                heap.collect()
            assert awake.hits > 0
        assert check_interleaved(table[1][0]) == COUNT


@pytest.mark.parametrize("point", ["marker.taken", "marker.give", "marker.claim", "marker.done"])
def test_mutators_log_while_a_thread_is_stopped(make, point):
    """Subtrees move from slots not yet traced into black objects."""
    heap = make()
    shape = node_shape(heap)
    with heap.attach() as m:
        lists = m.new_slots(2000)
        for i in range(2000):
            lists[i] = m.new(shape, key=i, next=m.new(shape, key=i))
        table = wide(m, shape, lists)
        heap.collect()
        cycles = heap.stats().cycles
        with failpoints.pause(point, times=1) as held:
            heap.collect(wait=False)
            held.wait()
            moved = m.new_slots(2000)
            for i in range(2000):
                moved[i] = lists[i].next
                lists[i].next = None
                lists[i] = None
            held.release()
            collected(heap, cycles)
        for _ in range(2):
            assert all(moved[i].key == i and lists[i] is None for i in range(2000))
            heap.collect()
        assert table[1][0] == lists


# ---- fork, and the end -------------------------------------------------------------------------

@pytest.mark.parametrize("backend", ["auto", "stw"])
@pytest.mark.parametrize("point", ["marker.taken", "marker.claim", "marker.idle", "marker.done"])
def test_a_fork_while_several_threads_mark(make, point, backend):
    heap = make(mark_threads=3, backend=backend)
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        table = wide(m, node_shape(heap), nodes)
        heap.collect()
        with failpoints.pause(point, times=1) as held, \
                failpoints.delay("cycle.abandoned", ns=1) as abandoned, \
                failpoints.delay("marker.stop", ns=1) as stops:
            heap.collect(wait=False)
            held.wait()
            with released_while_forking(point):
                child = Child(in_a_child, heap, m, table)
            go_on(heap, m, nodes)
        if backend == "stw":
            assert (stops.hits, abandoned.hits) == (0, 0)   # a pause is not abandoned
        else:
            assert abandoned.hits == 1
            assert stops.hits >= (point in ("marker.taken", "marker.claim"))
        child.join()
        assert heap.stats().marker_threads == 2


def in_a_child(heap, m, table) -> None:
    """It has no such threads, and starts some."""
    assert heap.stats().marker_threads == named("gcheap-mark") == 0
    heap.collect()
    assert heap.stats().marker_threads == named("gcheap-mark") == 2
    as_a_child(heap, m, table[1][0])
    assert named("gcheap-mark") == 0


def test_forks_one_after_the_other(make):
    heap = make(verify=3)
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        table = wide(m, node_shape(heap), nodes)
        for _ in range(6):
            heap.collect(wait=False)
            pid = os.fork()
            if pid == 0:
                os._exit(0 if heap.stats().marker_threads == 0 else 1)
            assert os.waitpid(pid, 0)[1] == 0
        go_on(heap, m, nodes)
        assert len(table) == ARRAYS


@pytest.mark.parametrize("point", ["marker.taken", "marker.claim", "marker.idle"])
def test_closing_while_several_threads_mark(make, point):
    before = named("gcheap-mark")
    heap = make(mark_threads=3)
    m = heap.attach()
    table = wide(m, node_shape(heap), interleaved(m, node_shape(heap), COUNT))
    heap.collect()
    with failpoints.pause(point, times=1) as held, \
            failpoints.delay("close.begin", ns=1) as begun:
        heap.collect(wait=False)
        held.wait()
        m.detach()

        closing = threading.Thread(target=heap.close)
        closing.start()
        wait_until(lambda: begun.hits, "the close")
        assert closing.is_alive()
        held.release()
        closing.join()
    assert heap.closed and named("gcheap-mark") == before
    del table


def test_a_process_that_ends_while_its_heaps_mark():
    done = run_python("""
        import os, sys
        import gcheap
        from gcheap import failpoints
        heap = gcheap.Heap("32MiB", mark_threads=4)
        m = heap.attach()
        table = m.new_slots(200_000)
        for i in range(0, 200_000, 20):
            table[i] = m.new_bytes(b"x")
        heap.collect()
        failpoints.pause("marker.taken").__enter__()
        heap.collect(wait=False)
        print("ended")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


# ---- all of it ---------------------------------------------------------------------------------

@pytest.mark.parametrize("verify", [3, 4])
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("workload", ["churn", "trees", "array-holes"])
def test_workloads(workload, threads, verify, seed):
    document = run_stress(StressConfig(
        workload=workload, seconds=0.2, warm_up=0.05, noise_seconds=0, live="4MiB", mutators=2,
        seed=seed, verify=verify, mark_threads=threads, collect_every=2000))
    # How many cycles fit into the time the machine decides; the data has been read whole.
    assert document["verified"] is True and document["ops"] > 0, document


def test_an_explored_schedule(seed):
    with failpoints.explore(seed, share=0.02) as explored:
        document = run_stress(StressConfig(
            workload="churn", seconds=0.5, warm_up=0.05, noise_seconds=0, live="4MiB", mutators=2,
            seed=seed, verify=4, mark_threads=3))
    assert document["verified"] is True, document
    assert {"marker.claim", "marker.idle", "marker.done"} <= set(explored.visited())
