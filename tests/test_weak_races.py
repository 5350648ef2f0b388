"""Weak references and tables against each step of a concurrent cycle."""
from __future__ import annotations

import pytest
from support import MutatorThread

from gcheap import failpoints


@pytest.fixture
def heap(make_concurrent_heap):
    return make_concurrent_heap(verify=3)


@pytest.fixture
def mutator(heap):
    with heap.attach() as m:
        yield m


@pytest.fixture
def shape(heap):
    return heap.shape("N", refs=("next", "other"), raw=[("key", "u8")])


def test_a_weak_read_while_marking_runs_keeps_the_object(heap, mutator, shape):
    weak = mutator.weak(mutator.new(shape, key=1, next=mutator.new(shape, key=2)))
    with failpoints.pause("mark.concurrent") as point:
        heap.collect(wait=False)
        point.wait()
        ref = weak()
        inner = ref.next
        ref.next = None                         # marking must find it all the same
    heap.collect()
    assert weak() == ref and inner.key == 2


def test_a_weak_read_that_is_dropped_again_keeps_it_for_that_cycle_only(heap, mutator, shape):
    weak = mutator.weak(mutator.new(shape))
    with failpoints.pause("mark.concurrent") as point, failpoints.pause("cycle.end") as end:
        heap.collect(wait=False)
        point.wait()
        assert weak() is not None
        point.release()
        end.wait()
        assert not weak.cleared
    heap.collect()
    assert weak.cleared


@pytest.mark.parametrize("name", ["weak.before", "weak.cleared", "weak.resurrected", "weak.done",
                                  "plan.done"])
def test_from_mark_end_on_what_is_unmarked_is_dead_for_everybody(heap, mutator, shape, name):
    kept = mutator.new(shape, key=1)
    table, names = heap.weak_key_table(), heap.weak_value_table()
    key, value = mutator.new(shape), mutator.new(shape)
    table[key] = value
    table[kept] = mutator.new(shape, key=9)
    names["dead"], names["kept"] = key, kept
    weak = [mutator.weak(r) for r in (key, value, kept, table[kept])]
    del key, value
    with MutatorThread(heap) as second, failpoints.pause(name) as point:
        heap.collect(wait=False)
        point.wait()
        for read in (lambda f: f(), lambda f: second.call(lambda m: f())):
            assert [read(w) is None for w in weak] == [True, True, False, False]
            assert read(lambda: names.get("dead")) is None
            assert read(lambda: names["kept"].key) == 1
            assert read(lambda: table[kept].key) == 9
            assert read(lambda: list(table.items())) == [(kept, weak[3]())]
    heap.collect()
    assert [w() is None for w in weak] == [True, True, False, False]
    assert len(table) == 1 and len(names) == 1


def test_dead_to_one_is_dead_to_all_even_if_a_guardian_brings_it_back(heap, mutator, shape):
    guardian = heap.guardian()
    ref = mutator.new(shape, key=1, next=mutator.new(shape, key=2))
    guardian.register(ref)
    weak = [mutator.weak(ref), mutator.weak(ref.next)]
    del ref
    with failpoints.pause("weak.before") as point:
        heap.collect(wait=False)
        point.wait()
        assert [w() for w in weak] == [None, None]
        with failpoints.pause("weak.resurrected") as later:
            point.release()
            later.wait()
            assert [w() for w in weak] == [None, None]      # marked again, and still dead
    heap.collect()
    assert guardian().next.key == 2
    assert [w() for w in weak] == [None, None]


@pytest.mark.parametrize("name", ["mark.concurrent", "weak.before", "weak.cleared",
                                  "weak.resurrected", "weak.done", "plan.done", "register.done",
                                  "flip.after", "relocate.done"])
def test_what_is_made_during_a_cycle_holds(heap, mutator, shape, name):
    """New cells, entries and registrations at each step: of old objects and of new ones."""
    table, names, guardian = heap.weak_key_table(), heap.weak_value_table(), heap.guardian()
    old, held = mutator.new(shape, key=1), mutator.new(shape, key=2)
    old.next = held
    del held
    with failpoints.pause(name) as point:
        heap.collect(wait=False)
        point.wait()
        new = mutator.new(shape, key=3)
        table[old] = old.next                   # moves from a slot into the table
        old.next = None
        table[new] = mutator.new(shape, key=4, next=new)
        names["old"], names["new"] = old, new
        weak = [mutator.weak(old), mutator.weak(new)]
        guardian.register(old)
        guardian.register(new, mutator.new(shape, key=5))
    for _ in range(2):
        heap.collect()
        assert table[old].key == 2 and table[new].key == 4 and table[new].next == new
        assert names["old"] == old and names["new"] == new
        assert [w() for w in weak] == [old, new]
        assert guardian() is None
    del old, new
    heap.collect()
    assert len(table) == 0 and len(names) == 0 and [w() for w in weak] == [None, None]
    assert sorted(r.key for r in guardian) == [1, 5]


