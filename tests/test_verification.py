"""Verification levels: each finds what it is there for, and nothing in a heap that is sound."""
from __future__ import annotations

import signal

import pytest
from support import (
    PATIENCE,
    MutatorThread,
    check_interleaved,
    interleaved,
    node_shape,
    run_python,
    wait_until,
)

import gcheap
from gcheap import failpoints
from gcheap.core import _testing

# A heap with objects to slide, a mutator, and `held(point)`: the collector stops there.
PRELUDE = """
import ctypes, sys
import gcheap
from gcheap import failpoints
from gcheap.core._testing import corrupt, read_words

backend, level = sys.argv[1], int(sys.argv[2])
heap = gcheap.Heap("4MiB", backend=backend, verify=level)
m = heap.attach()
Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
outer = m.new_slots(3000)
for i in range(3000):
    m.new(Node)                                         # garbage
    outer[i] = m.new(Node, key=i, next=outer[i - 1] if i else None)

class held:
    def __init__(self, point):
        self.point = failpoints.pause(point)
    def __enter__(self):
        self.point.__enter__()
        heap.collect(wait=False)
        self.point.wait()
    def __exit__(self, *exc):
        self.point.__exit__(*exc)
        heap.collect()

def word(address):
    return ctypes.c_uint64.from_address(address)
"""


def expect(backend: str, level: int, script: str, message: str) -> None:
    """The script's process writes `message` and aborts."""
    done = run_python(PRELUDE + script + '\nprint("nothing was found")',
                      arguments=(backend, str(level)))
    assert done.returncode == -signal.SIGABRT, done
    assert f"fatal: verify: {message}" in done.stderr, done.stderr


@pytest.mark.parametrize(("level", "what", "point", "message"), [
    (1, "live", "unregister.done", "more is live than used"),
    (1, "moved", "unregister.done", "pages and bytes moved differ"),
    (1, "handle", "unregister.done", "a chain of free handles has no end"),
    (1, "reader", "plan.done", "a chunk still has readers"),
    (1, "state", "relocate.done", "a unit was never placed"),
    (1, "straddle", "unregister.done", "more was planned into a unit than it holds"),
    (2, "reader", "plan.done", "readers of chunks are miscounted"),
    (2, "sum", "plan.done", "a prefix sum disagrees with the live bits"),
    (2, "unit", "plan.done", "a unit begins at another live word"),
    (2, "range", "plan.done", "the range to register is another"),
])
def test_planted_damage_is_found(level, what, point, message):
    expect("auto", level, f"""
with held({point!r}):
    corrupt(m.native(), {what!r})
""", message)


def test_a_mark_where_no_object_is():
    expect("auto", 2, """
with held("mark.concurrent"):
    corrupt(m.native(), "mark")
""", "no object where one must start")


# A reference changes its place behind the barrier's back: from an object that is not traced yet
# to one that was allocated since Mark Start.
MISSED_BARRIER = """
table = m.new_slots(1)
root = m.new_slots(1)
root[0], table[0] = table, m.new(Node, key=1)
heap.collect()
with held("mark.concurrent"):
    black, holder = m.new_slots(1), m.new_slots(1)
    holder[0] = black
    old = read_words(m.native(), root, 3)[2] + 16
    new = read_words(m.native(), holder, 3)[2] + 16
    word(new).value = word(old).value
    word(old).value = 0
"""


@pytest.mark.parametrize(("level", "message"), [
    (2, "a kept object leads to an unmarked one"),
    (3, "marking missed a reachable object"),
    (4, "reachable words are not marked"),
])
def test_a_reference_moved_without_the_barrier(concurrent, level, message):
    expect(concurrent["backend"], level, MISSED_BARRIER, message)


def test_an_object_overwritten_after_it_moved(combination):
    # Under stw the mutator cannot look where it is now: nothing changes, so the second cycle
    # brings it back to where it was before the first.
    look = "here" if combination["backend"] == "stw" else "read_words(m.native(), root, 3)[2]"
    expect(combination["backend"], 2, f"""
root = m.new_slots(1)
root[0] = m.new(Node, key=1)
heap.collect()
here = read_words(m.native(), root, 3)[2]
heap.collect()
with failpoints.pause("unregister.done") as point:
    heap.collect(wait=False)
    point.wait()
    word({look}).value = 0
    point.release()
heap.collect()
""", "no object where one must start")


