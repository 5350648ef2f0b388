"""Heap.page_map: every unit's state, who placed it, and how much of it was live."""
from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from support import (
    NODE,
    MutatorThread,
    check_interleaved,
    interleaved,
    node_shape,
    run_cleanly,
    wait_until,
)

import gcheap
from gcheap import failpoints, pagemap
from gcheap.pagemap import KINDS, OWNERS, STATES

STATE = {name: code for code, name in enumerate(STATES)}
COMPACTOR, MUTATOR = OWNERS.index("compactor"), OWNERS.index("mutator")


def small(rows, current):
    return rows[(rows["space"] == 0) & (rows["current"] == current)]


def states(rows):
    return {STATES[code] for code in rows["state"]}


def filled(m, heap, count=6000):
    return interleaved(m, node_shape(heap), count)


def test_a_heap_that_was_never_collected_holds_what_was_handed_out(any_heap, any_mutator):
    assert states(any_heap.page_map()) <= {"used"}
    nodes = filled(any_mutator, any_heap, 1000)
    rows = any_heap.page_map()
    assert states(rows) == {"used"} and set(rows["by"]) == {0}
    current = small(rows, True)
    assert list(current["unit"]) == list(range(len(current)))
    unit = any_heap.unit_pages * any_heap.page_size
    assert len(current) * unit >= any_heap.stats().used_bytes - unit
    assert check_interleaved(nodes) == 1000


def test_a_relocation_is_seen_from_both_ends(make_concurrent_heap):
    """Held right after the flip, then a mutator touches everything: it places what it can."""
    heap = make_concurrent_heap("8MiB")
    unit = heap.unit_pages * heap.page_size
    with heap.attach() as m:
        nodes = filled(m, heap)
        with failpoints.pause("flip.after", times=1) as flipped:
            heap.collect(wait=False)
            flipped.wait()
            before = heap.page_map()
            assert pagemap.is_relocating(before)
            assert states(small(before, True)) <= {"unclaimed", "empty", "used", "placed"}
            assert "unclaimed" in states(small(before, True))
            old = small(before, False)
            assert states(old) <= {"source", "evacuated", "taken", "empty"}
            live = old["live_bytes"]
            assert (live >= 0).all() and (live <= unit).all()
            # Every second object was garbage; the array that holds them is a large object.
            assert live.sum() == 6000 * NODE
            assert check_interleaved(nodes) == 6000
            touched = small(heap.page_map(), True)
            placed = touched[touched["state"] == STATE["placed"]]
            assert len(placed) > 2 and set(placed["by"]) == {MUTATOR}
        wait_until(lambda: heap.stats().relocations == 1, "the end of the relocation")
        after = heap.page_map()
        assert not pagemap.is_relocating(after)
        kept = small(after, True)
        for row in placed:                      # what is placed stays placed, by the same
            assert kept[row["unit"]]["by"] == MUTATOR
        assert states(small(after, False)) <= {"empty"}
        assert check_interleaved(nodes) == 6000


def test_undisturbed_the_compactor_places_everything(make_heap):
    heap = make_heap("8MiB")
    with heap.attach() as m:
        nodes = filled(m, heap)
        heap.collect()
        rows = small(heap.page_map(), True)
        placed = rows[rows["state"] == STATE["placed"]]
        assert len(placed) * heap.unit_pages * heap.page_size >= 6000 * NODE
        if heap.backend == "stw":               # else this thread may have touched one
            assert set(placed["by"]) == {COMPACTOR}
        assert set(rows[rows["state"] != STATE["placed"]]["by"]) <= {0}
        half = set(rows["half"])
        heap.collect()
        assert set(small(heap.page_map(), True)["half"]) != half, "the halves changed roles"
        assert check_interleaved(nodes) == 6000


def test_from_a_plan_to_its_flip_the_relocation_before_is_forgotten():
    with gcheap.Heap("8MiB") as heap, heap.attach() as m:
        nodes = filled(m, heap)
        heap.collect()
        assert "placed" in states(heap.page_map())
        with failpoints.pause("plan.done", times=1) as planned:
            heap.collect(wait=False)
            planned.wait()
            assert states(heap.page_map()) <= {"used", "empty"}
        wait_until(lambda: heap.stats().relocations == 2, "the end of the relocation")
        assert check_interleaved(nodes) == 6000


