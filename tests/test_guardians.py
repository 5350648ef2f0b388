"""Guardians: what they hand back, in which order against clearing, and when they let go."""
from __future__ import annotations

import pytest
from support import MutatorThread, alone, node_shape

import gcheap
from gcheap import failpoints


@pytest.fixture
def heap(make_heap):
    return make_heap(verify=3)


def test_an_object_comes_back_once_for_each_registration(heap, mutator, node):
    guardian = heap.guardian()
    ref = mutator.new(node, key=5, next=mutator.new(node, key=6))
    guardian.register(ref)
    guardian.register(ref)
    heap.collect()
    assert guardian() is None and (guardian.registered, guardian.ready) == (2, 0)
    del ref
    heap.collect()
    assert (guardian.registered, guardian.ready) == (0, 2)
    heap.collect()                              # what waits in the queue is held, and moves
    first, second = guardian(), guardian.poll()
    assert first == second and first.key == 5 and first.next.key == 6
    assert guardian() is None
    guardian.register(first)                    # and may be registered again
    del first, second
    heap.collect()
    assert [ref.key for ref in guardian] == [5]
    heap.collect()
    assert guardian() is None
    assert heap.stats().resurrected == 3 and heap.stats().guarded == 0


def test_weak_references_and_entries_are_gone_before_the_object_comes_back(heap, mutator, node):
    guardian, keys, values = heap.guardian(), heap.weak_key_table(), heap.weak_value_table()
    ref = mutator.new(node, next=mutator.new(node, key=2))
    weak, inner = mutator.weak(ref), mutator.weak(ref.next)
    keys[ref] = ref
    values["name"] = ref
    guardian.register(ref)
    del ref
    heap.collect()
    assert weak() is None and inner() is None and len(keys) == 0 and "name" not in values
    back = guardian()
    assert back.next.key == 2 and back not in keys
    keys[back] = None
    assert back in keys
    heap.collect()
    assert weak() is None and back in keys


def test_objects_that_die_together_all_come_back(heap, mutator, node):
    guardian = heap.guardian()
    last = None
    for i in range(100):
        last = mutator.new(node, key=i, next=last)
        guardian.register(last)
    last = None
    heap.collect()
    assert sorted(ref.key for ref in guardian) == list(range(100))


def test_a_cycle_of_guarded_objects_comes_back(heap, mutator, node):
    guardian = heap.guardian()
    a = mutator.new(node, key=1)
    a.next = mutator.new(node, key=2, next=a)
    guardian.register(a)
    guardian.register(a.next)
    del a
    heap.collect()
    back = {ref.key: ref for ref in guardian}
    assert back[1].next == back[2] and back[2].next == back[1]


def test_an_agent_comes_in_place_of_the_object(heap, mutator, node):
    guardian = heap.guardian()
    ref = mutator.new(node, key=1)
    weak = mutator.weak(ref)
    guardian.register(ref, mutator.new(node, key=10))
    guardian.register(ref, value=mutator.new(node, key=11))
    heap.collect()
    assert guardian() is None
    del ref
    heap.collect()
    heap.collect()
    assert weak() is None
    assert sorted(agent.key for agent in guardian) == [10, 11]


def test_an_agent_that_reaches_the_object_keeps_it(heap, mutator, node):
    guardian = heap.guardian()
    ref = mutator.new(node, key=1)
    weak = mutator.weak(ref)
    guardian.register(ref, mutator.new(node, next=ref))
    del ref
    heap.collect()
    assert guardian() is None and weak().key == 1
    del guardian
    heap.collect()
    assert weak() is None


def test_a_dropped_guardian_drops_its_registrations(heap, mutator, node):
    guardian, other = heap.guardian(), heap.guardian()
    ref, agent = mutator.new(node, key=1), mutator.new(node)
    weak, weak_agent = mutator.weak(ref), mutator.weak(agent)
    guardian.register(ref, agent)
    other.register(ref)
    del guardian, ref, agent
    heap.collect()
    assert weak() is None and weak_agent() is None
    assert [r.key for r in other] == [1]
    assert heap.stats().guarded == 0


def test_two_guardians_share_an_object(heap, mutator, node):
    guardians = [heap.guardian() for _ in range(2)]
    ref = mutator.new(node, key=1)
    for guardian in guardians:
        guardian.register(ref)
    del ref
    heap.collect()
    first, second = (guardian() for guardian in guardians)
    assert first == second


def test_many_registrations_come_back_exactly_once(heap, mutator, node, rng):
    guardian = heap.guardian()
    kept, seen = {}, []
    for i in range(3000):
        ref = mutator.new(node, key=i)
        guardian.register(ref)
        if rng.random() < 0.3:
            kept[i] = ref
        if i % 500 == 0:
            heap.collect()
            seen += [r.key for r in guardian]
    del ref
    heap.collect()
    seen += [r.key for r in guardian]
    assert sorted(seen) == sorted(set(range(3000)) - set(kept))
    kept.clear()
    heap.collect()
    assert len(seen) + guardian.ready == 3000


