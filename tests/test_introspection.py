"""Looking at the graph: counts, holders, paths and walks are those of a known graph."""
from __future__ import annotations

import gc
import os

import pytest
from support import (
    MutatorThread,
    alone,
    check_interleaved,
    counts,
    interleaved,
    node_shape,
    run_cleanly,
)

import gcheap
from gcheap.core import _testing


def chain(m, shape, count: int):
    """The head of a list of `count` nodes: keys count - 1 down to 0."""
    head = None
    for i in range(count):
        head = m.new(shape, key=i, next=head)
    return head


# ---- census ------------------------------------------------------------------------------

def test_a_census_counts_what_is_reachable_and_nothing_else(heap, mutator, node):
    assert len(heap.census()) == 0
    nodes = interleaved(mutator, node, 1000)            # and as much garbage
    data = mutator.new_array("f8", 100)
    text = mutator.new_bytes(b"x" * 9)
    census = heap.census()
    assert counts(census) == {
        "Node": (1000, 48 * 1000), "slots": (1, 16 + 8 * 1000),
        "array[float64]": (1, 16 + 800), "bytes": (1, 16 + 16)}
    assert [str(row["kind"]) for row in census] == ["fixed", "slots", "raw", "raw"]
    assert list(census["bytes"]) == sorted(census["bytes"], reverse=True)
    heap.collect()
    assert counts(heap.census()) == counts(census)
    assert int(heap.census()["bytes"].sum()) == heap.stats().live_bytes
    del nodes, data, text
    gc.collect()
    assert len(heap.census()) == 0


def test_a_census_follows_every_reference_and_no_tagged_value(heap, mutator):
    tagged = heap.shape("Tagged", refs=("a", "b"), tag=(1, 1))
    target = mutator.new(tagged)
    holder = mutator.new(tagged, a=target, b=gcheap.Tagged(0x7000))
    del target
    gc.collect()
    assert counts(heap.census())["Tagged"][0] == 2
    holder.a = None
    assert counts(heap.census())["Tagged"][0] == 1


def test_large_objects_are_counted_once(heap, mutator, node):
    wide = mutator.new_slots(50_000)
    wide[49_999] = mutator.new(node, key=1)
    raw = mutator.new_array("u1", 300_000)
    heap.collect()
    assert counts(heap.census()) == {
        "slots": (1, 16 + 400_000), "Node": (1, 48), "array[uint8]": (1, 16 + 300_000)}
    assert wide[49_999].key == 1 and len(raw) == 300_000


def test_a_long_list_needs_no_deep_stack(make_heap):
    heap = make_heap("64MiB")
    node = node_shape(heap)
    with heap.attach() as m:
        head = chain(m, node, 200_000)
        heap.collect()
        assert counts(heap.census()) == {"Node": (200_000, 48 * 200_000)}
        assert heap.retained(head).objects == 200_000


def test_an_unattached_thread_may_look(heap, mutator, node):
    nodes = interleaved(mutator, node, 2000)
    assert counts(alone(heap.census))["Node"][0] == 2000
    assert len(alone(lambda: list(heap.walk()))) == 2001
    assert heap.stats().mutators == 1
    assert check_interleaved(nodes) == 2000


def test_a_report_is_one_pause_of_its_own(heap, mutator, node):
    ref = mutator.new(node)
    heap.collect()
    before = list(heap.pauses())
    for report in (heap.census, lambda: heap.referrers(ref), lambda: heap.retained(ref),
                   lambda: heap.why_alive(ref), lambda: list(heap.walk())):
        report()
    new = list(heap.pauses())[len(before):]
    assert [(str(p["phase"]), int(p["cycle"])) for p in new] == [("inspect", 0)] * 5
    assert {int(p["mutators"]) for p in new} == {1}


# ---- who holds whom ----------------------------------------------------------------------

def test_referrers_names_every_slot_and_every_root(heap, mutator, node):
    target, left, right = (mutator.new(node, key=k) for k in range(3))
    array = mutator.new_slots(4)
    left.next = left.other = target
    right.other = target
    array[3] = target
    found = heap.referrers(target)
    assert {(h, w) for h, w in found} == {
        (left, "next"), (left, "other"), (right, "other"), (array, 3)}
    assert len(found) == 4
    second = array[3]                                   # another Ref to the same object
    assert heap.referrers(target)[-1] == (gcheap.Root("ref"), None)
    assert heap.referrers(second)[-1] == (gcheap.Root("ref"), None)
    del second
    left.next = left.other = right.other = array[3] = None
    assert heap.referrers(target) == []


