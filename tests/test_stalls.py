"""Allocation stalls: bounded, counted, reported; and what a full heap says when it gives up."""
from __future__ import annotations

import pickle
import re
import threading

import pytest
from support import PATIENCE, MutatorThread, node_shape, run_python, wait_until

import gcheap
from gcheap import failpoints

MIB = 1 << 20
BLOB = bytes(60_000)
LINE = re.compile(
    r"gcheap: mutator '(?P<name>[^']*)' stalled for (?P<ms>[\d.]+) ms \(allocating (?P<asked>\d+) "
    r"bytes\): (?P<used>[\d.]+) of (?P<cap>[\d.]+) MiB used before, (?P<after>[\d.]+) after, "
    r"(?P<live>[\d.]+) MiB live"
    r"( \((?P<more>\d+) more since the last line\))?")


def fill(m, make) -> gcheap.HeapExhausted:
    """Keeps what `make(m)` returns until the heap is exhausted; the exception."""
    kept: list = []
    with pytest.raises(gcheap.HeapExhausted) as caught:
        while True:
            kept.append(make(m))
    return caught.value


# ---- counted -------------------------------------------------------------------------------

def test_the_histogram_has_every_stall(make_heap):
    heap = make_heap("4MiB", stall_warning_ms=0)
    with heap.attach() as m:
        for _ in range(3):
            fill(m, lambda m: m.new_bytes(BLOB))
        # A request that no cycle can help is refused before it would stall.
        with pytest.raises(gcheap.HeapExhausted):
            m.new_array("u1", 64 * MIB)
    stats = heap.stats()
    values, counts, longest = heap.histogram("stall")
    assert stats.stalls == counts.sum() >= 3
    assert longest == stats.stall_max_ns == values[-1]
    assert stats.stall_max_ns <= stats.stall_ns


def test_an_unknown_histogram_is_refused_with_those_there_are(any_heap):
    with pytest.raises(ValueError, match="'fault', 'stall' and 'time_to_safepoint'"):
        any_heap.histogram("stalls")


# ---- bounded -------------------------------------------------------------------------------

def test_a_full_heap_gives_up_after_one_cycle(make_heap):
    heap = make_heap("4MiB", stall_warning_ms=0)
    with heap.attach() as m:
        kept = m.new_slots(200)
        at = 0
        with pytest.raises(gcheap.HeapExhausted):
            while True:
                kept[at] = m.new_bytes(BLOB)
                at += 1
        for _ in range(5):
            heap.collect()                          # so none is in flight
            before = heap.stats().cycles
            with pytest.raises(gcheap.HeapExhausted):
                m.new_bytes(BLOB)
            assert heap.stats().cycles == before + 1


def test_room_that_the_next_cycle_hides_is_waited_for():
    """A stalled mutator looks, late, while the cycle after its own stands where nothing may be
    allocated.  That is no reason to give up, nor to ask for a third cycle."""
    with gcheap.Heap("4MiB", backend="stw", stall_warning_ms=0) as heap, heap.attach() as m:
        heap.disable()
        kept = [m.new_bytes(BLOB) for _ in range(50)]

        def allocate(mine):
            while heap.stats().stalls == 0:
                mine.new_bytes(BLOB)

        with MutatorThread(heap) as t, failpoints.pause("stall.wait") as late:
            work = t.start(allocate)
            late.wait()
            wait_until(lambda: heap.stats().cycles == 1, "its own cycle has ended")
            with failpoints.pause("plan.done", times=1) as hidden:
                heap.collect(wait=False)
                hidden.wait()
                late.release()
                wait_until(lambda: late.hits == 2, "it has found no room")
                hidden.release()
                late.release()
                work.result(PATIENCE)
            assert heap.stats().cycles == 2
        assert all(bytes(ref) == BLOB for ref in kept)


def test_a_cycle_in_flight_and_one_more_decide(make_concurrent_heap):
    """A stall that joins a cycle whose snapshot is old waits for one further cycle at most."""
    heap = make_concurrent_heap("4MiB", stall_warning_ms=0)

    def fill_up(m):
        kept = m.new_slots(200)
        for i in range(55):
            kept[i] = m.new_bytes(BLOB)
        return kept

    def overflow(m, kept):
        """How many cycles ended during the allocation that failed."""
        with pytest.raises(gcheap.HeapExhausted):
            for i in range(55, 200):
                before = heap.stats().cycles
                kept[i] = m.new_bytes(BLOB)
        return heap.stats().cycles - before

    with MutatorThread(heap) as t:
        kept = t.call(fill_up)
        heap.collect()
        with (failpoints.pause("plan.done", times=1) as flying,
              failpoints.pause("stall.wait", times=1) as stalled):
            heap.collect(wait=False)
            flying.wait()
            work = t.start(overflow, kept)
            stalled.wait()                          # it has joined that cycle
            stalled.release()
            flying.release()
            assert 1 <= work.result(PATIENCE) <= 2
        del kept


def test_garbage_dropped_during_the_cycle_in_flight_is_found_by_the_next(make_concurrent_heap):
    """What was dropped after the snapshot is no reason to give up."""
    heap = make_concurrent_heap("4MiB", stall_warning_ms=0)

    def fill_up(m):
        return [m.new_bytes(BLOB) for _ in range(60)]

    with MutatorThread(heap) as t:
        kept = t.call(fill_up)
        heap.collect()
        with (failpoints.pause("plan.done", times=1) as flying,
              failpoints.pause("stall.wait", times=1) as stalled):
            heap.collect(wait=False)
            flying.wait()                           # the snapshot holds all sixty
            kept.clear()
            work = t.start(lambda m: [m.new_bytes(BLOB) for _ in range(40)])
            stalled.wait()
            stalled.release()
            flying.release()
            assert len(work.result(PATIENCE)) == 40


