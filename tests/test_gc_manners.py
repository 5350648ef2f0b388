"""What a heap shares with the gc module: automatic cycles, statistics, callbacks, freezing."""
from __future__ import annotations

import gc
import sys
import threading

import pytest
from support import (
    PATIENCE,
    MutatorThread,
    check_interleaved,
    interleaved,
    node_shape,
    run_cleanly,
    wait_until,
)

import gcheap
from gcheap import failpoints
from gcheap.core import _testing

ROUND = 20_000                  # objects of 48 bytes: a quarter of a heap of 4 MiB


def litter(m, node, count: int = ROUND) -> None:
    for i in range(count):
        m.new(node, key=i)


def causes(heap) -> set[str]:
    return {str(cause) for cause in heap.cycles()["cause"]}


@pytest.fixture
def events(heap):
    """What the heap's callbacks have been told so far: [(phase, info), …]."""
    told = []
    heap.callbacks.append(lambda phase, info: told.append((phase, info)))
    return told


# ---- automatic cycles --------------------------------------------------------------------

def test_cycles_start_by_themselves_unless_disabled(make_heap):
    heap = make_heap("16MiB")
    node = node_shape(heap)
    with heap.attach() as m:
        assert heap.isenabled()
        heap.disable()
        heap.disable()
        assert not heap.isenabled()
        # Past any goal, short of the capacity.
        for _ in range(14):
            litter(m, node)
        assert len(heap.cycles()) == 0
        heap.enable()
        assert heap.isenabled()
        wait_until(lambda: litter(m, node, 2000) or len(heap.cycles()) > 0, "a cycle starts")
        assert causes(heap) <= {"goal", "stall"}


def test_a_full_heap_collects_although_it_is_disabled(make_heap):
    heap = make_heap("4MiB")
    node = node_shape(heap)
    heap.disable()
    with heap.attach() as m:
        keep = interleaved(m, node, 2000)
        for _ in range(12):
            litter(m, node)
        assert check_interleaved(keep) == 2000
        assert causes(heap) == {"stall"}
        assert not heap.isenabled()
        chain = None
        with pytest.raises(gcheap.HeapExhausted):       # and says so only when nothing helps
            while True:
                chain = m.new(node, next=chain)
        assert chain is not None


def test_collect_works_while_disabled(heap, mutator, node):
    heap.disable()
    nodes = interleaved(mutator, node, 1000)
    heap.collect()
    assert heap.stats().relocations == 1 and causes(heap) == {"explicit"}
    assert check_interleaved(nodes) == 1000


# ---- causes and statistics ---------------------------------------------------------------

def test_a_cycle_knows_its_cause_even_when_it_is_over_at_once(heap, mutator, node):
    for _ in range(200):
        heap.collect()
    assert causes(heap) == {"explicit"}


def test_get_stats_adds_up_what_cycles_says(make_heap):
    heap = make_heap("4MiB")
    node = node_shape(heap)
    with heap.attach() as m:
        for _ in range(6):
            litter(m, node)
            heap.collect()
    stats = heap.get_stats()
    assert [row["kind"] for row in stats] == ["goal", "idle", "stall", "explicit"]
    cycles = heap.cycles()
    for row in stats:
        mine = cycles[cycles["cause"] == row["kind"]]
        assert row["collections"] == len(mine)
        assert row["collected"] == int(mine["collected_bytes"].sum())
        assert row["relocations"] == int(mine["relocated"].sum())
        assert row["cycle_ns"] == int(mine["cycle_ns"].sum())
        assert row["uncollectable"] == 0
    assert stats[-1]["collections"] == 6
    assert sum(row["collections"] for row in stats) == heap.stats().cycles


def test_what_a_cycle_made_free(heap, mutator, node):
    nodes = interleaved(mutator, node, 10_000)          # as much garbage
    heap.collect()
    cycle = heap.cycles()[-1]
    assert cycle["live_bytes"] == 48 * 10_000 + 16 + 80_000
    # Whole TLABs are charged: at least the garbage was won.
    assert cycle["collected_bytes"] >= 48 * 10_000
    assert cycle["collected_bytes"] == cycle["used_before"] - cycle["used_after"]
    assert len(nodes) == 10_000


# ---- callbacks ---------------------------------------------------------------------------

def test_callbacks_are_told_of_each_cycle_in_order(heap, mutator, node, events):
    nodes = interleaved(mutator, node, 2000)
    for _ in range(5):
        heap.collect()
    wait_until(lambda: len(events) == 10, "ten events")
    assert [(phase, info["cycle"]) for phase, info in events] == [
        (phase, n) for n in range(1, 6) for phase in ("start", "stop")]
    assert {info["cause"] for _, info in events} == {"explicit"}
    cycles, pauses = heap.cycles(), heap.pauses()
    for (_, start), (_, stop), cycle in zip(events[::2], events[1::2], cycles, strict=True):
        assert set(start) == {"cycle", "cause", "start_ns", "used_before"}
        for name in ("used_before", "used_after", "live_bytes", "collected_bytes", "cycle_ns",
                     "start_ns", "relocated"):
            assert stop[name] == cycle[name], name
        assert start["used_before"] == stop["used_before"]
        mine = pauses[pauses["cycle"] == cycle["cycle"]]
        assert [(p["phase"], p["work_ns"]) for p in stop["pauses"]] == [
            (str(p["phase"]), int(p["work_ns"])) for p in mine]
    assert check_interleaved(nodes) == 2000


