"""Heaps and mutators for the benchmarks, and how their results state a unit.

pytest-benchmark reports the seconds of a whole round.  What one operation costs stands in
`extra_info` (shown by `--benchmark-json` and printed at the end): `ns_per_operation` from
the loop's own clock, or the round divided by its operations.
"""
import statistics

import pytest

import gcheap


@pytest.fixture
def heap():
    """A heap large enough that a round starts no cycle by itself."""
    with gcheap.Heap(capacity="512MiB", policy="fixed") as heap:
        yield heap


@pytest.fixture
def mutator(heap):
    with heap.attach("benchmark") as mutator:
        yield mutator


@pytest.fixture
def native_rounds(benchmark, heap):
    """Run a loop of gcheap.workloads._micro in rounds and record what one operation costs.

    `native_rounds(loop, *args, count=N)` calls `loop(*args, count)`, with a full cycle
    before each round, outside the measurement.
    """
    def run(loop, *args, count, rounds=10):
        elapsed = []

        def once():
            elapsed.append(loop(*args, count))

        cycles = heap.stats().cycles
        benchmark.pedantic(once, setup=lambda: heap.collect(), rounds=rounds, warmup_rounds=1)
        # One cycle a round is the one asked for; a benchmark of the bare operation must not
        # have had more.
        assert heap.stats().cycles - cycles == rounds + 1
        benchmark.extra_info["ns_per_operation"] = statistics.median(elapsed[1:]) / count
        benchmark.extra_info["operations"] = count
    return run


@pytest.fixture
def python_rounds(benchmark, heap):
    """Call `action(*args)` `count` times a round from Python, a full cycle before each round.

    The call from a Python loop is in the result; where `action` is a lambda, that costs 30 ns
    or so more.
    """
    def run(action, *args, count, rounds=10, setup=None):
        def prepare():
            heap.collect()
            if setup is not None:
                setup()

        def once():
            for _ in range(count):
                action(*args)

        benchmark.pedantic(once, setup=prepare, rounds=rounds, warmup_rounds=1)
        benchmark.extra_info["ns_per_operation"] = 1e9 * benchmark.stats["median"] / count
        benchmark.extra_info["operations"] = count
    return run


def pytest_terminal_summary(terminalreporter, config):
    """Print the cost of one operation, in nanoseconds, under pytest-benchmark's table."""
    session = getattr(config, "_benchmarksession", None)
    rows = [(bench.name, bench.extra_info["ns_per_operation"])
            for bench in (session.benchmarks if session else ())
            if "ns_per_operation" in bench.extra_info]
    if not rows:
        return
    terminalreporter.section("ns per operation (median of the rounds)")
    for name, cost in rows:
        terminalreporter.write_line(f"{name:<48} {cost:12,.1f} ns  {1e3 / cost:10,.1f} M/s")
