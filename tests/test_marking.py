"""Marking beside the mutators: a snapshot at the beginning, kept by the write barrier.

The failpoint "mark.concurrent" stops the collector right after Pause Mark Start: what the roots
name is marked, nothing has been traced, and the barrier logs.  Heaps run with verify=3, so that
Pause Mark End checks that everything reachable has been marked, and aborts otherwise.
"""
from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from support import (
    NODE,
    PATIENCE,
    MutatorThread,
    check_interleaved,
    interleaved,
    marking,
    node_shape,
    slots_bytes,
    stress_until,
    wait_until,
)

import gcheap
from gcheap import failpoints

pytestmark = pytest.mark.sigbus_only("marking ends before there are faults")

LOG = 1021                      # old values that one buffer of a mutator's log holds
PAUSE_BUDGET = 128              # slots that the first Pause Mark End traces at most


def phases(heap) -> list[str]:
    """The pauses of the last cycle, in order."""
    pauses = heap.pauses()
    return [str(p["phase"]) for p in pauses if p["cycle"] == heap.cycles()[-1]["cycle"]]


def chain(m, shape, count: int, first: int = 0):
    """A list of `count` nodes with keys `first`, `first` + 1, …; returns its head."""
    head = None
    for key in range(first + count - 1, first - 1, -1):
        head = m.new(shape, key=key, next=head)
    return head


def keys(head) -> list[int]:
    found = []
    while head is not None:
        found.append(head.key)
        head = head.next
    return found


# ---- the barrier -------------------------------------------------------------------------

CHAINS, LINKS = 40, 25


@pytest.fixture
def chains(checked):
    """(heap, mutator, table): chain i, keys from 100 * i on, is reachable only from table[i]."""
    with checked.attach() as m:
        shape = node_shape(checked)
        table = m.new_slots(CHAINS)
        for i in range(CHAINS):
            m.new(shape)                                    # garbage: something to slide over
            table[i] = chain(m, shape, LINKS, 100 * i)
        yield checked, m, table


def check_chains(heads) -> None:
    for i, head in enumerate(heads):
        assert keys(head) == list(range(100 * i, 100 * i + LINKS))


@pytest.mark.parametrize("into", ["a Ref", "a new object", "a new object's new object",
                                  "an old object", "another slot of the same object"])
def test_a_subtree_that_is_moved_while_marking_survives(chains, into):
    """Its only reference is read and stored elsewhere, then the slot is overwritten: the marker
    sees neither the old place any more nor, in what is black or marked already, the new one."""
    heap, m, table = chains
    shape = node_shape(heap)
    old = m.new_slots(CHAINS)
    refs: list = [None] * CHAINS
    with marking(heap):
        new = m.new_slots(CHAINS)
        for i in range(CHAINS):
            if into == "a Ref":
                refs[i] = table[i]
            elif into == "a new object":
                new[i] = table[i]
            elif into == "a new object's new object":
                new[i] = m.new(shape, next=table[i])
            elif into == "an old object":
                old[i] = table[i]
            else:
                table[i - 1] = table[i]
                continue
            table[i] = None
    if into == "another slot of the same object":           # chain 0 went last, over its own copy
        found = [table[i] for i in range(CHAINS)]
        check_chains_moved_down(found)
        return
    for _ in range(2):
        check_chains({"a Ref": refs, "a new object": new, "an old object": old}.get(
            into) or [holder.next for holder in new])
        assert all(ref is None for ref in table)
        heap.collect()


def check_chains_moved_down(found) -> None:
    """table[i - 1] = table[i] for i = 0, 1, …: the last slot got chain 0, and so on."""
    expected = list(range(CHAINS))
    for i in range(CHAINS):
        expected[i - 1] = expected[i]
    for head, i in zip(found, expected, strict=True):
        assert keys(head) == list(range(100 * i, 100 * i + LINKS))


def test_a_list_that_is_cut_in_its_middle_while_marking_survives(chains):
    """The tail goes to a black object, the head loses its last reference."""
    heap, m, table = chains
    live = heap.capacity
    with marking(heap):
        tails = m.new_slots(CHAINS)
        for i in range(CHAINS):
            before = table[i].next.next
            tails[i] = before.next
            before.next = None
            table[i] = None
            del before
    for _ in range(2):
        for i, tail in enumerate(tails):
            assert keys(tail) == list(range(100 * i + 3, 100 * i + LINKS))
        assert heap.stats().live_bytes < live
        live = heap.stats().live_bytes
        heap.collect()                                      # now the heads are gone
    assert heap.stats().live_bytes == CHAINS * (LINKS - 3) * NODE + 2 * slots_bytes(CHAINS)


