"""Relocation really runs beside the mutators, and collect() means what it says.

Faults that the kernel or another handler cause are in test_refusals.py and test_sigbus.py.
"""
from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import (
    NODE,
    PATIENCE,
    MutatorThread,
    check_interleaved,
    interleaved,
    new_halves,
    node_shape,
    wait_until,
    writable_mappings,
)

from gcheap import clock_ns, failpoints
from gcheap.core import _testing

COUNT = 20_000                  # nodes of 48 bytes: about fifteen units of 16 pages
UNITS = [1, pytest.param(2, marks=pytest.mark.sigbus_only("1 and 16 are enough")), 16]


@pytest.fixture(params=UNITS, ids=lambda n: f"unit{n}")
def moving_heap(request, make_concurrent_heap):
    """A heap whose compactor runs beside the mutators."""
    return make_concurrent_heap("16MiB", unit_pages=request.param)


@pytest.fixture
def held(moving_heap):
    """(heap, mutator, nodes, failpoint): the compactor stands right after the flip."""
    with moving_heap.attach() as m:
        nodes = interleaved(m, node_shape(moving_heap), COUNT)
        with failpoints.pause("flip.after", times=1) as point:
            moving_heap.collect(wait=False)
            point.wait()
            yield moving_heap, m, nodes, point
        moving_heap.collect()
        assert check_interleaved(nodes) == COUNT


# ---- mutators while the compactor stands still -------------------------------------------

def test_a_full_walk_while_the_compactor_is_held(held):
    heap, _, nodes, point = held
    before = heap.stats()
    assert check_interleaved(nodes) == COUNT
    after = heap.stats()
    assert after.faults > before.faults
    assert after.fault_pages >= after.faults - before.faults
    assert after.cycles == before.cycles                    # the cycle is still under way
    assert point.hits == 1


def test_a_fault_builds_its_unit_and_no_other(held):
    """What the models have as fault-around: whatever page is touched, all of its unit arrives."""
    heap, _, nodes, _ = held
    units = 0
    for i in range(0, COUNT, 7):
        before = heap.stats()
        assert nodes[i].key == i
        after = heap.stats()
        pages = after.fault_pages - before.fault_pages
        assert pages == (after.faults - before.faults) * heap.unit_pages
        units += pages // heap.unit_pages
    assert units >= COUNT * NODE // (heap.unit_pages * heap.page_size)


def test_pages_touched_in_reverse_order_while_the_compactor_is_held(held):
    heap, _, nodes, _ = held
    before = heap.stats().faults
    assert check_interleaved(nodes, range(COUNT - 1, -1, -1)) == COUNT
    assert heap.stats().faults > before


def test_pages_touched_in_random_order_while_the_compactor_is_held(held, rng):
    heap, _, nodes, _ = held
    order = list(range(COUNT))
    rng.shuffle(order)
    assert check_interleaved(nodes, order) == COUNT


def test_writes_while_the_compactor_is_held_are_not_lost(held):
    heap, m, nodes, point = held
    shape = heap.shape("Other", refs=("back",), raw=[("key", "u8")])
    for i in range(0, COUNT, 7):
        node = nodes[i]
        node.other = m.new(shape, key=i, back=node)         # new objects, beyond the to-space
        node.filler = (i, 2 * i)
    point.release()
    for _ in range(2):
        for i in range(0, COUNT, 7):
            node = nodes[i]
            assert node.other.key == i and node.other.back == node
            assert list(node.filler) == [i, 2 * i]
        heap.collect()


def test_hashes_taken_while_the_compactor_is_held_stay(held):
    heap, _, nodes, point = held
    hashes = [hash(nodes[i]) for i in range(0, COUNT, 50)]
    point.release()
    heap.collect()
    assert [hash(nodes[i]) for i in range(0, COUNT, 50)] == hashes


def test_two_threads_walk_while_the_compactor_is_held(held):
    heap, _, nodes, _ = held
    with MutatorThread(heap) as second:
        walk = second.start(lambda m: check_interleaved(nodes, range(COUNT - 1, -1, -1)))
        assert check_interleaved(nodes) == COUNT
        assert walk.result(PATIENCE) == COUNT


def test_a_thread_attaches_and_detaches_while_the_compactor_is_held(held):
    heap, _, nodes, _ = held
    with MutatorThread(heap) as second:
        assert second.call(lambda m: check_interleaved(nodes, range(0, COUNT, 3))) > 0
        mine = second.call(lambda m: m.new(node_shape(heap), key=5, next=nodes[0]))
        assert heap.stats().mutators == 2
    assert heap.stats().mutators == 1
    assert mine.key == 5 and mine.next.key == 0


