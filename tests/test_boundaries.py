"""Objects at the edges of units: contents survive collections wherever an object lies."""
from __future__ import annotations

import numpy as np
import pytest
from support import PAGE, check_interleaved, interleaved, node_shape

import gcheap

pytestmark = pytest.mark.sigbus_only("the same units are built, whoever builds them")

WORD = 8
ARRAY_HEADER = 2 * WORD
UNITS = [1, 2, 16]


@pytest.fixture(params=UNITS, ids=lambda n: f"unit{n}")
def unit_heap(request, make_heap):
    return make_heap("8MiB", unit_pages=request.param)


def pattern(nbytes: int, salt: int) -> np.ndarray:
    return ((np.arange(nbytes, dtype=np.uint64) * 2654435761 + salt) >> 13).astype(np.uint8)


def filled(m, nbytes: int, salt: int):
    array = m.new_array("u1", nbytes)
    array.copy_in(pattern(nbytes, salt))
    return array


def check_filled(array, nbytes: int, salt: int) -> None:
    assert len(array) == nbytes
    assert array.copy_out().tobytes() == pattern(nbytes, salt).tobytes()


def sizes_around(unit: int) -> list[int]:
    """Lengths of byte arrays whose objects end just before, at and after edges of units."""
    edges = [unit // 4, unit // 2, unit, 2 * unit, 3 * unit, 10 * unit]
    return [edge - ARRAY_HEADER + d for edge in edges for d in (-WORD - 1, -WORD, -1, 0, 1, WORD)]


def test_arrays_of_every_size_around_a_unit(unit_heap):
    unit = unit_heap.unit_pages * PAGE
    sizes = [n for n in sizes_around(unit) if n < 700_000]
    with unit_heap.attach() as m:
        arrays, used = [], 0
        for salt, nbytes in enumerate(sizes):
            if used + 2 * nbytes > 7 << 20:
                break
            m.new_array("u1", nbytes // 3)                  # garbage of another size
            arrays.append((filled(m, nbytes, salt), nbytes, salt))
            used += nbytes
        assert len(arrays) > 20
        for _ in range(3):
            unit_heap.collect()
            for array in arrays:
                check_filled(*array)
            del arrays[::3]                                 # holes of every size
        assert unit_heap.stats().relocations > 0


def test_slot_arrays_across_many_units(unit_heap):
    """Straddling slots: a unit whose start is the middle of a slot array."""
    node = node_shape(unit_heap)
    slots_per_unit = unit_heap.unit_pages * PAGE // WORD
    with unit_heap.attach() as m:
        held = []
        for count in (slots_per_unit - 3, slots_per_unit - 2, slots_per_unit - 1,
                      2 * slots_per_unit + 5, 5 * slots_per_unit):
            m.new_slots(11)
            slots = m.new_slots(count)
            for i in range(0, count, 97):
                slots[i] = m.new(node, key=i)
            slots[count - 1] = m.new(node, key=count - 1)
            held.append(slots)
        for _ in range(3):
            unit_heap.collect()
            for slots in held:
                last = len(slots) - 1
                for i, ref in enumerate(slots):
                    if i % 97 == 0 or i == last:
                        assert ref.key == i
                    else:
                        assert ref is None
            m.new_slots(slots_per_unit // 2)


def test_objects_straddle_units_once_slid(unit_heap):
    """Objects whose size divides no unit: after a slide some cross every edge."""
    shape = unit_heap.shape("Odd", refs=("a", "b", "c"), raw=[("key", "u8"), ("pad", "u8", 8)])
    count = 40 * unit_heap.unit_pages if unit_heap.unit_pages < 16 else 6000
    with unit_heap.attach() as m:
        nodes = m.new_slots(count)
        for i in range(count):
            if i % 2:
                m.new(shape)
            nodes[i] = m.new(shape, key=i, pad=[i] * 8, a=nodes, c=nodes[i // 2] if i else None)
        for _ in range(3):
            unit_heap.collect()
            for i in range(count):
                ref = nodes[i]
                assert ref.key == i and list(ref.pad) == [i] * 8
                assert ref.a == nodes and ref.b is None
                assert ref.c is None if i == 0 else ref.c.key == i // 2
            for _ in range(50):
                m.new(shape)
        assert unit_heap.stats().relocations > 0


def test_an_empty_heap(unit_heap):
    for _ in range(3):
        unit_heap.collect()
    stats = unit_heap.stats()
    assert (stats.used_bytes, stats.live_bytes, stats.handles) == (0, 0, 0)
    assert stats.cycles == 3
    with unit_heap.attach() as m:
        unit_heap.collect()
        assert m.new(node_shape(unit_heap), key=1).key == 1


def test_everything_dies(unit_heap):
    with unit_heap.attach() as m:
        nodes = interleaved(m, node_shape(unit_heap), 5000)
        del nodes
        unit_heap.collect()
        stats = unit_heap.stats()
        assert stats.live_bytes == 0
        nodes = interleaved(m, node_shape(unit_heap), 5000)
        unit_heap.collect()
        assert check_interleaved(nodes) == 5000


def test_nothing_dies(unit_heap):
    node = node_shape(unit_heap)
    with unit_heap.attach() as m:
        nodes = m.new_slots(3000)
        for i in range(3000):
            nodes[i] = m.new(node, key=i, next=nodes[i - 1] if i else None)
        for _ in range(3):
            unit_heap.collect()
            assert check_interleaved(nodes) == 3000


def test_a_heap_filled_to_the_brim_is_collected_and_used(unit_heap):
    node = node_shape(unit_heap)
    kept = []
    with unit_heap.attach() as m:
        with pytest.raises(gcheap.HeapExhausted):
            while True:
                kept.append(filled(m, 3000, len(kept)))
        unit_heap.collect()
        for salt, array in enumerate(kept):
            check_filled(array, 3000, salt)
        survivors = [(array, salt) for salt, array in enumerate(kept) if salt % 3 == 0]
        kept.clear()
        del array
        unit_heap.collect()
        nodes = interleaved(m, node, 5000)
        for array, salt in survivors:
            check_filled(array, 3000, salt)
        assert check_interleaved(nodes) == 5000


def test_the_last_unit_is_partial(unit_heap):
    """One survivor, far below a unit: a single partial unit is planned."""
    node = node_shape(unit_heap)
    with unit_heap.attach() as m:
        interleaved(m, node, 2000)
        last = m.new(node, key=77)
        unit_heap.collect()
        assert last.key == 77 and last.next is None
        assert unit_heap.stats().live_bytes <= 64
        unit_heap.collect()
        assert last.key == 77


def test_exactly_one_unit_of_survivors(unit_heap):
    unit = unit_heap.unit_pages * PAGE
    shape = unit_heap.shape("Word8", refs=("next",), raw=[("key", "u8"), ("pad", "u8", 5)])
    count = unit // 64
    with unit_heap.attach() as m:
        kept = []
        for i in range(count):
            m.new(shape)
            kept.append(m.new(shape, key=i, next=kept[-1] if kept else None))
        unit_heap.collect()
        assert unit_heap.stats().live_bytes == unit
        assert [ref.key for ref in kept] == list(range(count))
        assert all(ref.next == kept[i] for i, ref in enumerate(kept[1:]))


@pytest.mark.parametrize("units", [1, 2, 40])
def test_one_object_as_large_as_units(unit_heap, units):
    unit = unit_heap.unit_pages * PAGE
    if units * unit > 6 << 20:
        units = (6 << 20) // unit
    nbytes = units * unit - ARRAY_HEADER
    node = node_shape(unit_heap)
    with unit_heap.attach() as m:
        m.new_array("u1", unit // 2)
        large = filled(m, nbytes, 3)
        holder = m.new(node, next=large)
        unit_heap.collect()
        check_filled(large, nbytes, 3)
        assert holder.next == large
        unit_heap.collect()
        check_filled(holder.next, nbytes, 3)


def test_large_objects_come_and_go_among_small_ones(unit_heap, rng):
    node = node_shape(unit_heap)
    unit = unit_heap.unit_pages * PAGE
    with unit_heap.attach() as m:
        held: dict[int, tuple] = {}
        for step in range(150):
            nbytes = rng.choice([40, 900, unit // 2, unit, 3 * unit + 24])
            held[step] = (filled(m, nbytes, step), nbytes, step, m.new(node, key=step))
            while sum(n for _, n, _, _ in held.values()) > 3 << 20:
                del held[rng.choice(list(held))]
            if step % 30 == 29:
                unit_heap.collect()
                for array, n, salt, ref in held.values():
                    check_filled(array, n, salt)
                    assert ref.key == salt


def test_arrays_of_length_zero(unit_heap):
    with unit_heap.attach() as m:
        empties = [make() for _ in range(400)
                   for make in (lambda: m.new_slots(0), lambda: m.new_bytes(b""),
                                lambda: m.new_array("f8", 0))]
        dropped = empties[::2]
        del empties[::2]
        del dropped
        unit_heap.collect()
        assert all(len(e) == 0 for e in empties)
        assert len(set(empties)) == len(empties)
        assert [list(e) for e in empties if e.shape == m.new_slots(0).shape][0] == []


@pytest.mark.parametrize("unit_pages", [1, 2, 4, 16, 64])
def test_unit_pages_is_honoured(make_heap, unit_pages):
    heap = make_heap("16MiB", unit_pages=unit_pages)
    assert heap.unit_pages == unit_pages and heap.page_size == PAGE
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 4000)
        heap.collect()
        assert check_interleaved(nodes) == 4000