def test_large_objects_have_rows_of_their_own():
    with gcheap.Heap("64MiB") as heap, heap.attach() as m:
        arrays = [m.new_array("u8", 40_000) for _ in range(6)]
        big = m.new_array("u1", 9 << 20)
        rows = heap.page_map()
        unit = heap.unit_pages * heap.page_size
        assert (rows["space"] == 1).sum() == 6 * -(-(40_000 * 8 + 16) // unit)
        assert (rows["space"] == 2).sum() == 5
        del arrays[::2]
        heap.collect()
        rows = heap.page_map()
        placed = rows[(rows["state"] == STATE["placed"]) & rows["current"]]
        assert (placed["space"] == 1).sum() == 3 * -(-(40_000 * 8 + 16) // unit)
        assert (placed["space"] == 2).sum() == 5 and len(big) == 9 << 20


def test_it_may_be_read_at_any_moment_of_any_cycle(any_heap, any_mutator):
    """Rows are in order, codes are known, and nothing waits for anything, while cycles follow one
    another and a mutator faults."""
    done, problems, reads = threading.Event(), [], 0

    def read():
        nonlocal reads
        while not done.is_set():
            rows = any_heap.page_map()
            reads += 1
            if not (rows["state"] < len(STATES)).all() or not (rows["by"] < len(OWNERS)).all():
                problems.append("codes")
            if (rows["by"][rows["state"] != STATE["placed"]] != 0).any():
                problems.append("placed by somebody, and not placed")
            if (rows["live_bytes"] > any_heap.unit_pages * any_heap.page_size).any():
                problems.append("more live than there is room")
            for space in range(3):
                for half in range(2):
                    part = rows[(rows["space"] == space) & (rows["half"] == half)]
                    if list(part["unit"]) != list(range(len(part))):
                        problems.append("order")

    nodes = filled(any_mutator, any_heap, 3000)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        with MutatorThread(any_heap) as other:
            for _ in range(8):
                work = other.start(filled, any_heap, 500)
                any_heap.collect()
                assert check_interleaved(nodes) == 3000
                work.result()
    finally:
        done.set()
        reader.join()
    assert not problems and reads > 0


def test_a_closed_heap_has_no_map():
    heap = gcheap.Heap("1MiB")
    heap.close()
    with pytest.raises(gcheap.HeapClosed):
        heap.page_map()


# ---- pictures --------------------------------------------------------------------------------

def made_up(*units):
    rows = np.zeros(len(units), [("unit", "u4"), ("space", "u1"), ("state", "u1"), ("by", "u1"),
                                 ("live_bytes", "i4")])
    rows["unit"] = range(len(units))
    rows["state"] = [STATE[unit if unit in STATE else "placed"] for unit in units]
    rows["by"] = [OWNERS.index(unit) if unit in OWNERS else 0 for unit in units]
    return rows


def test_cells_have_a_letter_for_each_kind():
    rows = made_up("empty", "used", "unclaimed", "assembling", "assembled", "placing", "compactor",
                   "mutator", "source", "evacuated", "taken")
    assert pagemap.cells(rows, 1) == ".u-hhhcmset"
    assert len(set(KINDS.values())) == len(KINDS)


def test_units_that_share_a_cell_show_what_most_of_them_are():
    rows = made_up(*["compactor"] * 3, "mutator", *["mutator"] * 2, "compactor", "used", "used",
                   "used")
    assert pagemap.cells(rows, 4) == "cmu"          # ccc m | mm c u | uu
    assert pagemap.cells(rows[:0], 4) == ""


def test_how_full_cells_were():
    rows = made_up(*["empty"] * 5)
    rows["live_bytes"] = [100, 50, 0, -1, 25]
    assert pagemap.live_percent(rows, 1, 100) == [100, 50, 0, -1, 25]
    assert pagemap.live_percent(rows, 2, 100) == [75, -1, 25]
    assert pagemap.live_percent(rows[:0], 2, 100) == []


def test_a_heap_that_is_closed_while_the_map_is_made_is_an_exception():
    """numpy is Python: anything may happen in it."""
    assert run_cleanly("""
import sys
import gcheap
heap = gcheap.Heap("8MiB")
heap.collect()
heap.page_map()
def close(frame, event, argument):
    if event == "call" and "numpy" in frame.f_code.co_filename:
        sys.setprofile(None)
        heap.close()
sys.setprofile(close)
try:
    heap.page_map()
except gcheap.HeapClosed:
    print("closed")
""") in ("closed\n", "")       # "": a numpy that has no Python code on this way


def test_a_heap_that_another_thread_closes_is_an_exception(make_heap):
    for _ in range(20):
        heap = make_heap("8MiB")
        heap.collect()
        with ThreadPoolExecutor(1) as pool:
            closing = pool.submit(heap.close)
            with suppress(gcheap.HeapClosed):
                while True:
                    heap.page_map()
            closing.result()
