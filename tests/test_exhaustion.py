"""A full heap: stalls while a cycle can still help, HeapExhausted when none could."""
from __future__ import annotations

import threading

import pytest
from support import PATIENCE, MutatorThread, check_interleaved, interleaved, node_shape, wait_until

import gcheap
from gcheap import failpoints

pytestmark = pytest.mark.sigbus_only("who serves faults makes no room")

MIB = 1 << 20


def fill(m, make) -> list:
    """Keeps what `make(m, i)` returns until the heap is exhausted."""
    kept: list = []
    with pytest.raises(gcheap.HeapExhausted):
        while True:
            kept.append(make(m, len(kept)))
    return kept


def test_exhaustion_is_a_memory_error_that_says_what_to_do(make_heap):
    heap = make_heap("2MiB")
    with heap.attach() as m:
        kept: list = []
        with pytest.raises(MemoryError) as caught:
            while True:
                kept.append(m.new_bytes(bytes(10_000)))
    assert isinstance(caught.value, gcheap.HeapExhausted)
    assert isinstance(caught.value, gcheap.GcheapError)
    message = str(caught.value)
    assert "2 MiB" in message or "2MiB" in message or str(2 * MIB) in message, message
    assert "10016" in message or "10,016" in message or "KiB" in message, message
    assert "capacity" in message, message


SIZES = {
    "small nodes": (lambda m, i: m.new(m_shape[0], key=i), 48),
    "one KiB arrays": (lambda m, i: m.new_bytes(bytes(1008)), 1024),
    "one page arrays": (lambda m, i: m.new_bytes(bytes(4096)), 4112),
    "one unit arrays": (lambda m, i: m.new_bytes(bytes(65536 - 16)), 65536),
    "more than a unit": (lambda m, i: m.new_bytes(bytes(70_000)), 70_016),
    "half MiB arrays": (lambda m, i: m.new_slots(65536), 524_304),
}
m_shape: list = []


@pytest.mark.parametrize(("make", "nbytes"), SIZES.values(), ids=SIZES)
def test_exhausted_only_with_live_objects_near_capacity(make_heap, make, nbytes):
    heap = make_heap("16MiB")
    m_shape[:] = [node_shape(heap)]
    with heap.attach() as m:
        kept = fill(m, make)
        live = len(kept) * nbytes
        assert 0.85 * heap.capacity <= live <= heap.capacity
        assert heap.stats().used_bytes <= heap.capacity
        kept.clear()
        heap.collect()
        assert heap.stats().live_bytes == 0


def test_garbage_never_exhausts_a_heap(make_heap):
    heap = make_heap("2MiB")
    node = node_shape(heap)
    with heap.attach() as m:
        held = interleaved(m, node, 3000)
        for _ in range(60):
            for size in (100, 5000, 70_000, 300_000):
                m.new_bytes(bytes(size))
            m.new_slots(300)
        stats = heap.stats()
        assert stats.allocated_bytes > 10 * heap.capacity
        assert stats.cycles > 5
        assert check_interleaved(held) == 3000


