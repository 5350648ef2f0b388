"""Tag rules: what is a reference is followed and forwarded with its tag, and nothing else is.

Heaps run with verify=3, so that Pause Mark End checks that everything reachable has been marked.
"""
from __future__ import annotations

import pytest
from support import NODE, marking, node_shape, slots_bytes

import gcheap
from gcheap import failpoints
from gcheap.core import _testing

pytestmark = pytest.mark.sigbus_only("marking ends before there are faults")

RULES = {
    "default": (7, 0),
    "low bits 1": (7, 1),                                   # aligned words are numbers
    "one low bit": (1, 1),
    "NaN boxes": (0xFFFF << 48, 0xFFFC << 48),              # what is no such NaN is a double
    "NaN boxes and low bits": (0xFFFF << 48 | 7, 0xFFFE << 48 | 5),
}


def tagged_like(address: int, rule: tuple[int, int]) -> gcheap.Tagged:
    """A tagged value whose address bits are those of an object."""
    mask, bits = rule
    return gcheap.Tagged(address | (bits ^ mask & -mask))


def address_in(m, slots, index: int) -> int:
    """The address in a slot of a slot array, good until the next cycle."""
    return _testing.read_words(m.native(), slots, 2 + len(slots))[2 + index]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_tagged_values_that_are_overwritten_while_marking(checked, rule):
    """A tagged value leads nowhere, even if it looks like the address of an object: it is not
    logged; a reference that gives way to a tagged value is."""
    node = node_shape(checked)
    cell = checked.shape("Cell", refs=("a", "b", "c"), raw=[("key", "u8")], tag=rule)
    count = 200
    with checked.attach() as m:
        cells = m.new_slots(count)
        dead = m.new_slots(1)
        for i in range(count):
            dead[0] = m.new(node, key=0xDEAD)
            word = tagged_like(address_in(m, dead, 0), rule)
            cells[i] = m.new(cell, key=i, a=word, b=m.new(node, key=i), c=word)
        dead[0] = None
        words = [ref.c for ref in cells]
        with marking(checked):
            moved = m.new_slots(count)
            for i, ref in enumerate(cells):
                moved[i] = ref.b
                ref.b = words[i]
                ref.a = moved
            del ref
        # A Cell is a header, three slots and a key.  No dead node is among the live.
        assert checked.stats().live_bytes == (
            count * (40 + NODE) + slots_bytes(count) + slots_bytes(1))
        for _ in range(2):
            for i, ref in enumerate(cells):
                assert (ref.key, ref.b, ref.c) == (i, words[i], words[i])
                assert ref.a == moved and moved[i].key == i
            checked.collect()


@pytest.mark.parametrize("unit_pages", [1, 16])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_shapes_with_rules_of_their_own_over_collections(make_heap, rule, unit_pages, rng):
    """References are found, and forwarded with their tag; tagged values are left alone: in small
    objects, in large ones that are black, and in what straddles units."""
    heap = make_heap("8MiB", unit_pages=unit_pages, verify=3)
    mask, bits = rule
    wide_refs = 300 * unit_pages                            # more than half a unit
    small = heap.shape("Small", refs=("a", "b"), raw=[("key", "u8")], tag=rule)
    wide = heap.shape("Wide", refs=tuple(f"r{i}" for i in range(wide_refs)),
                      raw=[("key", "u8")], tag=rule)
    node = node_shape(heap)

    def number() -> gcheap.Tagged:
        while True:
            word = rng.choice([rng.getrandbits(64), rng.getrandbits(48) & ~7, 1, bits,
                               bits ^ (mask & -mask) | 0x1230, 2**64 - 1])
            if word and (word & mask != bits or word & ~mask == 0):
                return gcheap.Tagged(word)

    model: list = []                                        # (wide object, {slot: expected})
    with heap.attach() as m:
        def fill() -> None:
            ref = m.new(wide, key=len(model))
            expected = {}
            for slot in rng.sample(range(wide_refs), 40) + [0, wide_refs - 1]:
                kind = rng.randrange(4)
                value = number() if kind == 0 else (
                    m.new(small, key=slot, a=ref, b=number()) if kind == 1 else
                    m.new_bytes(slot.to_bytes(4, "little")) if kind == 2 else
                    m.new(node, key=slot, next=ref))
                setattr(ref, f"r{slot}", value)
                m.new(node)                                 # garbage
                expected[slot] = ((kind, value) if kind == 0 else (kind, value.b) if kind == 1
                                  else (kind, None))
            model.append((ref, expected))

        for _ in range(6):
            fill()
        for point in ("mark.before", "plan.done", "flip.after", "cycle.end"):
            with failpoints.delay(point, ns=3_000_000):
                heap.collect(wait=False)
                fill()                                      # some of it is black
            heap.collect()
            for key, (ref, expected) in enumerate(model):
                assert ref.key == key
                for slot, (kind, word) in expected.items():
                    value = getattr(ref, f"r{slot}")
                    if kind == 0:
                        assert value == word
                    elif kind == 1:
                        assert (value.key, value.a, value.b) == (slot, ref, word)
                    elif kind == 2:
                        assert bytes(value) == slot.to_bytes(4, "little")
                    else:
                        assert value.key == slot and value.next == ref
                empty = next(i for i in range(wide_refs) if i not in expected)
                assert getattr(ref, f"r{empty}") is None
