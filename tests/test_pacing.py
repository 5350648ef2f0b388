"""Used memory follows live memory: limits, goals, idle heaps, memory that goes back."""
from __future__ import annotations

import threading

import pytest
from support import run_cleanly, wait_until

from gcheap import failpoints
from gcheap.policy import Factor
from gcheap.stress import StressConfig, run_stress

MIB = 1 << 20
BLOB = b"x" * 65_000            # with its header and rounding: 65,016 bytes


def churn(m, nbytes: int) -> None:
    """Allocates so many bytes and drops them."""
    for _ in range(nbytes // 65_016):
        m.new_bytes(BLOB)


def keep(m, nbytes: int):
    """A slot array that holds so many bytes."""
    count = nbytes // 65_016
    kept = m.new_slots(count)
    for i in range(count):
        kept[i] = m.new_bytes(BLOB)
    return kept


def test_fixed_uses_the_capacity(make_heap):
    heap = make_heap("32MiB", policy="fixed")
    with heap.attach() as m:
        churn(m, 28 * MIB)
        assert heap.stats().cycles == 0
        assert heap.stats().limit_bytes == heap.stats().limit_peak_bytes == heap.capacity
        churn(m, 64 * MIB)
        assert heap.stats().cycles >= 1
        assert heap.stats().limit_bytes == heap.capacity


def test_a_soft_limit_starts_cycles_and_stalls_nobody(make_heap):
    heap = make_heap("256MiB", policy="factor:2,minimum=4MiB")
    with heap.attach() as m:
        assert heap.stats().limit_bytes == 4 * MIB
        assert heap.stats().goal_bytes < 4 * MIB
        churn(m, 64 * MIB)
        stats = heap.stats()
        assert stats.cycles >= 1
        assert stats.stalls == 0
        assert stats.limit_bytes <= 64 * MIB


def test_who_passes_the_limit_during_a_cycle_goes_on(make_concurrent_heap):
    heap = make_concurrent_heap("128MiB", policy="factor:2,minimum=4MiB")
    with heap.attach() as m, failpoints.pause("mark.concurrent", times=1) as point:
        churn(m, 5 * MIB)
        point.wait()                        # the cycle that the goal asked for stands
        churn(m, 30 * MIB)                  # and may not stop us
        stats = heap.stats()
        assert stats.cycles == 0 and stats.stalls == 0
        assert stats.used_bytes > 7 * stats.limit_bytes
        point.release()
        wait_until(lambda: heap.stats().cycles == 1, "the end of the cycle")
        heap.collect()
        assert heap.stats().used_bytes == 0


def test_the_limit_follows_live_data_up_at_once_and_down_slowly(make_heap):
    heap = make_heap("256MiB", policy=Factor("4MiB", 2.0))
    with heap.attach() as m:
        kept = keep(m, 40 * MIB)
        heap.collect()
        top = heap.stats().limit_bytes
        live = heap.stats().live_bytes
        assert top == 2 * live > 79 * MIB
        del kept
        churn(m, 2 * top)                   # by themselves, cycles lower it
        limits = heap.cycles()["limit_bytes"].tolist()[-heap.stats().cycles:]
        falls = [(a, b) for a, b in zip(limits, limits[1:], strict=False) if b < a]
        falls = [pair for pair in falls if pair[0] <= top]
        assert falls and all(b >= a - (a - 4 * MIB) / 4 - 4 for a, b in falls)
        heap.collect()
        assert heap.stats().limit_bytes == 4 * MIB      # what collect() finds, at once
        assert heap.stats().limit_peak_bytes >= top


def test_a_sawtooth(make_heap):
    """Grow to 200 MiB, drop to 10 MiB, idle: limit, used and resident memory follow."""
    heap = make_heap("512MiB", policy="factor:2,minimum=8MiB", idle_ms=50)
    with heap.attach() as m:
        base = keep(m, 10 * MIB)
        tooth = keep(m, 190 * MIB)
        full = heap.resident_bytes()
        grown = heap.stats()
        assert grown.used_bytes >= 200 * MIB - 2 * 65_016
        assert full >= 190 * MIB
        del tooth
        churn(m, MIB)                       # else nothing was allocated since the last cycle
        wait_until(lambda: heap.stats().live_bytes <= 11 * MIB, "a cycle of the idle heap")
        wait_until(lambda: heap.stats().limit_bytes <= 22 * MIB, "the limit of the idle heap")
        threading.Event().wait(0.5)         # longer than idle_ms: an idle heap's only cycle
        cycles = heap.stats().cycles
        threading.Event().wait(0.3)
        assert heap.stats().cycles == cycles            # once, not again and again
        assert heap.stats().used_bytes <= 12 * MIB
        assert heap.resident_bytes() <= full - 170 * MIB
        assert all(len(blob) == 65_000 for blob in base)


def test_an_idle_heap_is_left_alone_by_default(make_heap):
    heap = make_heap("32MiB")
    with heap.attach() as m:
        churn(m, MIB)
        threading.Event().wait(0.3)
        assert heap.stats().cycles == 0


def test_a_larger_factor_makes_fewer_cycles(make_heap):
    counts = {}
    for factor in (2.0, 4.0):
        heap = make_heap("256MiB", policy=Factor("1MiB", factor))
        with heap.attach() as m:
            kept = keep(m, 16 * MIB)
            heap.collect()
            before = heap.stats().cycles
            for _ in range(128 * MIB // (16 * 65_016)):
                churn(m, 16 * 65_016)
                wait_until(lambda: heap.stats().goal_bytes > heap.stats().used_bytes,  # noqa: B023
                           "the end of the cycle")
            counts[factor] = heap.stats().cycles - before
            assert len(kept) and heap.stats().stalls == 0
    assert counts[2.0] > counts[4.0] > 0


def test_membalancer_gives_a_busy_heap_more_room_than_a_calm_one(make_heap):
    heap = make_heap("512MiB", policy="membalancer:1e-9,minimum=1MiB")
    with heap.attach() as m:
        kept = keep(m, 16 * MIB)
        for _ in range(4):
            churn(m, 40 * MIB)
        heap.collect()
        busy = heap.stats()
        assert busy.limit_bytes > busy.live_bytes
        threading.Event().wait(1.5)         # nothing is allocated
        heap.collect()
        calm = heap.stats()
        assert len(kept)
        assert calm.live_bytes == busy.live_bytes
        assert calm.live_bytes < calm.limit_bytes < busy.limit_bytes


@pytest.mark.parametrize("policy", ["fixed", "factor:2,minimum=2MiB", "membalancer"])
def test_stress_says_how_the_limit_went(policy):
    document = run_stress(StressConfig(seconds=0.5, live="4MiB", capacity="64MiB", warm_up=0.1,
                                       noise_seconds=0, policy=policy))
    limit = document["limit"]
    assert document["verified"]
    assert limit["policy"] == document["config"]["policy"]
    assert limit["least_bytes"] <= limit["last_bytes"] <= limit["peak_bytes"] <= 64 * MIB
    if policy == "fixed":
        assert limit["least_bytes"] == 64 * MIB
    elif policy.startswith("factor"):
        assert limit["least_bytes"] == 2 * MIB and limit["peak_bytes"] <= 12 * MIB


def test_stress_has_the_whole_capacity_unless_told(monkeypatch):
    monkeypatch.delenv("GCHEAP_POLICY", raising=False)
    assert StressConfig().policy == "fixed"
    monkeypatch.setenv("GCHEAP_POLICY", "factor:3")
    assert StressConfig().policy == "factor:3.0,minimum=16MiB"
    assert StressConfig(policy="membalancer").policy.startswith("membalancer:")


# ---- memory goes back ----------------------------------------------------------------------

FILL_AND_DROP = """
import sys
import gcheap

def rss():
    with open("/proc/self/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("Rss:")) << 10

capacity, backend, policy = int(sys.argv[1]) << 20, sys.argv[2], sys.argv[3]
heap = gcheap.Heap(capacity, backend=backend, policy=policy)
m = heap.attach()
node = heap.shape("Node", refs=("a", "b"), raw=[("key", "u8")])
heap.collect()
before = rss()
count = capacity * 6 // 10 // 8016
kept = m.new_slots(count)
for i in range(count):
    kept[i] = m.new_bytes(b"x" * 8000)    # a page of zeros that is copied becomes a hole
    if i % 4 == 0:
        m.new_bytes(bytes(8000))                # a hole: the rest has to slide
nodes = m.new_slots(20_000)
for i in range(20_000):
    nodes[i] = m.new(node, a=kept, b=nodes[i - 1])
heap.collect(wait=False)
for i in range(200_000):                        # the barrier's log grows while it marks
    nodes[i % 20_000] = nodes[i * 7 % 20_000]
heap.collect()
full = rss()
del kept, nodes
heap.collect()
after = rss()
heap.close()
print(before, full, after, rss())
"""


@pytest.mark.uninstrumented("its shadow is resident memory too")
@pytest.mark.parametrize(("capacity", "policy"), [
    (64, "fixed"), (64, "factor:2"),
    pytest.param(256, "membalancer", marks=pytest.mark.soak("a second each")),
    pytest.param(1024, "fixed", marks=pytest.mark.soak("a second each"))])
def test_after_dropping_all_and_one_collect_memory_is_back(combination, capacity, policy):
    out = run_cleanly(FILL_AND_DROP, arguments=(str(capacity), combination["backend"], policy))
    before, full, after, closed = map(int, out.split())
    assert full - before >= capacity * MIB // 2
    assert after - before <= 8 * MIB
    assert closed - before <= 8 * MIB


def test_tables_shrink_by_themselves_when_live_data_has(make_heap):
    """No collect(): cycles that the heap runs by itself give the tables back as well."""
    heap = make_heap("512MiB", policy="factor:2,minimum=8MiB")
    with heap.attach() as m:
        kept = keep(m, 180 * MIB)
        churn(m, 300 * MIB)
        full = heap.resident_bytes()
        del kept
        for _ in range(300):                # 4.7 GiB at most; a quarter of that does
            if heap.stats().limit_bytes < 64 * MIB:
                break
            churn(m, 16 * MIB)
        assert heap.stats().limit_bytes < 64 * MIB
        wait_until(lambda: heap.resident_bytes() < full - 100 * MIB, "memory that is back")
