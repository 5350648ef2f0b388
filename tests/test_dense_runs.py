"""Chunks that are nearly all live move whole, with the garbage that is in them.

`heap.collect()` leaves no waste; a cycle that allocation starts may.  So these tests let
allocation start theirs.
"""
from __future__ import annotations

import errno

import numpy as np
import pytest
from support import MutatorThread, run_cleanly

import gcheap
from gcheap import failpoints

MIB = 1 << 20
SLOTS = 100
SIZE = 16 + 8 * SLOTS           # bytes of one object; no multiple of it is a unit

PRELUDE = """
import sys, gcheap
backend, unit_pages = sys.argv[1], int(sys.argv[2])
"""


def cycle_by_allocation(heap, m) -> np.void:
    """Allocates garbage until a cycle that nobody asked for has ended; returns its record."""
    before = heap.stats().cycles
    while heap.stats().cycles == before:
        m.new_array("u1", 8000)
    return heap.cycles()[before]


def row(m, count: int = 4 * MIB // SIZE, size: int = SLOTS):
    """`count` slot arrays, side by side once they are compacted; each knows its number."""
    objects = []
    for i in range(count):
        slots = m.new_slots(size)
        slots[0] = gcheap.Tagged(8 * i + 1)
        slots[size - 1] = objects[-1] if objects else None
        objects.append(slots)
    return objects


def thin_out(objects, every: int) -> None:
    """Drops one in `every`, and the references to it."""
    for i in range(every - 1, len(objects) - 1, every):
        objects[i + 1][SLOTS - 1] = None
        objects[i] = None


def check(objects) -> int:
    alive = 0
    for i, slots in enumerate(objects):
        if slots is not None:
            assert slots[0] == gcheap.Tagged(8 * i + 1)
            before = objects[i - 1] if i else None
            assert slots[SLOTS - 1] == before
            alive += 1
    return alive


@pytest.mark.parametrize("unit_pages", [16, 64])
def test_nearly_live_chunks_move_whole_and_keep_little_garbage(make_heap, unit_pages):
    heap = make_heap("64MiB", unit_pages=unit_pages, verify=3)     # room: no stall, so not full
    with heap.attach() as m:
        objects = row(m)
        heap.collect()
        assert heap.stats().wasted_bytes == 0
        thin_out(objects, 40)                           # 2.5 % die
        record = cycle_by_allocation(heap, m)
        assert record["relocated"] and record["dense_bytes"] > record["live_bytes"] // 2
        assert 0 < record["wasted_bytes"] <= record["live_bytes"] // 16
        assert heap.stats().wasted_bytes == record["wasted_bytes"]
        assert check(objects) == len(objects) - (len(objects) - 1) // 40
        heap.collect()
        assert heap.stats().wasted_bytes == 0 and heap.cycles()[-1]["wasted_bytes"] == 0
        check(objects)


def test_a_full_slide_moves_the_unchanged_beginning_whole(make_heap):
    heap = make_heap("64MiB", verify=3)
    with heap.attach() as m:
        objects = row(m)
        heap.collect()
        del objects[-1]
        heap.collect()
        record = heap.cycles()[-1]
        assert record["dense_bytes"] >= record["live_bytes"] - 64 * 1024 - SIZE
        assert record["wasted_bytes"] == 0
        check(objects)


def test_many_dead_chunks_are_not_carried_along(make_heap):
    heap = make_heap("64MiB", verify=3)
    with heap.attach() as m:
        objects = row(m)
        heap.collect()
        thin_out(objects, 3)
        record = cycle_by_allocation(heap, m)
        assert record["dense_bytes"] == 0 and record["wasted_bytes"] == 0
        check(objects)


def test_waste_does_not_add_up(make_heap):
    """Cycle after cycle some die in the same dense chunks: the bound holds in each."""
    heap = make_heap("64MiB", verify=3)
    with heap.attach() as m:
        objects = row(m)
        heap.collect()
        for turn in range(4):
            for i in range(turn, len(objects), 60):
                if objects[i] is not None:
                    if i + 1 < len(objects) and objects[i + 1] is not None:
                        objects[i + 1][SLOTS - 1] = None
                    objects[i] = None
            record = cycle_by_allocation(heap, m)
            assert record["wasted_bytes"] <= record["live_bytes"] // 16
            check(objects)


TRUNCATED = PRELUDE + """
heap = gcheap.Heap("16MiB", backend=backend, unit_pages=unit_pages, verify=3)
UNIT, SLOTS = heap.page_size * unit_pages, 100
SIZE = 16 + 8 * SLOTS

def cycle_by_allocation(m):
    before = heap.stats().cycles
    while heap.stats().cycles == before:
        m.new_array("u1", 8000)
    assert heap.cycles()[before]["dense_bytes"] > 0

with heap.attach() as m:
    leaf = m.new_bytes(b"leaf")                     # 24 bytes, the first of the heap
    objects = []
    for i in range(6 * 2**20 // SIZE):
        slots = m.new_slots(SLOTS)
        slots[0] = gcheap.Tagged(8 * i + 1)
        for j in range(1, SLOTS):
            slots[j] = leaf
        objects.append(slots)
    del slots
    heap.collect()
    firsts = []
    for unit in range(20, 6 * 2**20 // UNIT - 2, 20):
        across = ((unit + 1) * UNIT - 24 - 1) // SIZE       # lies across the end of this unit
        objects[across] = None
        firsts.append(across + 1)
        for i in range(across + 2, across + 2 + max(1, UNIT // SIZE // 3)):
            objects[i] = None                       # so that the next unit is not dense
    cycle_by_allocation(m)          # cuts those that lie across
    for i in firsts:
        objects[i] = None
    cycle_by_allocation(m)          # and now something dead follows the cut
    heap.collect()
    for i, slots in enumerate(objects):
        if slots is not None:
            assert slots[0] == gcheap.Tagged(8 * i + 1)
            assert all(slots[j] == leaf for j in (1, 50, SLOTS - 1))
"""


@pytest.mark.parametrize("unit_pages", [4, 16])
def test_a_dead_object_cut_by_the_end_of_its_run_is_forgotten(combination, unit_pages):
    """It lay across the end of a dense chunk whose successor was not dense: its first part was
    carried along and its rest was not, so that the next plan took what followed for its rest."""
    run_cleanly(TRUNCATED, arguments=(combination["backend"], str(unit_pages)))


def test_faults_build_dense_units(make_concurrent_heap):
    heap = make_concurrent_heap("64MiB", verify=3)
    with heap.attach() as m:
        objects = row(m)
        heap.collect()
        thin_out(objects, 40)
        with failpoints.pause("flip.after", times=1) as flipped, MutatorThread(heap) as other:
            work = other.start(lambda m: cycle_by_allocation(heap, m))
            flipped.wait()
            faults = heap.stats().faults
            check(objects)                              # every unit is built by this thread
            assert heap.stats().faults - faults >= 2 * MIB // (64 * 1024)
            flipped.release()
            assert work.result()["dense_bytes"] > 0
        check(objects)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EINVAL, errno.EAGAIN, errno.ENOMEM])