def test_fragmentation_never_exhausts_a_heap(make_heap):
    """Seven of eight objects die: the space between survivors is all usable for large ones."""
    heap = make_heap("8MiB")
    with heap.attach() as m:
        kept = fill(m, lambda m, i: m.new_bytes(i.to_bytes(4, "little") * 125))
        survivors = list(enumerate(kept))[::8]
        kept.clear()
        large = [m.new_slots(MIB // 8 - 2) for _ in range(6)]       # 6 MiB of 7 that were freed
        for i, blob in survivors:
            assert bytes(blob) == i.to_bytes(4, "little") * 125
        assert all(len(slots) == MIB // 8 - 2 for slots in large)


def test_the_heap_is_usable_after_exhaustion(make_heap):
    heap = make_heap("4MiB")
    node = node_shape(heap)
    with heap.attach() as m:
        for _ in range(3):
            kept = fill(m, lambda m, i: m.new_bytes(i.to_bytes(4, "little") * 250))
            for i, blob in enumerate(kept):
                assert bytes(blob) == i.to_bytes(4, "little") * 250
            with pytest.raises(gcheap.HeapExhausted):               # still full
                for _ in range(1000):
                    kept.append(m.new_bytes(bytes(1000)))
            del kept, blob
            nodes = interleaved(m, node, 5000)
            heap.collect()
            assert check_interleaved(nodes) == 5000
            del nodes


def test_a_failed_allocation_leaves_other_threads_working(make_heap):
    heap = make_heap("4MiB")
    node = node_shape(heap)
    with heap.attach() as m, MutatorThread(heap) as other:
        nodes = other.call(interleaved, node, 3000)
        kept = fill(m, lambda m, i: m.new_bytes(bytes(2000)))
        assert other.call(lambda m: check_interleaved(nodes)) == 3000
        with pytest.raises(gcheap.HeapExhausted):
            other.call(lambda m: [m.new_slots(500) for _ in range(200)])
        kept.clear()
        assert len(other.call(lambda m: m.new_slots(30_000))) == 30_000


@pytest.mark.parametrize("request_", [
    lambda m: m.new_slots(1 << 20), lambda m: m.new_array("u1", 8 * MIB),
    lambda m: m.new_array("f8", 1 << 40), lambda m: m.new_slots(1 << 60),
    lambda m: m.new_array("c16", (1 << 63) - 1), lambda m: m.new_array("V1000", 1 << 58)],
    ids=["8MiB of slots", "8MiB", "8TiB", "2^63 bytes", "2^67 bytes", "2^68 bytes"])
def test_a_request_beyond_the_capacity_fails_at_once(make_heap, request_):
    heap = make_heap("4MiB")
    with heap.attach() as m:
        for _ in range(2):
            with pytest.raises((gcheap.HeapExhausted, OverflowError)):
                request_(m)
        assert len(m.new_slots(1000)) == 1000
        assert heap.stats().used_bytes <= 2 * MIB


def test_a_large_object_of_nearly_the_whole_capacity(make_heap):
    heap = make_heap("4MiB")
    with heap.attach() as m:
        for _ in range(5):                                  # each needs the one before to go
            large = m.new_array("u1", 3 * MIB)
            large[3 * MIB - 1] = 7
            assert large[3 * MIB - 1] == 7
            del large


def test_allocation_stalls_while_the_compactor_is_held(make_concurrent_heap):
    """A full heap with a cycle under way: the mutator waits for it, and the wait is counted."""
    heap = make_concurrent_heap("4MiB")
    done = threading.Event()
    made = 0

    def churn(m):
        nonlocal made
        for _ in range(4 * 64):                             # four times the capacity
            m.new_bytes(bytes(65_000))
            made += 1
        done.set()

    with MutatorThread(heap) as t, failpoints.pause("plan.done", times=1) as point:
        heap.collect(wait=False)
        point.wait()
        work = t.start(churn)
        still = threading.Event()
        seen = -1
        while seen != made or made == 0:                    # until it gets no further
            seen = made
            still.wait(0.2)
        assert not done.is_set() and made * 65_016 <= heap.capacity
        point.release()
        work.result(PATIENCE)
    stats = heap.stats()
    assert made == 4 * 64
    assert stats.stalls >= 1
    assert stats.stall_ns >= stats.stall_max_ns > 0


def test_a_cycle_starts_by_itself(make_heap):
    heap = make_heap("4MiB")
    with heap.attach() as m:
        while heap.stats().cycles == 0:
            assert heap.stats().allocated_bytes < 16 * MIB
            m.new_bytes(bytes(1000))
    wait_until(lambda: heap.stats().cycles >= 1, "a cycle")


def test_counters_of_allocation(make_heap):
    heap = make_heap("8MiB")
    node = node_shape(heap)                                 # 8 + 2 * 8 + 24 bytes
    with heap.attach() as m:
        kept = [m.new(node) for _ in range(1000)]
        kept += [m.new_bytes(bytes(i)) for i in range(100)]
        slots = m.new_slots(10)
    expected = 1000 * 48 + sum(16 + (i + 7) // 8 * 8 for i in range(100)) + 96
    stats = heap.stats()
    assert stats.allocated_bytes == expected
    assert expected <= stats.used_bytes <= expected + heap.unit_pages * heap.page_size * 4
    heap.collect()
    assert heap.stats().live_bytes == expected
    assert heap.stats().handles == len(kept) + len([slots])


def test_objects_made_while_a_cycle_runs_count_as_used(make_concurrent_heap):
    heap = make_concurrent_heap("16MiB")
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 3000)
        with failpoints.pause("plan.done", times=1) as point:
            heap.collect(wait=False)
            point.wait()
            arrays = [m.new_bytes(bytes(5000)) for _ in range(200)]     # a million bytes
        wait_until(lambda: heap.stats().cycles == 1, "the end of the cycle")
        stats = heap.stats()
        assert stats.used_bytes >= stats.live_bytes + 200 * 5016
        heap.collect()
        assert heap.stats().live_bytes >= 200 * 5016 + 3000 * 48
        assert len(arrays) == 200 and check_interleaved(nodes) == 3000


def test_memory_goes_back_to_the_kernel(make_heap):
    heap = make_heap("32MiB")
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 3000)
        blob = bytes(range(256)) * 40
        for _ in range(3):
            garbage = [m.new_bytes(blob) for _ in range(1500)]          # 15 MB
            full = heap.resident_bytes()
            del garbage
            heap.collect()
            assert full > 15_000_000
            assert heap.resident_bytes() < full - 10_000_000
        assert check_interleaved(nodes) == 3000