def test_a_start_is_told_before_the_cycle_ends(make_concurrent_heap):
    heap = make_concurrent_heap()
    events = []
    heap.callbacks.append(lambda phase, info: events.append(phase))
    with failpoints.pause("mark.concurrent", times=1) as point:
        heap.collect(wait=False)
        point.wait()
        wait_until(lambda: events == ["start"], "the start is told")
    heap.collect()
    wait_until(lambda: events[:2] == ["start", "stop"], "the end is told")


def test_callbacks_run_on_one_daemon_thread_that_exists_when_asked_for(heap):
    before = threading.active_count()
    heap.collect()
    assert threading.active_count() == before
    threads = set()
    heap.callbacks.append(lambda phase, info: threads.add(threading.current_thread()))
    assert heap.callbacks is heap.callbacks
    heap.collect()
    heap.collect()
    wait_until(lambda: threads, "a callback runs")
    [thread] = threads
    assert thread.daemon and thread.name == "gcheap-callbacks"
    heap.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_an_exception_in_a_callback_is_unraisable_and_stops_nobody(heap, events, monkeypatch):
    problems = []
    monkeypatch.setattr(sys, "unraisablehook", problems.append)

    def bad(phase, info):
        info.clear()                                    # the others have a dict of their own
        raise LookupError(phase)

    heap.callbacks.insert(0, bad)
    heap.collect()
    wait_until(lambda: len(events) == 2, "both events")
    assert [(p.exc_type, str(p.exc_value), p.object) for p in problems] == [
        (LookupError, "start", bad), (LookupError, "stop", bad)]
    assert problems[0].exc_traceback is not None
    assert events[1][1]["cycle"] == 1


def test_a_callback_may_be_removed_and_may_use_the_heap(heap, node):
    done = []

    def once(phase, info):
        if phase == "stop":
            heap.callbacks.remove(once)
            with heap.attach() as m:
                done.append(m.new(node, key=5))
            heap.collect()
            done.append(len(heap.census()))

    heap.callbacks.append(once)
    heap.collect()
    wait_until(lambda: len(done) == 2, "the callback ends")
    heap.collect()
    assert done[1] == 1 and heap.callbacks == []


def test_a_callback_does_not_hold_up_cycles_nor_mutators(heap, mutator, node, events):
    go_on = threading.Event()
    heap.callbacks.insert(0, lambda phase, info: go_on.wait(PATIENCE))
    nodes = interleaved(mutator, node, 1000)
    for _ in range(3):
        heap.collect()
    assert check_interleaved(nodes) == 1000 and events == []
    go_on.set()
    wait_until(lambda: len(events) == 6, "all of it is told")
    assert [info["cycle"] for _, info in events] == [1, 1, 2, 2, 3, 3]


def test_a_heap_with_callbacks_ends_without_being_closed(combination):
    """Garbage together with its callbacks; while the thread calls them it holds both, so what a
    collection meanwhile leaves the next one takes."""
    out = run_cleanly(f"""
        import gc, threading
        import gcheap
        heap = gcheap.Heap("4MiB", **{combination!r})
        telling, go_on = threading.Event(), threading.Event()
        def told(phase, info, heap=heap):   # a cycle through the list
            telling.set()
            go_on.wait()
        heap.callbacks.append(told)
        [thread] = [t for t in threading.enumerate() if t.name == "gcheap-callbacks"]
        heap.collect()
        telling.wait()
        del heap, told
        gc.collect()
        print(thread.is_alive())
        go_on.set()
        for _ in range({int(PATIENCE)} * 100):
            thread.join(0.01)
            if not thread.is_alive():
                break
            gc.collect()
        print(thread.is_alive())
    """)
    assert out == "True\nFalse\n"


def test_callbacks_do_not_hinder_the_end_of_the_interpreter(combination):
    run_cleanly(f"""
        import gcheap
        heap = gcheap.Heap("4MiB", **{combination!r})
        heap.callbacks.append(lambda phase, info: None)
        for _ in range(20):
            heap.collect(wait=False)
    """)


# ---- freezing ----------------------------------------------------------------------------

def kept(heap) -> int:
    """Objects that the heap keeps."""
    return int(heap.census()["objects"].sum())