def test_the_compactor_is_held_between_units_and_the_rest_is_faulted_in(moving_heap):
    """The compactor owns what it claimed; the mutator gets everything else by itself."""
    with moving_heap.attach() as m:
        nodes = interleaved(m, node_shape(moving_heap), COUNT)
        with failpoints.delay("compactor.claimed", ns=3_000_000), \
                failpoints.delay("compactor.assembled", ns=3_000_000):
            for _ in range(3):
                moving_heap.collect(wait=False)
                assert check_interleaved(nodes, range(COUNT - 1, -1, -1)) == COUNT
        moving_heap.collect()
        assert check_interleaved(nodes) == COUNT


# ---- mutators while the collector marks --------------------------------------------------

@pytest.mark.parametrize("verify", [0, 3])
def test_references_moved_while_marking_lose_nothing(make_concurrent_heap, verify):
    """What a mutator hides from the marker, in objects that it does not scan, stays alive."""
    heap = make_concurrent_heap("16MiB", verify=verify)
    node = node_shape(heap)
    with heap.attach() as m:
        nodes = interleaved(m, node, 2000)
        for _ in range(3):
            with failpoints.pause("mark.concurrent", times=1) as point:
                heap.collect(wait=False)
                point.wait()
                hidden = m.new_slots(len(nodes))            # black: never scanned
                for i in range(len(nodes)):
                    hidden[i] = nodes[i]
                    nodes[i].next = None                    # or the chain would keep them
                    nodes[i] = None
            heap.collect()
            assert [hidden[i].key for i in range(len(hidden))] == list(range(len(nodes)))
            nodes = hidden


def test_objects_made_while_marking_keep_what_they_refer_to(make_concurrent_heap):
    heap = make_concurrent_heap("16MiB")
    node = node_shape(heap)
    with heap.attach() as m:
        nodes = interleaved(m, node, 2000)
        with failpoints.pause("mark.concurrent", times=1) as point:
            heap.collect(wait=False)
            point.wait()
            kept = [m.new(node, key=i, next=m.new(node, key=i), other=nodes[i])
                    for i in range(len(nodes))]
            del nodes
        for _ in range(2):
            heap.collect()
            for i, ref in enumerate(kept):
                assert ref.key == ref.next.key == ref.other.key == i


# ---- two mutators, one unit --------------------------------------------------------------

KEY = 3                         # among the words of a Node: the header and two slots come first


def words_of(m, ref) -> list[int]:
    """Reads without the GIL: a reader stopped in its fault must not stop the interpreter."""
    return _testing.read_words(m.native(), ref, KEY + 1)


@pytest.mark.sigbus_only("with a handler both sleep in the kernel: test_handler_races.py")
def test_two_mutators_fault_on_the_same_unit(make_concurrent_heap):
    heap = make_concurrent_heap("4MiB")
    node = node_shape(heap)
    with heap.attach() as m, MutatorThread(heap) as first, MutatorThread(heap) as second:
        m.new(node)
        ref = m.new(node, key=123)
        with failpoints.pause("flip.after") as flip, \
                failpoints.pause("mutator.claimed") as claimed, \
                failpoints.pause("mutator.wait") as waiting:
            heap.collect(wait=False)
            flip.wait()
            owner = first.start(words_of, ref)
            claimed.wait()
            loser = second.start(words_of, ref)
            waiting.wait()
            assert not owner.done() and not loser.done()
            waiting.release()
            claimed.release()
            assert owner.result(PATIENCE)[KEY] == 123
            assert loser.result(PATIENCE)[KEY] == 123
            assert (claimed.hits, waiting.hits) == (1, 1)
            stats = heap.stats()
            assert stats.fault_waits == 1
            placed = sum(stats.ioctls[k].pages for k in ("move", "copy", "zeropage"))
            assert 0 < placed <= heap.unit_pages            # the one unit, once
            assert all("EEXIST" not in s.refused for s in stats.ioctls.values())
        heap.collect()
        assert ref.key == 123