def test_slots_that_are_overwritten_again_and_again_while_marking(chains, rng):
    """What counts is the first old value of a slot; the order of the rest is arbitrary."""
    heap, m, table = chains
    order = list(range(CHAINS))
    with marking(heap):
        for _ in range(2000):
            i, k = rng.randrange(CHAINS), rng.randrange(CHAINS)
            a, b = table[i], table[k]
            table[i] = None
            table[k] = a
            table[i] = b
            order[i], order[k] = order[k], order[i]
            del a, b
        moved = m.new_slots(CHAINS)                         # black: nobody traces it
        for place in range(CHAINS):
            moved[place] = table[place]
            table[place] = None
    for place, i in enumerate(order):
        assert keys(moved[place]) == list(range(100 * i, 100 * i + LINKS))


def test_hashes_taken_while_marking_stay(chains):
    heap, m, table = chains
    with marking(heap):
        hashes = [hash(ref) for ref in table]
        moved = m.new_slots(CHAINS)
        for i in range(CHAINS):
            moved[i] = table[i]
            table[i] = None
    assert [hash(ref) for ref in moved] == hashes
    check_chains(moved)


@pytest.mark.parametrize("count", [LOG - 1, LOG, LOG + 1, 6 * LOG + 7])
def test_more_is_logged_than_a_buffer_holds(checked, count):
    """Full buffers go to the marker at once, the rest at the pause."""
    shape = node_shape(checked)
    with checked.attach() as m:
        table = interleaved(m, shape, count, slot="other")
        with marking(checked):
            moved = m.new_slots(count)
            for i in range(count):
                moved[i] = table[i]
                table[i] = None
                moved[i].other = None                       # each hangs by its own slot alone
        for _ in range(2):
            assert [ref.key for ref in moved] == list(range(count))
            checked.collect()
        assert checked.stats().live_bytes == count * NODE + 2 * slots_bytes(count)


# ---- black and floating ------------------------------------------------------------------

def test_what_is_made_while_marking_is_live_by_decree(checked):
    shape = node_shape(checked)
    with checked.attach() as m:
        old = interleaved(m, shape, 1000)
        with marking(checked):
            kept = m.new_slots(1000)
            for i in range(1000):
                kept[i] = m.new(shape, key=i, next=old[i], other=kept[i - 1])
                m.new(shape, key=0xDEAD, next=old[0])       # black garbage
            large = m.new_array("u4", 50_000)
            large[49_999] = 7
        before = 1000 * NODE + slots_bytes(1000)
        made = 2000 * NODE + slots_bytes(1000) + 200_016
        cycle = checked.cycles()[-1]
        assert cycle["live_bytes"] == before and cycle["black_bytes"] >= made
        assert checked.stats().used_bytes >= before + made
        for _ in range(2):
            assert check_interleaved(old) == 1000
            for i, ref in enumerate(kept):
                assert ref.key == i and ref.next == old[i]
                assert ref.other == (kept[i - 1] if i else None)
            assert large[49_999] == 7 and large.copy_out().sum() == 7
            checked.collect()
            # The next cycle treats it as anything else: the garbage is gone.
            assert checked.stats().live_bytes == before + made - 1000 * NODE


def test_what_is_unlinked_while_marking_floats_for_one_cycle(checked):
    shape = node_shape(checked)
    with checked.attach() as m:
        table = m.new_slots(2)
        table[0], table[1] = chain(m, shape, 500), chain(m, shape, 700, 1000)
        with marking(checked):
            table[0] = None                                 # reachable at the snapshot
        assert checked.stats().live_bytes == 1200 * NODE + slots_bytes(2)
        checked.collect()
        assert checked.stats().live_bytes == 700 * NODE + slots_bytes(2)
        assert keys(table[1]) == list(range(1000, 1700))


def test_a_ref_that_is_dropped_while_marking_floats_for_one_cycle(checked):
    shape = node_shape(checked)
    with checked.attach() as m:
        head = chain(m, shape, 500)
        with marking(checked):
            del head
        assert checked.stats().live_bytes == 500 * NODE
        checked.collect()
        assert checked.stats().live_bytes == 0


# ---- Pause Mark End ----------------------------------------------------------------------

def empty_array(m, shape, n):
    return m.new_slots(n)


def array_of_bytes(m, shape, n):
    slots = m.new_slots(n)
    for i in range(n):
        slots[i] = m.new_bytes(b"")                         # nothing to trace in these
    return slots


