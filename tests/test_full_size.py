"""Claims about sizes, at the sizes of the claims: too long, or too large, for each change.

What they rest on is tested smaller: test_large_objects.py, test_pacing.py.  The gigabyte in huge
pages, which is a matter of time, is benchmarks/test_huge_array.py.
"""
from __future__ import annotations

import random

import pytest
from support import MutatorThread, check_interleaved, interleaved, node_shape
from test_large_objects import MIB, rss

from gcheap.workloads import _micro

pytestmark = pytest.mark.soak("gigabytes, or a hundred million objects")

ALLOCATIONS = 100_000_000
SURVIVORS = 1_000


def test_a_hundred_million_allocations_leave_nothing(make_heap):
    """Two threads, while the graph of a third changes: a census then counts what is reachable, and
    the heap has nothing but that."""
    heap = make_heap("64MiB")
    with heap.attach() as m, MutatorThread(heap) as first, MutatorThread(heap) as second:
        node = node_shape(heap)
        nodes = interleaved(m, node, SURVIVORS)
        known = {row["shape"]: (row["objects"], row["bytes"]) for row in heap.census()}
        busy = [thread.start(lambda mine: _micro.alloc_loop(
            mine.native(), node.id, ALLOCATIONS // 2)) for thread in (first, second)]
        while not all(work.done() for work in busy):
            kept = interleaved(m, node, SURVIVORS)      # takes the place of what was
            nodes, kept = kept, None
            heap.collect()
        assert all(work.result() > 0 for work in busy)
        heap.collect()
        assert heap.stats().allocated_bytes >= 16 * ALLOCATIONS
        assert {row["shape"]: (row["objects"], row["bytes"]) for row in heap.census()} == known
        assert heap.stats().live_bytes == sum(nbytes for _, nbytes in known.values())
        assert check_interleaved(nodes) == SURVIVORS
        del nodes
        heap.collect()
        assert heap.census().tolist() == [] and heap.stats().live_bytes == 0


@pytest.mark.uninstrumented("what it knows of memory is resident", only="thread")
def test_a_gigabyte_of_which_a_hundredth_was_touched(make_heap, seed):
    heap = make_heap("1536MiB", huge_pages="never")
    words, page = 128 * MIB - 2, 512
    touched = random.Random(seed).sample(range(0, words, page), words // page // 100)
    with heap.attach() as m:
        garbage, sparse = m.new_array("u1", 20 * MIB), m.new_array("u8", words)
        for i in touched:
            sparse[i] = i + 1
        del garbage
        before = rss()
        for _ in range(3):
            m.new_array("u1", 20 * MIB)
            heap.collect()
            assert rss() <= before + 8 * MIB
        assert all(sparse[i] == i + 1 for i in touched)
        assert sum(sparse[i + 1] for i in touched[:1000]) == 0
