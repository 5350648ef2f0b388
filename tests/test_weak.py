"""Weak references, weak-key and weak-value tables: what lives, what is cleared, what is refused."""
from __future__ import annotations

import copy
import pickle
import threading

import pytest
from support import MutatorThread, alone, node_shape, run_cleanly

import gcheap
from gcheap.core import _testing_weak


@pytest.fixture
def heap(make_heap):
    return make_heap(verify=3)


# ---- weak references ----------------------------------------------------------------------


def test_a_weak_reference_follows_its_object_and_ends_with_it(heap, mutator, node):
    ref = mutator.new(node, key=7)
    mutator.new(node)
    weak = mutator.weak(ref)
    for _ in range(3):
        mutator.new_slots(100)
        heap.collect()
        assert weak() == ref and weak().key == 7 and not weak.cleared
    del ref
    heap.collect()
    assert weak() is None and weak.cleared


def test_a_reachable_object_needs_no_ref_to_stay(heap, mutator, node):
    holder = mutator.new(node, next=mutator.new(node, key=3))
    weak = mutator.weak(holder.next)
    heap.collect()
    assert weak().key == 3
    holder.next = None
    heap.collect()
    assert weak() is None


def test_many_weak_references_each_end_with_their_own_object(heap, mutator, node, rng):
    refs = [mutator.new(node, key=i) for i in range(2000)]
    weak = [mutator.weak(ref) for ref in refs]
    kept = set(rng.sample(range(2000), 700))
    refs = [ref if i in kept else None for i, ref in enumerate(refs)]
    heap.collect()
    assert {i for i, w in enumerate(weak) if w() is not None} == kept
    assert all(weak[i]().key == i for i in kept)


def test_equality_hash_copy_and_pickle_are_those_of_weakref(heap, mutator, node):
    ref, other = mutator.new(node), mutator.new(node)
    a, b, c, late = (mutator.weak(r) for r in (ref, ref, other, ref))
    assert a == b and a != c and hash(a) == hash(b) == hash(ref)
    assert copy.copy(a) is a and copy.deepcopy(a) is a
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(a)
    del ref, other
    heap.collect()
    assert a == a and a != b
    assert hash(a) == hash(b)
    with pytest.raises(TypeError, match="died"):
        hash(late)
    assert "cleared" in repr(a)


def test_weak_references_are_dropped_on_any_thread_and_their_cells_used_again(heap, mutator, node):
    ref = mutator.new(node)
    for _ in range(5):
        weak = [mutator.weak(ref) for _ in range(3000)]
        assert heap.stats().weak_refs == 3000
        threads = [threading.Thread(target=weak[i::3].clear) for i in range(3)]
        box = [weak]
        del weak
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        dropper = threading.Thread(target=box.clear)
        dropper.start()
        dropper.join()
        del threads, dropper
        assert heap.stats().weak_refs == 0


def test_misuse_of_weak_references_says_what_was_wrong(heap, mutator, node):
    weak = mutator.weak(mutator.new(node))
    with pytest.raises(TypeError, match="expected a Ref"):
        mutator.weak(3)
    with pytest.raises(TypeError, match="m.weak"):
        gcheap.WeakRef()
    with gcheap.Heap("4MiB") as other, other.attach() as m, pytest.raises(gcheap.ForeignRef):
        m.weak(mutator.new(node))
    with pytest.raises(gcheap.NotAttached):
        alone(weak)
    mutator.detach()
    heap.close()
    with pytest.raises(gcheap.HeapClosed):
        weak()


# ---- weak-key tables ----------------------------------------------------------------------


def test_a_weak_key_table_is_a_mapping_by_identity(heap, mutator, node):
    table = heap.weak_key_table()
    a, b, c = (mutator.new(node, key=i) for i in range(3))
    table[a] = b
    table[b] = None
    table[c] = gcheap.Tagged(5)
    again = mutator.new_slots(1)
    again[0] = a
    assert table[again[0]] == b and table[b] is None and table[c] == gcheap.Tagged(5)
    assert len(table) == 3 and a in table and mutator.new(node) not in table and 3 not in table
    heap.collect()
    assert set(table) == {a, b, c} and dict(table.items()) == {a: b, b: None, c: gcheap.Tagged(5)}
    assert len(table.values()) == 3
    table[a] = c
    assert table[a] == c and len(table) == 3
    assert table.setdefault(a, b) == c and table.setdefault(again, b) == b
    assert table.pop(again) == b and table.pop(again, 9) == 9
    with pytest.raises(KeyError):
        table.pop(again)
    del table[a]
    for broken in (lambda: table[a], lambda: table.__delitem__(a)):
        with pytest.raises(KeyError):
            broken()
    assert table.get(a) is None and table.get(a, 4) == 4
    assert table.popitem()[0] in (b, c) and len(table) == 1
    table.update({a: b, b: a})
    table.clear()
    assert len(table) == 0 and list(table) == []
    with pytest.raises(KeyError):
        table.popitem()
    assert heap.stats().weak_entries == 0
    for key, value, error in ((3, None, TypeError), (a, "x", TypeError),
                              (a, gcheap.Tagged(8), ValueError)):
        with pytest.raises(error, match="weak-key table"):
            table[key] = value