UNLINKED = {                    # what, its size, whether the pause can trace it (a Node: 2 slots)
    "a short list": (chain, PAUSE_BUDGET // 2, True),
    "a long list": (chain, PAUSE_BUDGET // 2 + 1, False),
    "a very long list": (chain, 20_000, False),
    "an array": (empty_array, PAUSE_BUDGET, True),
    "a wide array": (empty_array, PAUSE_BUDGET + 1, False),
    "an array of leaves": (array_of_bytes, PAUSE_BUDGET, True),
    "a wide array of leaves": (array_of_bytes, 3 * PAUSE_BUDGET, False),
}


@pytest.mark.parametrize(("make", "size", "fits"), UNLINKED.values(), ids=UNLINKED)
def test_mark_end_goes_back_to_marking_when_too_much_was_logged(checked, make, size, fits):
    """A weak read, after all that was logged has been traced: what hangs by the value is first
    seen inside the pause."""
    with checked.attach() as m:
        holder = m.new_slots(1)
        holder[0] = make(m, node_shape(checked), size)
        weak = m.weak(holder[0])
        checked.collect()
        before = checked.stats().live_bytes
        holder[0] = None
        with marking(checked, "mark.traced"):
            assert weak() is not None
        assert phases(checked) == ["mark_start", *["mark_end"] * (1 if fits else 2),
                                   "relocate_start", "verify"]
        assert checked.stats().live_bytes == before
        checked.collect()
        assert phases(checked) == ["mark_start", "mark_end", "relocate_start", "verify"]
        assert checked.stats().live_bytes == slots_bytes(1)


def test_a_list_that_mark_end_went_back_for_is_whole(checked):
    with checked.attach() as m:
        holder = m.new_slots(1)
        holder[0] = chain(m, node_shape(checked), 10_000)
        weak = m.weak(holder[0])
        holder[0] = None
        with marking(checked, "mark.traced"):
            head = weak()
        assert phases(checked).count("mark_end") == 2
        for _ in range(2):
            assert keys(head) == list(range(10_000))
            checked.collect()


def test_what_was_logged_is_traced_before_the_pause_of_mark_end(checked):
    """One value in a buffer that is never full, and a list that no pause could trace."""
    with checked.attach() as m:
        holder = m.new_slots(1)
        holder[0] = chain(m, node_shape(checked), 10_000)
        with marking(checked):
            head = holder[0]
            holder[0] = None
        assert phases(checked).count("mark_end") == 1
        for _ in range(2):
            assert keys(head) == list(range(10_000))
            checked.collect()


# ---- mutators come and go ----------------------------------------------------------------

@pytest.mark.parametrize("ending", ["detaches", "ends", "stays"])
def test_the_log_outlives_its_mutator(chains, ending):
    """Another thread moves the subtrees and is gone before anybody has looked at its log."""
    heap, m, table = chains
    leave = threading.Event()
    ready = threading.Event()

    def move():
        mine = heap.attach()
        new = mine.new_slots(CHAINS)
        for i in range(CHAINS):
            new[i] = table[i]
            table[i] = None
            moved[i] = new[i]                               # both are black
            new[i] = None
        if ending == "detaches":
            mine.detach()
        ready.set()
        if ending == "stays":
            leave.wait(PATIENCE)

    thread = threading.Thread(target=move)
    with marking(heap):
        moved = m.new_slots(CHAINS)
        thread.start()
        ready.wait(PATIENCE)
        if ending != "stays":
            thread.join()
            wait_until(lambda: heap.stats().mutators == 1, "the thread's detachment")
    leave.set()
    thread.join()
    check_chains(moved)
    heap.collect()
    check_chains(moved)


def test_a_thread_that_attaches_while_marking_logs_and_allocates_black(chains):
    heap, _, table = chains
    with marking(heap):
        second = MutatorThread(heap)
        moved = second.call(lambda m: m.new_slots(CHAINS))
        def move(m):
            for i in range(CHAINS):
                moved[i] = table[i]
                table[i] = None
        second.call(move)
    check_chains(moved)
    with second:
        heap.collect()
        assert second.call(lambda m: check_chains(moved)) is None


def test_closing_with_a_log_that_nobody_has_read(concurrent):
    heap = gcheap.Heap("4MiB", **concurrent)
    m = heap.attach()
    table = interleaved(m, node_shape(heap), 3 * LOG, slot="other")
    with failpoints.pause("mark.concurrent", times=1) as point:
        heap.collect(wait=False)
        point.wait()
        for i in range(len(table)):
            table[i] = None
    heap.close()
    assert heap.closed


# ---- the limit of black allocation -------------------------------------------------------

def wait_until_blocked(thread_id: int) -> None:
    """Returns once that thread sleeps, and neither ran nor was woken while this one let go of
    the GIL: so it waits for something else."""
    def switches():
        lines = Path(f"/proc/self/task/{thread_id}/status").read_text().splitlines()
        return [line for line in lines if line.startswith("State") or "ctxt_switches" in line]

    def blocked():
        before = switches()
        threading.Event().wait(0.02)
        return "sleeping" in before[0] and switches() == before

    wait_until(blocked, "a thread that waits")


@pytest.mark.parametrize("garbage", [True, False])
@pytest.mark.parametrize("part", [4, 2], ids=["small", "large"])
def test_a_mutator_at_the_black_limit_stalls_and_goes_on(checked, garbage, part):
    """To-space must hold the slide and everything black: from Mark End to the flip mutators get
    a part of the capacity, whichever space their objects go to."""
    heap = checked
    nbytes = heap.unit_pages * heap.page_size // part + 1024
    count = 320
    made: list = []

    def allocate(m):
        for i in range(count):
            made.append(m.new_bytes(i.to_bytes(4, "little") * (nbytes // 4)))

    with heap.attach() as m, MutatorThread(heap) as t:
        nodes = (interleaved(m, node_shape(heap), 50_000) if garbage else
                 array_of_bytes(m, None, 50_000))
        thread_id = t.call(lambda _: threading.get_native_id())
        with failpoints.pause("plan.done", times=1) as planned:
            heap.collect(wait=False)
            planned.wait()
            work = t.start(allocate)
            wait_until(lambda: made, "the first array")
            wait_until_blocked(thread_id)
            assert not work.done() and heap.stats().cycles == 0
            assert heap.stats().used_bytes + nbytes + 16 <= heap.capacity
        work.result(PATIENCE)
        assert heap.stats().stalls >= 1
        heap.collect()
        assert check_interleaved(nodes) == 50_000 if garbage else all(
            bytes(ref) == b"" for ref in nodes)
        assert len(made) == count
        for i, ref in enumerate(made):
            assert bytes(ref) == i.to_bytes(4, "little") * (nbytes // 4)


# ---- all of it at once -------------------------------------------------------------------

def rearrange(m, shape, mine, shared, lock, rng, stop) -> int:
    """Moves leaves about, so that each always hangs by exactly one slot."""
    rounds = 0
    while not stop.is_set():
        rounds += 1
        for _ in range(100):
            i, k = rng.randrange(len(mine)), rng.randrange(len(mine))
            what = rng.randrange(4)
            if what == 0:                                   # swap two holders
                a, b = mine[i], mine[k]
                mine[i], mine[k] = b, a
            elif what == 1:                                 # to a new holder
                holder = mine[i]
                leaf = holder.next
                holder.next = None
                mine[i] = m.new(shape, next=leaf, other=m.new(shape))
            elif what == 2:                                 # the leaves of two holders
                a, b = mine[i], mine[k]
                left, right = a.next, b.next
                a.next, b.next = right, left
            else:                                           # with what all threads share
                with lock:
                    a, b = mine[i], shared[k]
                    mine[i] = None
                    shared[k] = a
                    mine[i] = b
    return rounds


@pytest.mark.parametrize("unit_pages", [1, 16])
def test_two_threads_rearrange_the_graph_while_cycles_run(make_heap, unit_pages, seed):
    """Every leaf is found again, wherever it went."""
    heap = make_heap("8MiB", unit_pages=unit_pages, verify=3)
    shape = node_shape(heap)
    count = 300
    stop, lock = threading.Event(), threading.Lock()
    with heap.attach() as m:
        tables = [m.new_slots(count) for _ in range(3)]
        for t, table in enumerate(tables):
            for i in range(count):
                table[i] = m.new(shape, next=m.new(shape, key=t * count + i))
        threads = [MutatorThread(heap) for _ in range(2)]
        work = [thread.start(rearrange, shape, tables[k], tables[2], lock,
                             random.Random(seed + k), stop) for k, thread in enumerate(threads)]
        try:
            with failpoints.delay("mark.concurrent", ns=2_000_000):
                for _ in range(30):
                    heap.collect()
                    assert not any(w.done() for w in work)
        finally:
            stop.set()
        assert all(w.result(PATIENCE) for w in work)
        for thread in threads:
            thread.__exit__()
        for _ in range(2):
            found = sorted(ref.next.key for table in tables for ref in table)
            assert found == list(range(3 * count))
            heap.collect()


@pytest.mark.parametrize("unit_pages", [1, 16])
def test_native_mutators_churn_while_marking_takes_long(combination, unit_pages, seed):
    """Two mutators without the GIL; every read is checked, and so is every marking."""
    with failpoints.delay("mark.concurrent", ns=3_000_000):
        stress_until(
            lambda runs: any(run["ops"] and run["cycles"] for run in runs), seed=seed,
            workload="churn", seconds=0.7, live="8MiB", mutators=2, verify=3,
            unit_pages=unit_pages, **combination)