def test_wait_returns_what_a_cycle_finds(heap, mutator, node):
    guardian = heap.guardian()
    assert guardian.wait(timeout=0) is None and guardian.wait(0.01) is None
    guardian.register(mutator.new(node, key=4))
    with MutatorThread(heap) as waiter:
        found = waiter.start(lambda m: guardian.wait().key)
        heap.collect()
        assert found.result(60) == 4
        waiting = waiter.start(lambda m: guardian.wait())
        heap.close()
        with pytest.raises(gcheap.HeapClosed):
            waiting.result(60)
        mutator.detach()


def test_several_threads_never_get_the_same_registration(heap, node):
    guardian = heap.guardian()
    with heap.attach() as m:
        for i in range(2000):
            guardian.register(m.new(node, key=i))
    heap.collect()
    got = []
    threads = [MutatorThread(heap) for _ in range(3)]
    runs = [t.start(lambda m: [ref.key for ref in guardian]) for t in threads]
    for run, t in zip(runs, threads, strict=True):
        got += run.result(60)
        t.detach()
    assert sorted(got) == list(range(2000))


def test_misuse_says_what_was_wrong(heap, mutator, node):
    guardian = heap.guardian()
    with pytest.raises(TypeError, match="register: expected a Ref"):
        guardian.register(3)
    with pytest.raises(TypeError, match="Ref or None as value"):
        guardian.register(mutator.new(node), 3)
    with gcheap.Heap("4MiB") as other, other.attach(), pytest.raises(gcheap.ForeignRef):
        other.guardian().register(mutator.new(node))
    with pytest.raises(gcheap.NotAttached):
        alone(guardian)
    assert "Guardian of 0" in repr(guardian)


# ---- interleavings ------------------------------------------------------------------------


@pytest.fixture
def concurrent_heap(make_concurrent_heap):
    return make_concurrent_heap(verify=3)


def test_nothing_is_handed_out_before_it_is_traced(concurrent_heap):
    heap = concurrent_heap
    with heap.attach() as m:
        shape = heap.shape("N", refs=("next",), raw=[("key", "u8")])
        guardian = heap.guardian()
        for name in ("weak.before", "weak.cleared", "weak.resurrected"):
            guardian.register(m.new(shape, key=1, next=m.new(shape, key=2)))
            with failpoints.pause(name) as point:
                heap.collect(wait=False)
                point.wait()
                assert guardian() is None       # and it cannot be had in any other way
                guardian.register(m.new(shape, key=3))
            heap.collect()
            assert sorted(ref.key for ref in guardian) == [1, 3]


def test_an_object_may_be_taken_and_kept_while_the_cycle_goes_on(concurrent_heap):
    heap = concurrent_heap
    with heap.attach() as m:
        shape = heap.shape("N", refs=("next",), raw=[("key", "u8")])
        for name in ("weak.done", "plan.done", "flip.before", "flip.after"):
            guardian = heap.guardian()
            guardian.register(m.new(shape, key=1, next=m.new(shape, key=2)))
            with failpoints.pause(name) as point:
                heap.collect(wait=False)
                point.wait()
                back = None
                if name != "flip.before":       # that one is inside a pause
                    back = guardian()
                    moved = back.next
                    back.next = None
            heap.collect()
            back = back or guardian()
            assert back.key == 1
            assert name == "flip.before" or moved.key == 2


def test_what_leaves_the_queue_while_marking_runs_stays_whole(concurrent_heap):
    heap = concurrent_heap
    with heap.attach() as m:
        shape = heap.shape("N", refs=("next",), raw=[("key", "u8")])
        guardian = heap.guardian()
        guardian.register(m.new(shape, key=1, next=m.new(shape, key=2)))
        guardian.register(m.new(shape), m.new(shape, key=1, next=m.new(shape, key=2)))
        heap.collect()
        # Marking has begun, and has not looked into the queue yet.
        with failpoints.pause("mark.concurrent") as point:
            heap.collect(wait=False)
            point.wait()
            taken = [ref.next for ref in guardian]
            assert len(taken) == 2
        heap.collect()
        assert [ref.key for ref in taken] == [2, 2]


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_waiting_for_no_time_at_all_is_refused(any_heap, timeout):
    with pytest.raises(ValueError, match="expected seconds"):
        any_heap.guardian().wait(timeout)


@pytest.mark.parametrize("timeout", ["x", b"1", [], 1j, True])
def test_a_timeout_is_a_number(any_heap, timeout):
    with failpoints.pause("flip.after") as point:
        for wait in (any_heap.guardian().wait, point.wait):
            with pytest.raises(TypeError, match="wait: timeout .*: expected seconds"):
                wait(timeout)


def test_waiting_for_ever_ends_when_something_is_found(any_heap, any_mutator):
    guardian = any_heap.guardian()
    guardian.register(any_mutator.new(node_shape(any_heap), key=7))
    any_heap.collect()
    assert guardian.wait(float("inf")).key == 7
