"""What the child processes of these tests import: a workload that checks every read of its own."""
from __future__ import annotations

import ctypes
import json
import os
import sys

from support import check_interleaved, interleaved, node_shape, stress_until

import gcheap

libc = ctypes.CDLL(None, use_errno=True)
PAGE = os.sysconf("SC_PAGESIZE")

options: dict = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}    # of Heap
seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1


def workload(name: str = "churn", progress=None, **more) -> dict:
    """Runs a workload for a moment; returns its document, of a run in which nothing was lost.
    Where that moment was too short for a cycle, it runs again."""
    settings = {"seconds": 0.4, "warm_up": 0.05, "live": "4MiB", "mutators": 2,
                "seed": seed} | options | more
    return stress_until(lambda documents: documents and documents[-1]["ops"] > 0
                        and documents[-1]["cycles"] > 0, 20, progress=progress, workload=name,
                        **settings)[-1]


def graph(heap, m, count: int = 3000):
    """(nodes, check): a linked graph with garbage between its nodes, and what reads all of it."""
    nodes = interleaved(m, node_shape(heap), count)

    def check() -> None:
        assert check_interleaved(nodes) == count
    return nodes, check


def collected(heap, m, rounds: int = 2, count: int = 3000) -> None:
    """A graph survives some collections that slide it."""
    nodes, check = graph(heap, m, count)
    for _ in range(rounds):
        before = heap.stats().relocations
        m.new_bytes(bytes(5000))
        heap.collect()
        assert heap.stats().relocations > before
        check()


def refused(make, *words: str) -> Exception | None:
    """What `make()` raised: one of gcheap's errors or MemoryError, whose text has one of `words`.
    None: it worked, and was closed."""
    try:
        made = make()
    except (gcheap.GcheapError, MemoryError) as e:
        assert any(word in str(e) for word in words), repr(e)
        return e
    made.close()
    return None
