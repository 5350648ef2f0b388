"""Forwarding (bitmap, prefix sums, plan) against a naive model, over random heaps.

The real code marks objects, sums blocks and plans units; the model below slides the same
objects word by word in plain Python.
"""
from __future__ import annotations

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gcheap.core import _testing

UNIT_WORDS = [512, 1024, 8192]          # 1, 2 and 16 pages of 4 KiB


class Slide:
    """What a slide of `objects` (start, size, slots; in words, ascending) must come to.

    An object is a header word, then its slots, then raw words.
    """

    def __init__(self, objects: list[tuple[int, int, int]], unit_words: int) -> None:
        self.forward = []
        self.source = []                # from-space word of each live word, in slid order
        owner, is_slot = [], []         # of each live word
        for number, (start, size, slots) in enumerate(objects):
            self.forward.append(len(self.source))
            self.source += range(start, start + size)
            owner += [number] * size
            is_slot += [0 < i <= slots for i in range(size)]
        self.units = []                 # (first word, straddle words, words skipped, slots)
        self.readers: dict[int, int] = {}
        for begin in range(0, len(self.source), unit_words):
            inside = range(begin, min(begin + unit_words, len(self.source)))
            straddle = skip = slots = 0
            if begin and owner[begin - 1] == owner[begin]:
                mine = [i for i in inside if owner[i] == owner[begin]]
                straddle = len(mine)
                slots = sum(is_slot[i] for i in mine)
                if slots:
                    skip = min(i for i in mine if is_slot[i]) - begin
            self.units.append((self.source[begin], straddle, skip, slots))
            for chunk in {self.source[i] // unit_words for i in inside}:
                self.readers[chunk] = self.readers.get(chunk, 0) + 1


@st.composite
def layouts(draw):
    """Live objects with random gaps; sizes from two words to a few units."""
    unit_words = draw(st.sampled_from(UNIT_WORDS))
    small = st.integers(2, 12)
    size = st.one_of(small, small, small, st.integers(2, 200),
                     st.sampled_from([63, 64, 65, 128, unit_words - 1, unit_words,
                                      unit_words + 1, 2 * unit_words, 3 * unit_words + 5]))
    gap = st.one_of(st.just(0), st.just(0), st.integers(1, 9), st.integers(1, 700),
                    st.sampled_from([62, 63, 64, 65, unit_words, 2 * unit_words]))
    objects, at = [], 0
    for hole, words, share in draw(st.lists(st.tuples(gap, size, st.integers(0, 4)),
                                            max_size=120)):
        at += hole
        objects.append((at, words, (words - 1) * share // 4))
        at += words
    return objects, unit_words


def check(objects: list[tuple[int, int, int]], unit_words: int) -> None:
    starts, sizes, slots = (list(column) for column in zip(*objects, strict=True)) if objects \
        else ([], [], [])
    plan = _testing.plan_bitmap(starts, sizes, unit_words, slots)
    model = Slide(objects, unit_words)
    assert plan["slid_words"] == len(model.source)
    assert plan["forward"] == model.forward
    assert plan["units"] == model.units
    readers = plan["readers"]
    assert readers == [model.readers.get(chunk, 0) for chunk in range(len(readers))]
    assert all(chunk < len(readers) for chunk in model.readers)


@settings(max_examples=200)
@given(layouts())
@example(([], 512))
@example(([(0, 512, 511)], 512))
@example(([(0, 513, 512)], 512))
@example(([(511, 2, 1)], 512))
@example(([(0, 511, 0), (600, 3, 2)], 512))
@example(([(0, 511, 0), (600, 3, 1)], 512))
@example(([(64 * i + 63, 2, 1) for i in range(64)], 64))
@example(([(5, 4 * 512, 700)], 512))
@example(([(0, 510, 9), (510, 2, 1), (512, 2, 0)], 512))
def test_the_plan_is_the_naive_slide(layout):
    check(*layout)


@pytest.mark.parametrize("unit_words", UNIT_WORDS)
def test_every_second_object_dead(unit_words):
    check([(8 * i, 4, 2) for i in range(3 * unit_words // 4)], unit_words)


@pytest.mark.parametrize("unit_words", UNIT_WORDS)
def test_nothing_dead_forwards_to_itself(unit_words):
    objects = [(5 * i, 5, 3) for i in range(unit_words)]
    check(objects, unit_words)
    starts = [start for start, _, _ in objects]
    assert _testing.plan_bitmap(starts, [5] * unit_words, unit_words)["forward"] == starts


@pytest.mark.parametrize("start", [0, 1, 63, 64, 511, 8191, 100_000])
def test_one_object_anywhere_goes_to_the_bottom(start):
    check([(start, 7, 2)], 512)


@pytest.mark.skipif(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 8 << 30,
                    reason="reserves 4 GiB of address space")
def test_what_lies_above_four_gib_of_live_objects_goes_above_them():
    each = 65_536                                           # words: a unit each, 4 GiB in all
    starts = [100 + each * i for i in range(8192)]
    end = starts[-1] + each
    plan = _testing.plan_bitmap([*starts, end + 50, end + 150], [each] * 8192 + [7, 7], each)
    assert plan["forward"] == [each * i for i in range(8192)] + [each * 8192, each * 8192 + 7]