def test_values_read_or_moved_while_marking_runs_stay_whole(heap, mutator, shape):
    table = heap.weak_key_table()
    keys = [mutator.new(shape, key=i) for i in range(6)]
    for key in keys:
        table[key] = mutator.new(shape, key=10 + key.key, next=mutator.new(shape, key=100))
    del key
    with failpoints.pause("mark.concurrent") as point:
        heap.collect(wait=False)
        point.wait()
        popped = table.pop(keys[0])
        read = table[keys[1]]
        table[keys[1]] = None                   # overwritten after it was read
        table[keys[2]], table[keys[3]] = table[keys[3]], table[keys[2]]
        late = mutator.new(shape)
        table[late] = table.pop(keys[4])        # to a black key
        scanned = dict(table.items())[keys[5]]
        del table[keys[5]]
        inner = popped.next
        popped.next = None
    heap.collect()
    assert (popped.key, read.key, read.next.key, inner.key) == (10, 11, 100, 100)
    assert (table[keys[2]].key, table[keys[3]].key) == (13, 12)
    assert table[late].key == 14 and table[late].next.key == 100
    assert scanned.key == 15 and scanned.next.key == 100 and table[keys[1]] is None


def test_ephemerons_of_keys_that_marking_finds_late(heap, mutator, shape):
    """A chain of ephemerons whose first key comes out of a weak reference during marking."""
    table = heap.weak_key_table()
    first = at = mutator.new(shape, key=0)
    for i in range(1, 200):
        following = mutator.new(shape, key=i)
        table[at] = following
        at = following
    weak = mutator.weak(first)
    del first, at, following
    with failpoints.pause("mark.concurrent") as point:
        heap.collect(wait=False)
        point.wait()
        at = weak()
    heap.collect()
    n = 0
    while at is not None:
        assert at.key == n
        n, at = n + 1, table.get(at)
    assert n == 200


def test_dropping_during_the_phase_disturbs_nothing(heap, mutator, shape):
    refs = [mutator.new(shape, key=i) for i in range(300)]
    table, guardian = heap.weak_key_table(), heap.guardian()
    for ref in refs:
        table[ref] = ref
        guardian.register(ref)
    weak = [mutator.weak(ref) for ref in refs]
    del ref, refs
    for name in ("weak.before", "weak.cleared", "weak.resurrected", "weak.done"):
        with failpoints.pause(name) as point:
            heap.collect(wait=False)
            point.wait()
            del weak[::2]
            weak += [mutator.weak(mutator.new(shape)) for _ in range(50)]   # their cells again
            table = heap.weak_key_table()
            guardian = heap.guardian()
        heap.collect()
    assert heap.stats().weak_refs == len(weak)
    assert all(w() is None for w in weak)
    assert heap.stats().weak_entries == 0 and heap.stats().guarded == 0


def test_a_cycle_that_does_not_relocate_clears(heap, mutator, shape):
    keep = [mutator.new(shape, key=i) for i in range(20_000)]
    weak = mutator.weak(mutator.new(shape))
    heap.collect()
    weak = mutator.weak(mutator.new(shape))
    before = heap.stats()
    # A cycle that mutators' allocation starts is not a full one: it wins nothing here.
    while heap.stats().cycles == before.cycles:
        for _ in range(200):
            mutator.new_bytes(bytes(4000))
    assert heap.stats().cycles > before.cycles
    assert weak() is None and keep[-1].key == 19_999


def test_tables_change_all_the_time_while_cycles_run(heap, mutator, shape, rng):
    table = heap.weak_key_table()
    model = {}
    for i in range(4000):
        if i % 400 == 0:
            heap.collect(wait=False)
        roll = rng.random()
        key = rng.choice(list(model)) if model and roll < 0.6 else mutator.new(shape, key=i)
        if key in model and roll < 0.2:
            del model[key]                      # the key dies, and so does its entry
        elif key in model and roll < 0.3:
            assert table.pop(key).key == model.pop(key)
        else:
            table[key] = mutator.new(shape, key=i, next=key)
            model[key] = i
        if model:
            some = rng.choice(list(model))
            assert table[some].key == model[some]
            assert table[some].next is None or table[some].next == some
    del key, some
    heap.collect()
    heap.collect()
    assert {k: v.key for k, v in table.items()} == model
