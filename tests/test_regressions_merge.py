"""Features that were made apart, used together: what a review of their seams found."""
from __future__ import annotations

import json
import os
import signal
import threading

import pytest
from support import node_shape, status_of_child, wait_until

import gcheap
from gcheap import failpoints

PAGE = os.sysconf("SC_PAGESIZE")


def in_child(function) -> int:
    """Runs `function()` in a forked child; its exit code.  A child that hangs is killed."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return status_of_child(pid)


# ---- introspection sees what tables and guardians hold ----------------------------------------

@pytest.fixture
def held(make_heap):
    """(heap, mutator, key, guardian): a key whose entry holds a node that holds a pinned array; an
    agent; and an object that waits in the guardian's queue."""
    heap = make_heap(verify=4)
    with heap.attach() as m:
        node = node_shape(heap)
        key = m.new_array("u1", 100000)
        table = heap.weak_key_table()
        value = m.new(node, key=1)
        value.next = m.new_array("u8", 10, pinned=True)
        table[key] = value
        guardian = heap.guardian()
        guardian.register(key, m.new(node, key=2))      # the agent
        guardian.register(m.new(node, key=3))
        del value
        heap.collect()
        assert guardian.ready == 1
        yield heap, m, key, table, guardian


def test_census_counts_what_tables_and_guardians_hold(held):
    heap = held[0]
    heap.collect()
    counted = heap.census()
    assert counted["objects"].sum() == 5                # key, value, its array, agent, ready
    pinned = heap.stats().pinned_bytes
    raw = 2 * 8 + 10 * 8
    assert counted["bytes"].sum() - raw + pinned == heap.stats().live_bytes


def test_value_of_an_ephemeron_is_alive_because_of_its_key(held):
    heap, m, key, table, _ = held
    array = table[key].next
    path = heap.why_alive(array)
    assert path[0].kind == "ref"
    assert [step.where for step in path[1:]] == [None, "(weak table)", "next"]
    assert path[1].ref == key and path[-1].ref == array
    assert heap.retained(key).objects == 2              # `array` is held by a Ref of its own
    assert [where for _, where in heap.referrers(table[key])] == ["(weak table)"]


def test_guardian_is_named_as_a_root(held):
    heap, m, key, table, guardian = held
    waiting = [ref for ref in heap.walk() if getattr(ref, "key", None) == 3]
    assert len(waiting) == 1
    path = heap.why_alive(waiting[0])
    assert path[0].kind == "guardian" and "a guardian" in repr(path)


def test_freeze_takes_what_tables_and_guardians_hold(held):
    heap, m, key, table, guardian = held
    heap.freeze()
    assert heap.get_freeze_count() == 5
    w = m.weak(table.pop(key))
    heap.collect()
    assert w() is not None
    heap.unfreeze()
    heap.collect()
    assert w() is None


def test_snapshot_reaches_what_tables_and_guardians_hold(held, tmp_path):
    heap = held[0]
    heap.snapshot(tmp_path / "s.heapsnapshot")
    found = json.loads((tmp_path / "s.heapsnapshot").read_text())
    strings, edges, nodes = found["strings"], found["edges"], found["nodes"]
    assert "(guardians)" in strings
    named = [strings[edges[i + 1]] for i in range(0, len(edges), 3) if edges[i] == 3]
    assert named == ["(weak table)"]
    ends = {edges[i + 2] for i in range(0, len(edges), 3)}
    assert ends == set(range(7, len(nodes), 7))         # every node but the first


def test_what_a_report_names_survives_being_overwritten_unread(make_concurrent_heap):
    """The marker has not come to the entry yet; the value is seen, then replaced."""
    heap = make_concurrent_heap(verify=4)
    with heap.attach() as m:
        node = node_shape(heap)
        key, value = m.new(node, key=1), m.new(node, key=2)
        table = heap.weak_key_table()
        table[key] = value
        del value
        with failpoints.pause("mark.concurrent", times=1) as held:
            heap.collect(wait=False)
            held.wait()
            seen = [ref for ref in heap.walk() if ref.key == 2]
            table[key] = None
            held.release()
        heap.collect()
        assert seen[0].key == 2


# ---- fork ----------------------------------------------------------------------------------

def test_value_table_that_another_thread_is_using_works_in_a_child(make_heap):
    heap = make_heap()
    node = node_shape(heap)
    table = heap.weak_value_table()
    inside, leave = threading.Event(), threading.Event()

    def other():
        with heap.attach() as mine:
            def make():
                inside.set()
                leave.wait()
                return mine.new(node)
            table.setdefault("a", make)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    try:
        with heap.attach() as m:
            def child():
                ref = m.new(node, key=4)
                table["b"] = ref
                assert table["b"].key == 4
            assert in_child(child) == 0
    finally:
        leave.set()
        thread.join()


def test_callbacks_are_called_in_a_child(make_heap):
    heap = make_heap()
    told = []
    heap.callbacks.append(lambda phase, info: told.append(phase))
    heap.collect()
    wait_until(lambda: len(told) == 2, "the parent's cycle is told")

    def child():
        told.clear()
        heap.collect()
        wait_until(lambda: told == ["start", "stop"], "the child's cycle is told")

    assert in_child(child) == 0


def test_finalizers_made_at_once_share_one_service(make_heap):
    heap = make_heap()
    node = node_shape(heap)
    died, gate = [], threading.Barrier(8)

    def work(i):
        with heap.attach() as m:
            gate.wait()
            heap.finalize(m.new(node), died.append, i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heap.close()
    wait_until(lambda: sorted(died) == list(range(8)), "every callback has run")


# ---- room ----------------------------------------------------------------------------------

@pytest.mark.parametrize("unit_pages", [1, 16])
def test_last_pages_of_a_full_heap_are_found_for_pinned_arrays(make_heap, unit_pages):
    heap = make_heap("8MiB", unit_pages=unit_pages)
    with heap.attach() as m:
        kept = []
        with pytest.raises(gcheap.HeapExhausted):
            while True:
                kept.append(m.new_array("u1", PAGE - 16, pinned=True))
        assert len(kept) == (8 << 20) // PAGE
        for i in range(0, 50, 7):
            del kept[i]
            kept.append(m.new_array("u1", PAGE - 16, pinned=True))


# ---- after the end -------------------------------------------------------------------------

def test_nothing_new_is_made_of_a_closed_heap(make_heap):
    heap = make_heap()
    heap.close()
    for make in (heap.weak_key_table, heap.weak_value_table, heap.guardian):
        with pytest.raises(gcheap.HeapClosed):
            make()