def test_refs_made_by_introspection_are_not_reasons(heap, mutator, node):
    target = mutator.new(node)
    holder = mutator.new(node, next=target)
    handed_out = [ref for ref in heap.walk() if ref in (target, holder)]
    assert heap.referrers(target) == [(holder, "next")]
    assert [type(step) for step in heap.why_alive(target)] == [
        gcheap.Root, gcheap.Step, gcheap.Step]
    assert heap.retained(holder).objects == 1           # `target` is a Ref of its own
    del holder
    gc.collect()
    assert heap.why_alive(target) is None               # `handed_out` keeps it, and does not count
    assert counts(heap.census()) == {"Node": (2, 96)}   # but what it keeps is there
    del handed_out
    gc.collect()
    assert counts(heap.census()) == {"Node": (1, 48)}


def test_a_cycle_that_holds_itself_is_found_but_explains_nothing(heap, mutator, node):
    target = mutator.new(node)
    target.next = target
    assert heap.referrers(target) == [(target, "next")]
    assert heap.why_alive(target) is None
    assert heap.retained(target) == gcheap.Retained(1, 48, 48)


# ---- what hangs on whom ------------------------------------------------------------------

def test_retained_is_what_only_this_object_reaches(heap, mutator, node):
    shared = mutator.new(node)
    own = mutator.new(node)
    text = mutator.new_bytes(b"y" * 100)
    box = mutator.new_slots(2)
    box[0], box[1] = own, text
    array = mutator.new_slots(3)
    array[0], array[1] = shared, box
    root = mutator.new(node, next=array)
    del own, text, box, shared
    gc.collect()
    own_bytes, others = 16 + 24, (16 + 16) + 48 + (16 + 104)
    assert heap.retained(array) == gcheap.Retained(5, own_bytes + others + 48, own_bytes)
    root.other = array[0]                               # now somebody else holds `shared`
    assert heap.retained(array) == gcheap.Retained(4, own_bytes + others, own_bytes)


def reachable(edges, begin, without=None) -> set[int]:
    seen, todo = set(), list(begin)
    while todo:
        n = todo.pop()
        if n not in seen and n != without:
            seen.add(n)
            todo += edges[n]
    return seen


def distance(edges, begin, target) -> int | None:
    """Edges on a shortest path; None: there is none."""
    level, seen, steps = set(begin), set(begin), 0
    while level:
        if target in level:
            return steps
        level = {t for n in level for t in edges[n]} - seen
        seen |= level
        steps += 1
    return None


def one_random_graph(heap, m, node, rng, count):
    made = [m.new(node, key=i) for i in range(count)]
    edges = {i: [] for i in range(count)}
    for i in range(count):
        for slot in ("next", "other"):
            if rng.random() < 0.7:
                edges[i].append(rng.randrange(count))
                setattr(made[i], slot, made[edges[i][-1]])
    target, *roots = rng.sample(range(count), 4)
    held, mine = [made[i] for i in roots], made[target]
    made.clear()
    gone = reachable(edges, {target, *roots}) - reachable(edges, roots, without=target)
    assert heap.retained(mine) == gcheap.Retained(len(gone), 48 * len(gone), 48)
    holders = [edges[i].count(target) for i in reachable(edges, {target, *roots})]
    assert len(heap.referrers(mine)) == sum(holders)
    assert [ref.key for ref in heap.walk()] == sorted(reachable(edges, {target, *roots}))
    path = heap.why_alive(mine)
    assert (None if path is None else len(path) - 2) == distance(edges, roots, target)
    if path is not None:
        assert path[0] == gcheap.Root("ref") and path[1].where is None
        assert path[1].ref in held and path[-1].ref == mine
        for before, after in zip(path[1:], path[2:], strict=False):
            assert getattr(before.ref, after.where) == after.ref


def test_random_graphs_agree_with_the_definitions(heap, mutator, node, rng):
    for _ in range(12):
        one_random_graph(heap, mutator, node, rng, 60)


# ---- why an object lives -----------------------------------------------------------------

def test_why_alive_tells_fields_and_indices(heap, mutator, node):
    array = mutator.new_slots(8)
    array[5] = mutator.new(node, other=mutator.new(node, key=7))
    target = array[5].other
    gc.collect()
    path = heap.why_alive(target)
    assert repr(path) == "<gcheap.Path: a Ref -> slots -> [5] Node -> .other Node>"
    assert [(step.where, step.ref) for step in path[1:]] == [
        (None, array), (5, array[5]), ("other", target)]
    assert path.skipped == 0
    again = array[5].other
    assert [str(step) for step in heap.why_alive(target)] == ["a Ref", "Node"]
    assert again.key == 7


def test_the_middle_of_a_long_path_is_left_out(heap, mutator, node):
    head = chain(mutator, node, 5000)
    tail = [ref for ref in heap.walk() if ref.key == 0][0]
    path = heap.why_alive(tail, longest=10)
    assert path.skipped == 4990 and len(path) == 11
    assert [step.ref.key for step in path[1:]] == [4999, 4998, 4997, 4996, 4995, 4, 3, 2, 1, 0]
    assert [step.where for step in path[1:]] == [None] + ["next"] * 4 + [None] + ["next"] * 4
    assert "... 4990 more ..." in repr(path)
    whole = heap.why_alive(tail, longest=5000)
    assert whole.skipped == 0 and len(whole) == 5001 and len(repr(whole)) < 1000
    assert head.key == 4999