def test_a_mutator_waits_for_the_unit_that_the_compactor_owns(make_concurrent_heap):
    heap = make_concurrent_heap("4MiB")
    node = node_shape(heap)
    with heap.attach() as m, MutatorThread(heap) as reader:
        m.new(node)
        ref = m.new(node, key=9)
        with failpoints.pause("compactor.assembled") as owned, \
                failpoints.pause("mutator.wait") as waiting:
            heap.collect(wait=False)
            owned.wait()
            read = reader.start(words_of, ref)
            waiting.wait()
            assert not read.done()
            waiting.release()
            owned.release()
            assert read.result(PATIENCE)[KEY] == 9
        assert heap.stats().fault_waits >= 1


@pytest.mark.parametrize("point", ["mutator.claimed", "mutator.assembled"])
def test_the_compactor_waits_for_the_unit_that_a_mutator_owns(make_concurrent_heap, point):
    heap = make_concurrent_heap("4MiB")
    node = node_shape(heap)
    with heap.attach() as m, MutatorThread(heap) as reader:
        nodes = interleaved(m, node, 5000)
        ref = nodes[2500]
        with failpoints.pause("flip.after") as flip, failpoints.pause(point) as owned, \
                failpoints.pause("relocate.done") as done:
            heap.collect(wait=False)
            flip.wait()
            read = reader.start(words_of, ref)
            owned.wait()
            flip.release()
            with pytest.raises(TimeoutError):
                done.wait(0.3)                              # it may not finish without this unit
            owned.release()
            assert read.result(PATIENCE)[KEY] == 2500
            done.wait()
        heap.collect()
        assert check_interleaved(nodes) == 5000


# ---- the GIL -----------------------------------------------------------------------------

def test_a_whole_cycle_while_the_main_thread_holds_the_gil(make_heap):
    """The flip and the end of a cycle fall into one C call that never lets go of the GIL."""
    heap = make_heap("16MiB")
    usleep = ctypes.PyDLL(None).usleep                      # PyDLL keeps the GIL
    ticks = 0
    stop = threading.Event()

    def count_when_the_gil_is_free():
        nonlocal ticks
        while not stop.is_set():
            ticks += 1
            time.sleep(0)

    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        witness = threading.Thread(target=count_when_the_gil_is_free)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)                         # nobody takes the GIL from us
        try:
            witness.start()
            hold_us = 200_000
            while True:
                before = heap.stats().cycles
                with failpoints.delay("mark.before", ns=20_000_000):
                    heap.collect(wait=False)
                    ticks_before, start = ticks, clock_ns()
                    usleep(hold_us)
                    end, ticks_after = clock_ns(), ticks
                if heap.stats().cycles > before or hold_us > 20_000_000:
                    break
                hold_us *= 2                                # a slow machine: hold it longer
                heap.collect()
        finally:
            sys.setswitchinterval(interval)
            stop.set()
            witness.join()
        assert ticks_before == ticks_after                  # no Python code ran meanwhile
        assert heap.stats().cycles == before + 1
        cycle, flip = heap.cycles()[-1], heap.pauses()[-1]  # under stw the only pause
        assert start < flip["start_ns"] + flip["reach_ns"] + flip["work_ns"] < end
        assert cycle["start_ns"] + cycle["cycle_ns"] < end
        assert cycle["relocated"]
        assert check_interleaved(nodes) == COUNT


# ---- what collect() promises -------------------------------------------------------------

def test_collect_without_waiting_joins_the_running_cycle(make_heap):
    heap = make_heap()
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 3000)
        with failpoints.pause("mark.before") as point:
            heap.collect(wait=False)
            point.wait()
            for _ in range(5):
                heap.collect(wait=False)
        wait_until(lambda: heap.stats().cycles >= 1, "the end of the cycle")
        heap.collect()
        # One for all six, one for this. A second started by mistake would make it three.
        assert heap.stats().cycles == 2
        assert check_interleaved(nodes) == 3000


def test_collect_after_the_start_of_a_cycle_runs_another(make_heap):
    heap = make_heap()
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 3000)
        with failpoints.pause("plan.done", times=1) as point:
            heap.collect(wait=False)
            point.wait()
            waiter = threading.Thread(target=heap.collect)
            waiter.start()
            waiter.join(0.2)
            assert waiter.is_alive()                        # it waits for a cycle of its own
            point.release()
            waiter.join(PATIENCE)
            assert not waiter.is_alive()
        assert heap.stats().cycles == 2
        assert check_interleaved(nodes) == 3000