def test_frozen_objects_outlive_their_references(make_heap):
    heap = make_heap("16MiB", verify=3)
    node = node_shape(heap)
    with heap.attach() as m:
        assert heap.get_freeze_count() == 0
        nodes = interleaved(m, node, 3000)
        heap.freeze()
        assert heap.get_freeze_count() == 3001
        del nodes
        gc.collect()
        for _ in range(3):
            litter(m, node, 5000)
            heap.collect()                              # they move, and are followed
            assert heap.stats().live_bytes == 3000 * 48 + 16 + 24_000
        found = [ref for ref in heap.walk() if not isinstance(ref, gcheap.SlotArray)]
        assert [ref.key for ref in found] == list(range(3000))
        assert all(ref.next.key == ref.key - 1 for ref in found if ref.key)
        assert str(heap.why_alive(found[5])[0]) == "frozen"
        del found
        gc.collect()
        heap.unfreeze()
        assert heap.get_freeze_count() == 0
        heap.collect()
        heap.collect()
        assert heap.stats().live_bytes == 0 and kept(heap) == 0


def test_frozen_objects_can_be_changed_and_keep_what_they_refer_to(make_heap):
    heap = make_heap("16MiB", verify=3)
    node = node_shape(heap)
    with heap.attach() as m:
        root = m.new(node, key=1, next=m.new(node, key=2))
        heap.freeze()
        root.other = m.new(node, key=3)                 # younger
        root.next = None                                # frozen: stays although nobody has it
        root.key = 10
        for _ in range(3):
            heap.collect()
        assert (root.key, root.other.key) == (10, 3)
        assert sorted(ref.key for ref in heap.walk()) == [2, 3, 10]
        heap.unfreeze()
        heap.collect()
        assert sorted(ref.key for ref in heap.walk()) == [3, 10]


def test_freezing_again_adds(heap, mutator, node):
    first = mutator.new(node, key=1)
    heap.freeze()
    del first
    second = mutator.new(node, key=2)
    heap.freeze()
    assert heap.get_freeze_count() == 2
    del second
    gc.collect()
    heap.collect()
    assert sorted(ref.key for ref in heap.walk()) == [1, 2]


def test_large_objects_are_frozen_too(heap, mutator, node):
    wide = mutator.new_slots(50_000)
    wide[40_000] = mutator.new(node, key=9)
    raw = mutator.new_bytes(b"z" * 200_000)
    heap.freeze()
    del wide, raw
    gc.collect()
    for _ in range(3):
        litter(mutator, node, 3000)
        heap.collect()
    assert kept(heap) == 3
    wide, raw = (
        next(ref for ref in heap.walk() if isinstance(ref, kind))
        for kind in (gcheap.SlotArray, gcheap.RawArray))
    assert wide[40_000].key == 9 and bytes(raw) == b"z" * 200_000


@pytest.mark.parametrize("where", ["mark.concurrent", "plan.done", "register.done", "flip.after",
                                   "relocate.done"])
def test_freezing_and_unfreezing_in_any_phase(make_concurrent_heap, where):
    heap = make_concurrent_heap("16MiB", verify=3)
    node = node_shape(heap)
    with heap.attach() as m:
        nodes = interleaved(m, node, 3000)
        heap.freeze()
        more = interleaved(m, node, 2000)
        with failpoints.pause(where, times=1) as point:
            heap.collect(wait=False)
            point.wait()
            _testing.freeze_now(m.new(node))    # without the collection that freeze() begins with
            assert heap.get_freeze_count() == 5003
            del nodes, more
            gc.collect()
        for _ in range(2):
            heap.collect()
        assert kept(heap) == 5003
        with failpoints.pause(where, times=1) as point:
            heap.collect(wait=False)
            point.wait()
            heap.unfreeze()
            assert heap.get_freeze_count() == 0
        heap.collect()
        heap.collect()
        assert kept(heap) == 0 and heap.stats().live_bytes == 0


def test_freezing_beside_busy_mutators(make_heap):
    heap = make_heap("32MiB", verify=3)
    node = node_shape(heap)
    stop = threading.Event()

    def work(m):
        array = m.new_slots(100)
        rounds = 0
        while not stop.is_set():
            array[rounds % 100] = m.new(node, key=rounds, next=array[(rounds + 1) % 100])
            array[(rounds + 50) % 100] = None
            rounds += 1
        return rounds

    with MutatorThread(heap) as one, MutatorThread(heap) as two:
        running = [one.start(work), two.start(work)]
        for _ in range(8):
            heap.freeze()
            count = heap.get_freeze_count()
            heap.collect()
            assert kept(heap) >= count
            heap.unfreeze()
        stop.set()
        assert all(f.result(PATIENCE) > 0 for f in running)
    heap.collect()
    heap.collect()


def test_a_closed_heap_has_no_manners(combination):
    heap = gcheap.Heap("4MiB", **combination)
    heap.freeze()
    heap.close()
    for call in (heap.enable, heap.disable, heap.isenabled, heap.get_stats, heap.freeze,
                 heap.unfreeze, heap.get_freeze_count, lambda: heap.callbacks):
        with pytest.raises(gcheap.HeapClosed):
            call()