def test_a_slot_that_still_leads_to_from_space(concurrent):
    expect(concurrent["backend"], 2, """
root = m.new_slots(1)
root[0] = m.new_slots(1)
root[0][0] = m.new(Node, key=1)
heap.collect()
stale = read_words(m.native(), root, 3)[2]
with failpoints.pause("unregister.done") as point:
    heap.collect(wait=False)
    point.wait()
    word(read_words(m.native(), root, 3)[2] + 16).value = stale
    point.release()
heap.collect()
""", "a reference still leads to from-space")


def test_a_damaged_header_is_found_by_the_next_cycle(combination):
    expect(combination["backend"], 3, """
root = m.new_slots(1)
root[0] = m.new(Node, key=1)
heap.collect()
word(read_words(m.native(), root, 3)[2]).value = 0
heap.collect()
""", "a reference leads to no object")


STALE = """
root = m.new_slots(1)
root[0] = m.new(Node, key=1)
stale = read_words(m.native(), root, 3)[2]
heap.collect()
print(word(stale).value, flush=True)
"""


@pytest.mark.uninstrumented("it reports the SIGSEGV that is to come")
def test_the_old_half_cannot_be_read_from_level_3_on(combination):
    open_half = run_python(PRELUDE + STALE, arguments=(combination["backend"], "2"))
    assert (open_half.returncode, open_half.stdout) == (0, "0\n"), open_half
    for level in ("3", "4"):
        done = run_python(PRELUDE + STALE, arguments=(combination["backend"], level))
        assert done.returncode == -signal.SIGSEGV and done.stdout == "", done


# ---- sound heaps -------------------------------------------------------------------------

@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("unit_pages", [1, 16])
def test_a_sound_heap_passes_every_level(make_heap, level, unit_pages):
    heap = make_heap("8MiB", verify=level, unit_pages=unit_pages, relocate="always")
    assert heap.verify == level
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 10_000)
        large = [m.new_slots(20_000), m.new_bytes(bytes(range(256)) * 500)]
        large[0][19_999] = nodes
        for _ in range(5):
            m.new_bytes(bytes(60_000))
            heap.collect()
            assert check_interleaved(nodes, range(0, 10_000, 97)) == 104
        assert large[0][19_999] == nodes and bytes(large[1]) == bytes(range(256)) * 500


def test_every_level_has_a_pause_after_the_cycle(make_concurrent_heap):
    for level in (0, 1, 2, 3, 4):
        heap = make_concurrent_heap(verify=level)
        with heap.attach():
            heap.collect()
        assert ("verify" in heap.pauses()["phase"]) is (level > 0)


def test_the_old_half_stays_one_mapping(make_concurrent_heap):
    """Closing and opening it cycle after cycle must not make MOVE refuse anything."""
    heap = make_concurrent_heap(verify=3)
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 5000)
        for _ in range(6):
            heap.collect()
        assert check_interleaved(nodes) == 5000
        stats = heap.stats()
        assert stats.relocations == 6
        assert all(not io.refused for io in stats.ioctls.values()), stats.ioctls


def test_floating_garbage_is_counted_at_level_4(make_concurrent_heap):
    heap = make_concurrent_heap(verify=4)
    with heap.attach() as m:
        dropped = [m.new_bytes(bytes(84)) for _ in range(50)]       # 104 bytes each
        heap.collect()
        assert heap.stats().floating_bytes == 0
        with failpoints.pause("mark.concurrent") as marking:
            heap.collect(wait=False)
            marking.wait()
            dropped.clear()
            marking.release()
        wait_until(lambda: heap.stats().cycles == 2, "the cycle's end")
        assert heap.stats().floating_bytes == 50 * 104
        heap.collect()
        assert heap.stats().floating_bytes == 0
        assert heap.stats().live_bytes == 0


def test_floating_garbage_is_not_counted_below_level_4(make_heap):
    heap = make_heap(verify=3)
    heap.collect()
    assert heap.stats().floating_bytes == 0
    assert gcheap.HeapStats.__annotations__["floating_bytes"] == "int"


# ---- mutators that enter -----------------------------------------------------------------

def test_a_mutator_may_enter_while_a_pause_is_verified():
    """It is RUNNING for a moment, until it sees the pause; that is no fault to abort for."""
    with gcheap.Heap("4MiB", backend="stw", verify=1) as heap, MutatorThread(heap) as thread:
        with failpoints.pause("flip.after") as paused:
            heap.collect(wait=False)
            paused.wait()
            with failpoints.delay("mutator.enter", ns=300_000_000, times=1) as entering:
                job = thread.start(lambda m: _testing.stay_running(m.native()))
                wait_until(lambda: entering.hits > 0, "a mutator that has not looked for a pause")
                paused.release()                        # the collector verifies what it finds
                job.result(PATIENCE)
        heap.collect()
        assert heap.stats().cycles == 2