def test_an_entry_keeps_its_value_exactly_as_long_as_its_key_lives(heap, mutator, node):
    table = heap.weak_key_table()
    key, value = mutator.new(node, key=1), mutator.new(node, key=2)
    value.next = key                            # does not keep the entry
    table[key] = value
    weak = mutator.weak(value)
    del value
    heap.collect()
    assert weak() == table[key] and weak().next == key
    del key
    heap.collect()
    assert weak() is None and len(table) == 0


def test_overwritten_and_removed_values_die(heap, mutator, node):
    table = heap.weak_key_table()
    key = mutator.new(node)
    weak = []
    for i in range(3):
        value = mutator.new(node, key=i)
        weak.append(mutator.weak(value))
        table[key] = value
        del value
    heap.collect()
    assert [w() is None for w in weak] == [True, True, False]
    del table[key]
    heap.collect()
    assert weak[2]() is None


@pytest.mark.parametrize("reverse", [False, True])
def test_a_chain_of_ten_thousand_ephemerons(heap, mutator, node, reverse):
    table = heap.weak_key_table()
    nodes = [mutator.new(node, key=i) for i in range(10_000)]
    pairs = list(zip(nodes, nodes[1:], strict=False))
    for key, value in reversed(pairs) if reverse else pairs:
        table[key] = value
    first = nodes[0]
    del nodes, pairs, key, value
    for _ in range(2):
        heap.collect()
        assert len(table) == 9_999
        n, at = 0, first
        while at is not None:
            assert at.key == n
            n, at = n + 1, table.get(at)
        assert n == 10_000
    first = None
    heap.collect()
    assert len(table) == 0


def test_a_cycle_through_tables_is_no_reason_to_live(heap, mutator, node):
    one, two = heap.weak_key_table(), heap.weak_key_table()
    a, b, c = (mutator.new(node, key=i) for i in range(3))
    one[a], two[b], one[c] = b, c, a
    weak = [mutator.weak(r) for r in (a, b, c)]
    del b, c
    heap.collect()
    assert [w() is None for w in weak] == [False] * 3
    assert one[two[one[a]]] == a
    del a
    heap.collect()
    assert [w() is None for w in weak] == [True] * 3
    assert len(one) == len(two) == 0


def test_a_dropped_table_keeps_nothing(heap, mutator, node):
    table = heap.weak_key_table()
    key = mutator.new(node)
    value = mutator.new(node)
    table[key] = value
    weak = mutator.weak(value)
    del value, table
    heap.collect()
    assert weak() is None
    assert heap.stats().weak_entries == 0


def test_a_table_grows_to_many_entries_and_shrinks(heap, mutator, node):
    tables = [heap.weak_key_table() for _ in range(3)]
    keys = [mutator.new(node, key=i) for i in range(6000)]
    for i, key in enumerate(keys):
        for j, table in enumerate(tables):
            table[key] = gcheap.Tagged(8 * (3 * i + j) + 1)
    heap.collect()
    for j, table in enumerate(tables):
        assert {k.key: v.word >> 3 for k, v in table.items()} == {
            i: 3 * i + j for i in range(6000)}
    del key
    keys = keys[::5]
    heap.collect()
    assert [len(t) for t in tables] == [1200] * 3
    assert all(tables[1][k].word >> 3 == 3 * k.key + 1 for k in keys)
    assert heap.stats().cleared == 3 * 4800


# ---- weak-value tables ------------------------------------------------------------------------


def test_a_weak_value_table_interns(heap, mutator):
    table = heap.weak_value_table()
    made = []

    def make():
        made.append(1)
        return mutator.new_bytes(b"text")

    first = table.setdefault("text", make)
    assert table.setdefault("text", make) == first and made == [1]
    heap.collect()
    assert table["text"] == first and bytes(table["text"]) == b"text"
    del first
    heap.collect()
    assert table.get("text") is None and "text" not in table and len(table) == 0
    with pytest.raises(KeyError):
        table["text"]
    table.setdefault("text", make)
    assert made == [1, 1]


