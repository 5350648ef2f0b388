"""Forwarding and assembly in nogil loops, on a from-space of which every second object is live."""
import pytest

slide = pytest.importorskip("gcheap.workloads._micro_slide")

OBJECTS = {"small": 20_000, "large": 1_000_000}     # 0.6 MiB and 31 MiB live: in cache, and not


def run(benchmark, loop, count, operations, rounds=10):
    """Calls `loop(count)` in rounds and records what one of `operations` costs."""
    elapsed = []
    benchmark.pedantic(lambda: elapsed.append(loop(count)), rounds=rounds, warmup_rounds=1)
    cost = sorted(elapsed[1:])[rounds // 2] / operations
    benchmark.extra_info["ns_per_operation"] = cost
    benchmark.extra_info["operations"] = operations


@pytest.mark.parametrize("size", OBJECTS)
def test_forward(benchmark, size):
    """A reference to a random live object forwarded: a block, and bits counted.  ns each, the draw
    of a random number included (about 2 ns)."""
    space = slide.MadeUpSpace(OBJECTS[size], 4, 2)
    run(benchmark, space.forward_loop, 1_000_000, 1_000_000)


@pytest.mark.parametrize("slots", [0, 2])
@pytest.mark.parametrize("size", OBJECTS)
def test_assemble(benchmark, size, slots):
    """Objects of 32 bytes copied and their slots forwarded, unit by unit.  ns an object."""
    space = slide.MadeUpSpace(OBJECTS[size], 4, slots)
    times = max(1, 100_000 // OBJECTS[size])
    run(benchmark, space.assemble_loop, times, times * OBJECTS[size])


def test_assemble_large_objects(benchmark):
    """Objects of 1 KiB without slots copied.  ns a KiB."""
    space = slide.MadeUpSpace(30_000, 128, 0)
    run(benchmark, space.assemble_loop, 1, 30_000)
