"""Looking at the graph: counts, holders, paths, walks and snapshots are those of a known graph.

Every test runs beside whatever the backend does meanwhile; where it matters, a failpoint holds the
compactor, or the report itself in its pause.
"""
from __future__ import annotations

import gc
import json
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
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


def counts(census) -> dict[str, tuple[int, int]]:
    return {str(row["shape"]): (int(row["objects"]), int(row["bytes"])) for row in census}


def alone(function, *args):
    """Runs in a thread that is attached to nothing, without keeping the GIL from others."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(function, *args).result(PATIENCE)


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


# ---- beside a collector that works -------------------------------------------------------

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


# ---- snapshots ---------------------------------------------------------------------------

def load(path) -> tuple[dict, np.ndarray, np.ndarray, list[str]]:
    """Parses a snapshot and checks what viewers rely on."""
    with open(path) as f:
        data = json.load(f)
    meta = data["snapshot"]["meta"]
    fields, edge_fields = meta["node_fields"], meta["edge_fields"]
    nodes = np.array(data["nodes"], dtype=np.int64).reshape(-1, len(fields))
    edges = np.array(data["edges"], dtype=np.int64).reshape(-1, len(edge_fields))
    strings = data["strings"]
    assert fields[:5] == ["type", "name", "id", "self_size", "edge_count"]
    assert edge_fields == ["type", "name_or_index", "to_node"]
    assert data["snapshot"]["node_count"] == len(nodes)
    assert data["snapshot"]["edge_count"] == len(edges) == nodes[:, 4].sum()
    assert (edges[:, 2] % len(fields) == 0).all()
    assert edges[:, 2].min() >= 0 and edges[:, 2].max() < len(fields) * len(nodes)
    assert len(set(nodes[:, 2])) == len(nodes)                          # ids
    assert nodes[:, 1].max() < len(strings) and len(set(strings)) == len(strings)
    assert set(nodes[:, 0]) <= set(range(len(meta["node_types"][0])))
    named = edges[edges[:, 0] == meta["edge_types"][0].index("property")]
    assert len(named) == 0 or named[:, 1].max() < len(strings)
    assert meta["node_types"][0][nodes[0, 0]] == "synthetic"            # the root
    edges[:, 2] //= len(fields)
    first = np.concatenate([[0], np.cumsum(nodes[:, 4])])
    seen = np.zeros(len(nodes), dtype=bool)
    todo = [0]
    seen[0] = True
    while todo:
        n = todo.pop()
        for target in edges[first[n]:first[n + 1], 2]:
            if not seen[target]:
                seen[target] = True
                todo.append(target)
    assert seen.all()                                                   # all reachable
    return data, nodes, edges, strings


def test_a_snapshot_has_every_object_and_every_reference(heap, mutator, node, tmp_path):
    array = mutator.new_slots(3)
    array[2] = mutator.new(node, next=mutator.new(node), other=array)
    array[0] = mutator.new_bytes(b"abc")
    gc.collect()
    path = tmp_path / "small.heapsnapshot"
    heap.snapshot(path)
    data, nodes, edges, strings = load(path)
    meta = data["snapshot"]["meta"]
    first = np.concatenate([[0], np.cumsum(nodes[:, 4])])
    graph = sorted(
        (strings[nodes[n, 1]], meta["edge_types"][0][kind],
         strings[name] if meta["edge_types"][0][kind] == "property" else int(name),
         strings[nodes[to, 1]])
        for n in range(len(nodes)) for kind, name, to in edges[first[n]:first[n + 1]])
    assert graph == sorted([
        ("", "element", 1, "(GC roots)"), ("(GC roots)", "element", 1, "(Refs)"),
        ("(Refs)", "element", 0, "slots"), ("slots", "element", 0, "bytes"),
        ("slots", "element", 2, "Node"), ("Node", "property", "next", "Node"),
        ("Node", "property", "other", "slots")])
    sizes = {strings[name]: int(size) for name, size in nodes[:, [1, 3]]}
    assert sizes == {"": 0, "(GC roots)": 0, "(Refs)": 0, "slots": 40, "Node": 48, "bytes": 24}
    types = {strings[row[1]]: meta["node_types"][0][row[0]] for row in nodes}
    assert types["Node"] == types["slots"] == "object" and types["(Refs)"] == "synthetic"
    assert os.listdir(tmp_path) == ["small.heapsnapshot"]
    assert len(array) == 3


def test_a_snapshot_of_an_empty_heap_has_its_root(heap, tmp_path):
    heap.snapshot(str(tmp_path / "empty.heapsnapshot"))
    _, nodes, edges, _ = load(tmp_path / "empty.heapsnapshot")
    assert len(nodes) == 2 and len(edges) == 1


def test_a_large_snapshot_agrees_with_the_census(make_heap, tmp_path):
    heap = make_heap("64MiB")
    node = node_shape(heap)
    with heap.attach() as m:
        nodes = interleaved(m, node, 120_000)           # many pieces of text
        census = counts(heap.census())
        path = os.fsencode(tmp_path / "large.heapsnapshot")
        heap.snapshot(path)
        data, rows, edges, strings = load(path)
        sizes = rows[rows[:, 1] == strings.index("Node"), 3]
        assert (len(sizes), int(sizes.sum())) == census["Node"]
        assert int(rows[:, 3].sum()) == sum(nbytes for _, nbytes in census.values())
        element = data["snapshot"]["meta"]["edge_types"][0].index("element")
        # The array's slots in order, beside the edges of roots.
        mine = edges[(edges[:, 0] == element)][-120_000:]
        assert set(mine[:, 1]) == set(range(120_000))
        assert len(nodes) == 120_000


def test_a_snapshot_shows_no_address(heap, mutator, node, tmp_path):
    nodes = interleaved(mutator, node, 100)
    heap.snapshot(tmp_path / "x")
    data, rows, edges, _ = load(tmp_path / "x")
    assert max(data["nodes"] + data["edges"]) < 10_000
    assert sorted(rows[:, 2]) == list(range(1, 2 * len(rows), 2))
    assert len(nodes) == 100


def test_a_snapshot_that_cannot_be_written_leaves_nothing(heap, mutator, node, tmp_path):
    nodes = interleaved(mutator, node, 100)
    with pytest.raises(FileNotFoundError):
        heap.snapshot(tmp_path / "no" / "such")
    os.mkdir(tmp_path / "taken")
    os.mkdir(tmp_path / "taken" / "full")
    with pytest.raises(OSError):
        heap.snapshot(tmp_path / "taken")               # a directory: nothing to replace
    assert os.listdir(tmp_path) == ["taken"]
    (tmp_path / "old").write_text("old")
    heap.snapshot(tmp_path / "old")
    load(tmp_path / "old")
    assert len(nodes) == 100


# ---- without memory ----------------------------------------------------------------------

def test_a_report_without_memory_says_so_and_breaks_nothing(combination):
    """However little address space is left: the answer is right, or MemoryError."""
    out = run_cleanly(f"""
        import gc, resource
        import gcheap
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