def test_a_stall_goes_on_while_others_make_progress(make_heap):
    """Two threads compete for garbage only: neither ever gives up."""
    heap = make_heap("4MiB", stall_warning_ms=0)
    done = threading.Event()
    made = [0, 0]

    def churn(m, who):
        while not done.is_set():
            m.new_bytes(BLOB)
            made[who] += 1
        return made[who]

    with MutatorThread(heap) as a, MutatorThread(heap) as b:
        works = [a.start(churn, 0), b.start(churn, 1)]
        wait_until(lambda: min(made) >= 500 or any(w.done() for w in works), "much churn")
        done.set()
        assert min(work.result(PATIENCE) for work in works) >= 500
    assert heap.stats().cycles >= 5


# ---- reported ------------------------------------------------------------------------------

STALL = """
import sys
import threading
import gcheap
from gcheap import failpoints

# Registered heaps stall between plan and flip; under stw, in the pause.
heap = gcheap.Heap("8MiB", backend=sys.argv[1], policy="fixed", stall_warning_ms=int(sys.argv[2]))
with heap.attach("worker 7") as m, failpoints.delay("mark.before", 40_000_000):
    while heap.stats().stalls < 6:
        m.new_array("u1", 3_000_000)
print(heap.stats().stalls, heap.histogram("stall")[2])
"""


def test_a_long_stall_is_one_line_and_the_rest_is_counted(combination):
    done = run_python(STALL, arguments=(combination["backend"], "5"))
    assert done.returncode == 0, done
    stalls, longest = map(int, done.stdout.split())
    lines = done.stderr.splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    assert lines and all(found), done.stderr
    assert len(lines) < stalls                          # six stalls of 40 ms: within a second
    first = found[0]
    assert first["name"] == "worker 7"
    assert 5 <= float(first["ms"]) <= longest / 1e6 + 0.1
    assert int(first["asked"]) == 3_000_016
    assert float(first["cap"]) == 8.0 and 5.0 < float(first["used"]) <= 8.0
    assert float(first["live"]) <= float(first["after"]) < 8.0
    assert first["more"] is None
    assert all(int(line["more"]) >= 1 for line in found[1:] if line["more"])


@pytest.mark.parametrize("threshold", ["0", "600000"])
def test_a_short_stall_and_a_switched_off_report_say_nothing(threshold):
    done = run_python(STALL, arguments=("auto", threshold))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_standard_error_harms_nobody():
    done = run_python("import os; os.close(2)\n" + STALL, arguments=("auto", "5"))
    assert done.returncode == 0


# ---- giving up -----------------------------------------------------------------------------

def test_exhaustion_names_the_largest_shapes(make_heap):
    heap = make_heap("8MiB", stall_warning_ms=0)
    node = node_shape(heap)

    def make(m):
        return (m.new_bytes(bytes(3000)), m.new_bytes(bytes(3000)), m.new_slots(200),
                m.new_array("f8", 100), m.new(node))

    with heap.attach() as m:
        error = fill(m, make)
    message = str(error)
    found = re.fullmatch(
        r"8 MiB heap is full: (\S+ \S+) live in ([\d,]+) objects \(largest shapes: "
        r"bytes (\S+ \S+), slots (\S+ \S+), array\[float64\] (\S+ \S+)\), (\S+ \S+) used, "
        r"(\S+ \S+) asked for; raise capacity or drop roots", message)
    assert found, message
    assert (error.capacity, error.live <= error.used <= 8 * MIB) == (8 * MIB, True)
    assert error.live >= 7 * MIB
    assert 0 < error.asked <= 3016
    objects = int(found[2].replace(",", ""))
    each = 2 * 3016 + 1616 + 816 + 48
    assert abs(objects - 5 * error.live / each) <= 5
    sizes = [float(size.split()[0]) * (MIB if size.endswith("MiB") else 1024)
             for size in found.group(3, 4, 5)]
    for size, expected in zip(sizes, (2 * 3016, 1616, 816), strict=True):
        assert size == pytest.approx(error.live * expected / each, rel=0.1)


def test_fewer_shapes_than_three(make_heap):
    heap = make_heap("4MiB", stall_warning_ms=0)
    with heap.attach() as m:
        error = fill(m, lambda m: m.new_bytes(BLOB))
    assert "(largest shapes: bytes" in str(error) and "," not in str(error).split("(")[1].split(
        ")")[0]


def test_more_than_the_capacity_is_refused_as_such(make_heap):
    heap = make_heap("4MiB")
    with heap.attach() as m, pytest.raises(gcheap.HeapExhausted) as caught:
        m.new_array("u1", 5 * MIB)
    assert "4 MiB heap cannot hold 5 MiB" in str(caught.value)
    assert "raise capacity" in str(caught.value)
    assert caught.value.asked >= 5 * MIB and caught.value.live == 0
    assert heap.stats().stalls == 0 or heap.stats().cycles == 0


def test_the_exception_can_be_made_and_pickled():
    assert gcheap.HeapExhausted("full").used is None
    error = gcheap.HeapExhausted("full", used=3, live=2, capacity=4, asked=9)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.used, copy.live, copy.capacity, copy.asked) == ("full", 3, 2, 4, 9)