def test_a_weak_value_table_is_a_mapping(heap, mutator, node):
    table = heap.weak_value_table()
    refs = [mutator.new(node, key=i) for i in range(500)]
    for i, ref in enumerate(refs):
        table[i] = ref
    table["s"], table[b"s"] = refs[0], refs[1]
    assert table["s"] == refs[0] and table[b"s"] == refs[1] and len(table) == 502
    del ref
    refs = refs[::2]
    heap.collect()
    assert len(table) == 251 and sorted(k for k in table if k != "s") == list(range(0, 500, 2))
    assert {k: r.key for k, r in table.items()} == {
        **{i: i for i in range(0, 500, 2)}, "s": 0}
    assert table.pop(0) == refs[0] and 0 not in table and table.pop(0, None) is None
    with pytest.raises(KeyError):
        del table[0]
    for i in range(1000, 2000):                 # dead entries are swept on the way
        table[i] = mutator.new(node)
        if i % 100 == 0:
            heap.collect()
    assert len(table._cells) < 900
    table.clear()
    assert len(table) == 0
    with pytest.raises(TypeError, match="str, bytes or int"):
        table[1.5] = refs[0]
    with pytest.raises(TypeError, match="expected a Ref"):
        table["x"] = 5


# ---- native tables ----------------------------------------------------------------------------


def test_native_interning_compares_contents_and_survives_collisions(heap, mutator):
    first = mutator.new_bytes(b"0")
    table = _testing_weak.InternTable(first, mutator.native())
    refs = [mutator.new_bytes(str(i).encode()) for i in range(300)]
    for i, ref in enumerate(refs):
        assert table.add(i % 7, ref) == ref
        assert table.add(i % 7, mutator.new_bytes(str(i).encode())) == ref
    assert len(table) == 300
    del ref
    refs = refs[::3]
    heap.collect()
    assert len(table) == 100
    for i in range(300):
        found = table.find(i % 7, str(i).encode())
        assert (found is None) == (i % 3 != 0) and (found is None or found == refs[i // 3])
    assert table.remove(0, refs[0]) and not table.remove(0, refs[0])
    assert table.find(0, b"0") is None and len(table) == 99


def test_native_threads_share_tables_and_guardians_while_cycles_run(make_heap, seed):
    heap = make_heap("4MiB", verify=3)
    with heap.attach() as m:
        storm = _testing_weak.Storm(m.new(node_of_two(heap)))
    threads = [MutatorThread(heap, f"storm {i}") for i in range(3)]
    runs = [t.start(lambda m, i=i: storm.run(m.native(), seed * 8 + 2 * i + 1, 30_000, 3000))
            for i, t in enumerate(threads)]
    while not all(run.done() for run in runs):
        heap.collect()
    results = [run.result() for run in runs]
    for t in threads:
        t.detach()
    assert [broken for broken, _, _ in results] == [0, 0, 0]
    heap.collect()
    with heap.attach() as m:
        left = storm.drain(m.native())
    # Nothing holds any of it now: each object was handed back once, and the tables are empty.
    assert sum(r for _, r, _ in results) == sum(y for _, _, y in results) + left
    assert storm.counts() == (0, 0, 0)
    assert heap.stats().weak_refs == 0 and heap.stats().weak_entries == 0


def node_of_two(heap):
    return heap.shape("Two", refs=("a", "b"), raw=[("key", "u8")])


# ---- the life of a heap -----------------------------------------------------------------------


def test_tables_and_weak_references_outlive_their_heap_quietly(combination):
    with gcheap.Heap("4MiB", **combination) as heap, heap.attach() as m:
        ref = m.new(node_shape(heap))
        weak, table, guardian = m.weak(ref), heap.weak_key_table(), heap.guardian()
        table[ref] = ref
        guardian.register(ref)
        repr(weak), repr(table), repr(guardian)
    for use, *arguments in ((weak,), (table.get, ref), (guardian,), (heap.weak_key_table,),
                            (heap.guardian,)):
        with pytest.raises(gcheap.HeapClosed):
            use(*arguments)
    del use, arguments, ref, weak, table, guardian, heap


@pytest.mark.parametrize("mode", ["continue", "none"])
def test_the_forked_child_may_drop_what_the_parent_keeps(combination, mode):
    run_cleanly(f"""
        import os, gcheap
        with gcheap.Heap("4MiB", fork="{mode}", **{combination}) as heap, heap.attach() as m:
            shape = heap.shape("N", refs=("a",))
            ref = m.new(shape)
            weak, table, guardian = m.weak(ref), heap.weak_key_table(), heap.guardian()
            table[ref] = ref
            heap.collect()      # its threads have begun: AddressSanitizer allocates there
            pid = os.fork()
            if pid == 0:
                try:
                    assert weak() == ref and table[ref] == ref and "{mode}" == "continue"
                    guardian.register(ref)
                    del ref
                    heap.collect()
                    assert weak() is None and len(table) == 0 and guardian() is not None
                except gcheap.HeapClosed:
                    assert "{mode}" == "none"
                    del weak, table, guardian
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            heap.collect()
            assert weak() == ref and table[ref] == ref
            del ref
            heap.collect()
            assert weak() is None and len(table) == 0
        """)
