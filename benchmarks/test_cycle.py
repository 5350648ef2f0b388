"""One whole cycle, asked for by `heap.collect()`: seconds per cycle."""
import pytest

MIB = 1 << 20
NODES = 200_000


@pytest.fixture(params=["move", "copy", "stw"])
def half_dead(request):
    """A heap in which every second node of 48 bytes is dead: 9 MiB live of 18."""
    import gcheap
    try:
        heap = gcheap.Heap(capacity=64 * MIB, backend=request.param, policy="fixed")
    except gcheap.GcheapError as error:
        pytest.skip(f"backend {request.param}: {error}")
    with heap, heap.attach("benchmark") as mutator:
        node = heap.shape("Node", refs=("next",), raw=[("key", "u8"), ("filler", "V24")])
        yield heap, mutator, node


def test_cycle(benchmark, half_dead):
    """A cycle over 200,000 live nodes of 48 bytes, each beside a dead one: mark, plan, flip,
    relocation and release of the source.  No mutator runs.  Seconds per cycle."""
    heap, mutator, node = half_dead

    def prepare():
        keep = None
        for _ in range(NODES):
            mutator.new(node)
            keep = mutator.new(node, next=keep)
        kept.append(keep)
        del kept[:-1]

    kept = []
    benchmark.pedantic(heap.collect, setup=prepare, rounds=10, warmup_rounds=1)
    assert heap.stats().live_bytes >= 48 * NODES
    benchmark.extra_info["live_bytes"] = heap.stats().live_bytes