def test_refusals_of_dense_units_lose_nothing(make_concurrent_heap, number):
    heap = make_concurrent_heap("64MiB", verify=3)
    point = "place.move" if heap.backend == "move" else "place.copy"
    if point == "place.copy" and number in (errno.EBUSY, errno.EINVAL):
        pytest.skip("the ladder starts at MOVE")
    with heap.attach() as m:
        objects = row(m)
        heap.collect()
        thin_out(objects, 40)
        with failpoints.fail(point, number, times=40) as refused:
            record = cycle_by_allocation(heap, m)
            assert refused.hits and record["dense_bytes"]
        check(objects)
        cycle_by_allocation(heap, m)
        check(objects)


@pytest.mark.parametrize("unit_pages", [1, 4, 16])
def test_random_deaths_among_objects_of_all_kinds(make_heap, rng, unit_pages):
    """Objects of many sizes, raw contents that look like references and headers, references to
    each other; a few die between cycles that move most of the rest whole."""
    heap = make_heap("64MiB", unit_pages=unit_pages, verify=3)
    node = heap.shape("N", refs=("a", "b"), raw=[("key", "u8"), ("noise", "u8", 5)])
    with heap.attach() as m:
        model = {}                                      # number: (ref, numbers of a and b or bytes)
        for number in range(9000):
            kind = rng.randrange(3)
            if kind == 0:
                ref = m.new(node, key=number, noise=[rng.getrandbits(64) for _ in range(5)])
                model[number] = (ref, [None, None])
            elif kind == 1:
                content = rng.randbytes(8 * rng.randrange(1, 60))
                model[number] = (m.new_bytes(content), content)
            else:
                count = rng.randrange(1, 90)
                model[number] = (m.new_slots(count), [None] * count)
        del ref

        def write(number, slot, to):
            ref, slots = model[number]
            value = None if to is None else model[to][0]
            if isinstance(ref, gcheap.SlotArray):
                ref[slot] = value
            else:
                setattr(ref, "ab"[slot], value)
            slots[slot] = to

        def compare():
            for ref, content in model.values():
                if isinstance(content, bytes):
                    assert bytes(ref) == content
                    continue
                for slot, to in enumerate(content):
                    value = ref[slot] if isinstance(ref, gcheap.SlotArray) else (
                        getattr(ref, "ab"[slot]))
                    assert value is None if to is None else value == model[to][0]

        heap.collect()
        for _ in range(5):
            numbers = list(model)
            for _ in range(1500):
                number = rng.choice(numbers)
                if not isinstance(model[number][1], bytes):
                    write(number, rng.randrange(len(model[number][1])), rng.choice(numbers))
            dead = set(rng.sample(numbers, len(numbers) // rng.choice([30, 50, 200])))
            for number, (_, slots) in model.items():
                if not isinstance(slots, bytes) and number not in dead:
                    for slot, to in enumerate(slots):
                        if to in dead:
                            write(number, slot, None)
            for number in dead:
                del model[number]
            cycle_by_allocation(heap, m)
            compare()
        heap.collect()
        compare()
        assert heap.cycles()["dense_bytes"].sum() > 0
