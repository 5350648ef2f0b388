"""Stress modes: cycles at every n-th allocation, relocation always, slow placements, tiny heaps."""
from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import rule, run_state_machine_as_test
from support import (
    MutatorThread,
    check_interleaved,
    interleaved,
    node_shape,
    stress_until,
    wait_until,
)
from test_graph_machine import GraphMachine

import gcheap
from gcheap import failpoints
from gcheap.options import least_capacity

MODES = {
    "collect-every-1": {"collect_every": 1},
    "collect-every-7": {"collect_every": 7},
    "relocate-always": {"relocate": "always"},
    "slow-placements": {"delay_placements_us": 300},
    "all": {"collect_every": 3, "relocate": "always", "delay_placements_us": 50},
}


class Driver(GraphMachine):
    """Graphs in a heap of any size: what does not fit any more makes room by dropping roots."""

    def on(self, thread, function):
        try:
            return super().on(thread, function)
        except gcheap.HeapExhausted:
            self.release()
            self.roots.clear()
            self.heap.collect()
            return super().on(thread, function)

    @rule()
    def hold_the_collector(self):
        """Not here: an allocation that waits for a flip would wait for good."""


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("capacity", ["8MiB", pytest.param(
    "min", marks=pytest.mark.sigbus_only("room is a matter of allocation"))])
def test_random_graphs_under_each_mode(combination, mode, capacity):
    machine = type("Machine", (Driver,), {
        "options": combination | mode | {"verify": 3}, "capacity": capacity})
    run_state_machine_as_test(machine, settings=settings(max_examples=8, stateful_step_count=40))


# ---- collect_every -----------------------------------------------------------------------

@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("nbytes", [10, 100_000])
def test_every_nth_allocation_asks_for_a_cycle(make_heap, n, nbytes):
    heap = make_heap(collect_every=n)
    with heap.attach() as m:
        for i in range(1, 13):
            m.new_bytes(bytes(nbytes))
            wait_until(lambda i=i: heap.stats().cycles == i // n, "the cycle asked for")
        heap.collect()
        assert heap.stats().cycles == 12 // n + 1


def test_with_1_each_allocation_has_waited_for_a_flip_of_its_own(make_heap):
    heap = make_heap(collect_every=1)
    with heap.attach() as m:
        table = m.new_slots(30)
        heap.collect()                              # the cycle of that allocation has ended
        for i in range(30):
            before = heap.stats().cycles
            table[i] = m.new_bytes(b"%d" % i)
            heap.collect()
            # The one that it waited for has ended by now, and the collection after it.
            assert heap.stats().cycles == before + 2
        assert [bytes(x) for x in table] == [b"%d" % i for i in range(30)]


def test_pinned_arrays_count_as_well(make_heap):
    heap = make_heap(collect_every=1)
    with heap.attach() as m:
        before = heap.stats().cycles
        kept = [m.new_array("u1", 100, pinned=True) for _ in range(5)]
        heap.collect()
        assert heap.stats().cycles >= before + 6 and len(kept) == 5


def test_cycles_are_asked_for_by_each_mutator(make_heap):
    """Two mutators wait for flips at the same time; each of them sees its objects whole."""
    heap = make_heap(collect_every=1)
    node = node_shape(heap)
    with MutatorThread(heap) as a, MutatorThread(heap) as b:
        jobs = [thread.start(interleaved, node, 60) for thread in (a, b)]
        for thread, job in zip((a, b), jobs, strict=True):
            nodes = job.result(60)
            assert thread.call(lambda m, nodes=nodes: check_interleaved(nodes)) == 60
            del nodes
        jobs.clear()


def test_off_means_no_cycle(make_heap):
    heap = make_heap(collect_every=0)
    with heap.attach() as m:
        for _ in range(1000):
            m.new_bytes(b"x")
        assert heap.stats().cycles == 0


def test_an_allocation_waits_for_the_flip_and_no_longer(make_concurrent_heap):
    """The collector is held before the flip, then right after it; the mutator goes on."""
    heap = make_concurrent_heap(collect_every=1)
    with MutatorThread(heap) as thread, failpoints.pause("flip.after") as flipped:
        with failpoints.pause("flip.before") as held:
            job = thread.start(lambda m: bytes(m.new_bytes(b"x")))
            held.wait()
            assert not job.done()
            held.release()
            flipped.wait()
        assert job.result(60) == b"x"           # while nothing has been relocated yet


# ---- the others --------------------------------------------------------------------------

def test_relocate_always_moves_where_nothing_is_won(make_concurrent_heap):
    moved = {}
    for relocate in ("worth", "always"):
        heap = make_concurrent_heap("1MiB", relocate=relocate)
        with heap.attach() as m:
            keep = [m.new_bytes(bytes(1000)) for _ in range(300)]
            heap.collect()
            before = heap.stats()
            # Allocation passes the goal: cycles that nobody asked for, with nothing to win.
            more = []
            while heap.stats().cycles == before.cycles:
                try:
                    more.append(m.new_bytes(bytes(1000)))
                except gcheap.HeapExhausted:
                    break
            moved[relocate] = heap.stats().relocations - before.relocations
            del keep, more
    assert moved["always"] >= 1, moved


def test_slow_placements_make_mutators_fault(make_concurrent_heap):
    heap = make_concurrent_heap(delay_placements_us=2000, batch_units=1)
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 20_000)
        with failpoints.pause("flip.after") as held:
            heap.collect(wait=False)
            held.wait()
            held.release()
        assert check_interleaved(nodes) == 20_000
        heap.collect()
        assert check_interleaved(nodes) == 20_000
        assert heap.stats().faults > 0


@pytest.mark.parametrize("unit_pages", [1, 16, 64])
def test_the_smallest_heap_fills_collects_and_fills_again(make_heap, unit_pages):
    heap = make_heap("min", unit_pages=unit_pages, verify=4)
    assert heap.capacity == least_capacity(unit_pages)
    with pytest.raises(gcheap.OptionError, match="capacity"):
        make_heap(heap.capacity - 1, unit_pages=unit_pages)
    with heap.attach() as m:
        for _ in range(3):
            kept = []
            with pytest.raises(gcheap.HeapExhausted):
                while True:
                    kept.append(m.new_bytes(bytes(1000)))
            assert len(kept) * 1016 > heap.capacity // 4
            assert all(bytes(a) == bytes(1000) for a in kept)
            kept.clear()


@pytest.mark.parametrize("workload", ["churn", "trees", "array-holes"])
def test_workloads_under_stress(combination, workload, seed):
    runs = stress_until(
        lambda runs: any(run["cycles"] for run in runs), seed=seed, workload=workload, seconds=0.7,
        live="512KiB", mutators=2, capacity="2MiB", relocate="always", collect_every=100,
        delay_placements_us=20, verify=2, warm_up=0, **combination)
    assert {run["config"]["collect_every"] for run in runs} == {100}