def test_collect_compacts_what_was_allocated_before_the_call(make_heap):
    """Even objects made while another cycle was running."""
    heap = make_heap()
    node = node_shape(heap)
    with heap.attach() as m:
        nodes = interleaved(m, node, 3000)
        with failpoints.delay("plan.done", ns=10_000_000):
            heap.collect(wait=False)
            more = interleaved(m, node, 3000)
            heap.collect()
        stats = heap.stats()
        live = sum(48 * len(part) + 16 + 8 * len(part) for part in (nodes, more))
        assert stats.live_bytes == live
        assert check_interleaved(nodes) == check_interleaved(more) == 3000


def test_many_threads_collect_at_once(make_heap):
    heap = make_heap()
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 3000)
        threads = [threading.Thread(target=heap.collect) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert 1 <= heap.stats().cycles <= 8
        assert check_interleaved(nodes) == 3000


# ---- threads come and go -----------------------------------------------------------------

def test_a_thread_that_ends_while_attached_stops_no_cycle(make_heap):
    heap = make_heap()
    node = node_shape(heap)
    left: list = []

    def leave():
        m = heap.attach("left behind")
        left.append(interleaved(m, node, 500))

    for _ in range(3):
        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
    gc.collect()
    heap.collect()
    with heap.attach():
        assert [check_interleaved(nodes) for nodes in left] == [500] * 3
        assert heap.stats().mutators == 1


def test_handles_that_change_after_they_were_forwarded(make_concurrent_heap):
    """Between the forwarding of handles and the pause that rewrites them, indices are dropped and
    taken again for other objects: older ones, black ones, large ones."""
    heap = make_concurrent_heap("16MiB")
    node = node_shape(heap)
    with heap.attach() as m:
        nodes = interleaved(m, node, 2000)
        large = m.new_array("u8", 100_000)
        large[99_999] = 7
        refs = [nodes[i] for i in range(600)]               # a handle each
        with failpoints.pause("flip.ahead", times=1) as point:
            heap.collect(wait=False)
            point.wait()
            before = heap.stats().cycles
            kept = refs[::3]
            del refs                                        # 400 indices are free again
            other = [nodes[1999 - i] for i in range(200)]
            black = [m.new(node, key=10_000 + i, next=nodes[i]) for i in range(400)]
            again = m.new_slots(1)
            again[0] = large
            alias = again[0]
            assert heap.stats().cycles == before
            point.release()
        heap.collect()
        assert [ref.key for ref in kept] == [nodes[i].key for i in range(0, 600, 3)]
        assert [ref.key for ref in other] == [nodes[1999 - i].key for i in range(200)]
        assert [ref.key for ref in black] == list(range(10_000, 10_400))
        assert [ref.next.key for ref in black] == [nodes[i].key for i in range(400)]
        assert alias == large and alias[99_999] == 7
        assert check_interleaved(nodes) == 2000


@pytest.mark.parametrize("point", ["mark.before", "plan.done", "flip.before", "flip.after",
                                   "relocate.done", "unregister.done", "cycle.end"])
def test_attach_work_and_detach_with_a_cycle_at_every_point(make_heap, point):
    heap = make_heap()
    node = node_shape(heap)
    with heap.attach() as m:
        nodes = interleaved(m, node, 3000)
        with failpoints.delay(point, ns=30_000_000):
            for _ in range(3):
                heap.collect(wait=False)
                with MutatorThread(heap) as second:
                    mine = second.call(lambda m: interleaved(m, node, 300))
                    assert second.call(lambda m: check_interleaved(nodes)) == 3000
                assert check_interleaved(mine) == 300
        heap.collect()
        assert check_interleaved(nodes) == 3000 and check_interleaved(mine) == 300


def test_threads_churn_while_cycles_run(make_heap, seed):
    """Python threads hand objects to each other through the heap while cycles run."""
    heap = make_heap("8MiB", unit_pages=2)
    node = node_shape(heap)
    stop = threading.Event()

    rounds = [0, 0, 0]

    def churn(m, board, mine):
        while not stop.is_set():
            for i in range(mine, len(board), 3):
                board[i] = m.new(node, key=i, next=board[(i + 1) % len(board)])
            for i in range(len(board)):
                found = board[i]
                assert found is None or found.key == i
                if found is not None:
                    found.next = None                       # or the chains never die
            rounds[mine] += 1

    with heap.attach() as m:
        board = m.new_slots(300)
        threads = [MutatorThread(heap) for _ in range(3)]
        work = [t.start(churn, board, k) for k, t in enumerate(threads)]
        target = heap.stats().cycles + 15
        while ((heap.stats().cycles < target or not all(rounds))
               and not any(w.done() for w in work)):
            heap.collect()
        stop.set()
        for w in work:
            w.result(PATIENCE)
        for t in threads:
            t.__exit__()
        heap.collect()
        assert [board[i].key for i in range(300)] == list(range(300))


# ---- whole-moved units -------------------------------------------------------------------

@pytest.mark.parametrize("point", ["flip.after", "relocate.done"])
def test_holes_of_whole_moved_units_read_as_zero(make_concurrent_heap, point):
    """Pages that nobody ever touched are not moved; whoever touches them later gets zeros."""
    heap = make_concurrent_heap("16MiB")
    node = node_shape(heap)
    nbytes = 400_000
    with heap.attach() as m:
        nodes = interleaved(m, node, COUNT)
        with failpoints.pause("plan.done", times=1) as planned, \
                failpoints.pause(point, times=1) as held:
            heap.collect(wait=False)
            planned.wait()
            untouched = m.new_array("u1", nbytes)           # black: it moves as it is
            untouched[nbytes // 2] = 9
            links = m.new_slots(nbytes // 8)
            links[17] = nodes[0]
            links[nbytes // 8 - 1] = nodes[1]
            planned.release()
            held.wait()
            before = heap.stats()
            content = untouched.copy_out()
            assert content[nbytes // 2] == 9 and content.sum() == 9
            assert [i for i, ref in enumerate(links) if ref is not None] == [17, nbytes // 8 - 1]
            assert (links[17].key, links[nbytes // 8 - 1].key) == (0, 1)
            after = heap.stats()
            if heap.backend == "move":
                assert after.hole_faults > before.hole_faults
                assert after.zeroed_bytes > before.zeroed_bytes
            untouched[nbytes - 1] = 7
        for _ in range(2):
            heap.collect()
            content = untouched.copy_out()
            assert content[nbytes // 2] == 9 and content[nbytes - 1] == 7 and content.sum() == 16
            assert links[17].key == 0 and links[18] is None
            assert check_interleaved(nodes) == COUNT


def test_evacuated_pages_are_the_next_buffers(make_concurrent_heap):
    """Half of the heap is dead: after the first batch there is always room to build the next."""
    heap = make_concurrent_heap("16MiB")
    with heap.attach() as m:
        count = 60_000                                      # 2.7 MiB live in 5.5
        nodes = interleaved(m, node_shape(heap), count)
        heap.collect()
        stats = heap.stats()
        placed = stats.ioctls[heap.backend]
        assert placed.pages * heap.page_size >= 48 * count
        assert placed.pages >= 64 * placed.calls            # one TLB shootdown for many pages
        if heap.backend == "move":
            assert stats.recycled_bytes >= stats.moved_bytes // 4
        else:
            assert stats.released_bytes >= 48 * count
        assert check_interleaved(nodes) == count


# ---- threads that are not attached -------------------------------------------------------

@pytest.mark.sigbus_only("with a handler it is served as any other: test_handler_races.py")
def test_a_thread_that_is_not_attached_waits_for_the_page_it_touches(concurrent,
                                                                     make_concurrent_heap):
    """A runtime's own thread reads through an address: it has no buffer to build a unit in."""
    before = writable_mappings()
    heap = make_concurrent_heap("16MiB")
    halves = new_halves(heap, before)
    memcpy = ctypes.CDLL(None).memcpy                       # CDLL lets go of the GIL
    memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]

    def first_word(address):
        word = ctypes.c_uint64()
        memcpy(ctypes.byref(word), address, 8)
        return word.value

    with heap.attach() as m, ThreadPoolExecutor(len(halves)) as threads:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with (failpoints.pause("flip.after", times=1) as point,
              failpoints.pause("mutator.wait", times=1) as waiting):
            heap.collect(wait=False)
            point.wait()
            reads = [threads.submit(first_word, half) for half in halves]
            wait_until(lambda: sum(read.done() for read in reads) == len(halves) - 1,
                       "the end of all reads but the one in to-space")
            waiting.wait()          # that one has come to a page which is not there
            waiting.release()
            point.release()
            assert sum(read.result(PATIENCE) & 1 for read in reads) >= 1    # an object's header
        heap.collect()
        assert heap.stats().foreign_faults == 1
        assert check_interleaved(nodes) == COUNT
