"""Heap snapshots: whole, as viewers rely on them, and without a trace when they fail."""
from __future__ import annotations

import gc
import json
import os

import numpy as np
import pytest
from support import counts, interleaved, node_shape


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