def test_shadow_stacks_are_roots_with_a_name(heap):
    with MutatorThread(heap, "native one") as thread:
        node = node_shape(heap)
        ref = thread.call(lambda m: m.new(node, key=3))
        thread.call(lambda m: _testing.push_root(m.native(), ref))
        root = heap.why_alive(ref)[0]
        assert (root.kind, root.mutator, root.position) == ("shadow stack", "native one", 0)
        assert str(root) == "word 0 of the shadow stack of 'native one'"
        assert heap.referrers(ref) == [(root, None)]
        thread.call(lambda m: _testing.pop_root(m.native()))
        assert heap.why_alive(ref) is None


def test_a_field_named_shape_does_not_break_a_path(heap, mutator):
    odd = heap.shape("Odd", refs=("shape",))
    holder = mutator.new(odd, shape=mutator.new(odd))
    target = holder.shape
    assert repr(heap.why_alive(target)) == "<gcheap.Path: a Ref -> Odd -> .shape Odd>"


# ---- walk --------------------------------------------------------------------------------

def test_a_walk_gives_everything_once_in_order(heap, mutator, node):
    nodes = interleaved(mutator, node, 30_000)          # more than one part
    assert [ref.key for ref in heap.walk() if ref != nodes] == list(range(30_000))


def test_a_walk_goes_on_over_collections_and_changes(heap, mutator, node):
    nodes = interleaved(mutator, node, 30_000)
    keys = []
    for seen, ref in enumerate(heap.walk()):
        if seen % 9000 == 8999:
            heap.collect()                              # everything moves
            for _ in range(3000):
                mutator.new(node, key=1 << 40)          # garbage
        if ref != nodes:
            keys.append(ref.key)
    assert keys == list(range(30_000))


def test_a_walk_ends_although_its_body_allocates(heap, mutator, node):
    kept = [mutator.new(node, key=i) for i in range(100)]
    for ref in heap.walk():
        kept.append(mutator.new(node, key=ref.key + 1000))
    old = [ref.key for ref in kept[:100]]
    assert old == list(range(100)) and len(kept) == 200


def test_a_walk_holds_only_a_part(heap, mutator, node):
    nodes = interleaved(mutator, node, 30_000)
    before = heap.stats().handles
    walk = heap.walk()
    first = next(walk)
    assert heap.stats().handles - before <= 8192 + 2
    walk.close()
    del walk
    assert heap.stats().handles - before == 1
    assert check_interleaved(nodes) == 30_000 and first is not None


def test_what_dies_during_a_walk_is_left_out(heap, mutator, node):
    nodes = interleaved(mutator, node, 30_000)
    walk = heap.walk()
    next(walk)
    del nodes
    gc.collect()
    assert sum(1 for _ in walk) < 30_000
    del walk
    heap.collect()
    assert len(heap.census()) == 0


# ---- what is not accepted ----------------------------------------------------------------

def test_what_is_no_ref_is_refused(heap, mutator, node, any_heap):
    with any_heap.attach() as other:
        foreign = other.new(node_shape(any_heap))
        for ask in (heap.referrers, heap.retained, heap.why_alive):
            with pytest.raises(TypeError, match="expected a Ref, got None"):
                ask(None)
            with pytest.raises(gcheap.ForeignRef, match="another heap"):
                ask(foreign)
    with pytest.raises(ValueError, match="longest=1: expected"):
        heap.why_alive(mutator.new(node), longest=1)


def test_a_closed_heap_answers_nothing(combination, tmp_path):
    heap = gcheap.Heap("4MiB", **combination)
    node = node_shape(heap)
    with heap.attach() as m:
        ref = m.new(node)
        walk = heap.walk()
    heap.close()
    for ask in (heap.census, heap.walk, lambda: heap.referrers(ref), lambda: heap.retained(ref),
                lambda: heap.why_alive(ref), lambda: next(walk),
                lambda: heap.snapshot(tmp_path / "x")):
        with pytest.raises(gcheap.HeapClosed):
            ask()
    assert os.listdir(tmp_path) == []


def test_a_running_native_mutator_is_told_not_to(heap):
    with heap.attach() as m, pytest.raises(RuntimeError, match="gc_leave before"):
        _testing.while_running(m.native(), heap.census)


def test_a_walk_may_be_dropped_after_its_heap(combination):
    run_cleanly(f"""
        import gcheap
        heap = gcheap.Heap("4MiB", **{combination!r})
        node = heap.shape("Node", refs=("next",))
        with heap.attach() as m:
            keep = [m.new(node) for _ in range(10)]
            walk = heap.walk()
            first = next(walk)
        heap.close()
        del heap, keep
        del walk, first
    """)
