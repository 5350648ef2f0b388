"""vm.max_map_count nearly used up: a heap is made or refused whole, and keeps its objects."""
from __future__ import annotations

import os
from pathlib import Path

import pytest
from hostile_support import in_child
from system import Janitor

MAX_MAP_COUNT = Path("/proc/sys/vm/max_map_count")
MOST = 200_000                  # more take too long to use up


@pytest.fixture(scope="module", autouse=True)
def few_mappings():
    """Some distributions allow a million."""
    if int(MAX_MAP_COUNT.read_text()) <= MOST:
        yield
    elif os.geteuid() != 0:
        pytest.skip(f"vm.max_map_count is above {MOST:,}, and to lower it needs root")
    else:
        with Janitor() as janitor:
            janitor.write(MAX_MAP_COUNT, "65530")
            yield

SCARCE = """
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

class Mappings:
    "All mappings of this process but some, taken by a strip of pages that differ in turns."

    def __init__(self):
        most = int(open("/proc/sys/vm/max_map_count").read())
        self.nbytes = 2 * (most + 10) * PAGE
        self.at = libc.mmap(None, self.nbytes, 0, 0x4022, -1, 0)        # NORESERVE, private
        self.next = self.at

    def left(self, count):
        "Leaves `count` mappings, counted in pairs: each page costs two."
        while libc.mprotect(self.next, PAGE, 1) == 0:
            self.next += 2 * PAGE
        for _ in range((count + 1) // 2):
            self.next -= 2 * PAGE
            assert libc.mprotect(self.next, PAGE, 0) == 0

    def free(self):
        assert libc.munmap(self.at, self.nbytes) == 0

def count_mappings():
    with open("/proc/self/maps") as maps:
        return sum(1 for _ in maps)
"""


@pytest.mark.uninstrumented("it needs mappings when there are none")
def test_a_heap_is_made_or_refused_whole(combination, seed):
    """With every small number of mappings left: it works, or one error says what is short, and
    then nothing of it is left behind."""
    out = in_child(SCARCE + """
def make():
    return gcheap.Heap("2MiB", **options)

def attempt():
    try:
        heap = make()
    except (gcheap.GcheapError, MemoryError) as e:
        assert "max_map_count" in str(e), e
        return "refused"
    with heap:
        try:
            m = heap.attach()
        except MemoryError as e:
            assert "max_map_count" in str(e), e
            return "not attached"
        collected(heap, m, count=500)
        m.detach()
        return "works"

def sweep():
    "20 heaps: one mapping lost of each would show."
    scarce, outcomes = Mappings(), []
    for left in range(0, 40, 2):
        scarce.left(left)
        outcomes.append(attempt())
    scarce.free()
    return outcomes, count_mappings(), len(os.listdir("/proc/self/fd"))

sweep()                             # the C library keeps stacks and arenas of the first threads
outcomes, mappings, descriptors = sweep()
again = sweep()
assert again[1] <= mappings + 8 and again[2] <= descriptors, (mappings, descriptors, again)
assert outcomes == sorted(outcomes, key=("refused", "not attached", "works").index), outcomes
print(outcomes[0], outcomes[-1])
with make() as heap, heap.attach() as m:
    collected(heap, m)
""", combination, seed)
    assert out == "refused works\n"


def test_ranges_are_registered_all_or_none(concurrent, seed):
    """The three spaces are registered one after the other: with few mappings left the second or
    third is refused, and the cycle relocates in its pause."""
    in_child(SCARCE + """
with gcheap.Heap("32MiB", verify=3, **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m, 1000)
    big = m.new_slots(3)
    def renew():
        big[0] = m.new_array("u8", 1 << 20)         # 8 MiB: the huge space
        big[1] = m.new_slots(40_000)                # the runs
        big[0].copy_in(list(range(1000)), 500)
        big[1][39_999] = nodes
    renew()
    heap.collect()
    scarce, refusals = Mappings(), []
    for left in range(0, 16, 2):
        scarce.left(left)
        before = heap.stats()
        m.new_bytes(bytes(70_000))
        renew()
        heap.collect()
        after = heap.stats()
        assert after.relocations == before.relocations + 1
        refusals.append(after.register_refusals - before.register_refusals)
        check()
        assert big[1][39_999] == nodes and big[0][1499] == 999 and big[0][1500] == 0
    scarce.free()
    # Refused while there are too few, and never again once there are enough.
    assert refusals == sorted(refusals, reverse=True) and refusals[0] == 1, refusals
    assert refusals[-1] == 0, refusals
""", concurrent, seed)


@pytest.mark.uninstrumented("it needs mappings when there are none")
def test_threads_come_and_go_without_a_mapping_left(combination, seed):
    """What cannot be unmapped gives its memory back all the same."""
    in_child(SCARCE + """
from system import status_kb
with gcheap.Heap("4MiB", **options) as heap:
    m = heap.attach()
    nodes, check = graph(heap, m, 500)
    m.detach()
    scarce = Mappings()
    scarce.left(6)
    for turn in range(70):
        if turn == 10:                                      # what is imported late has been
            before = status_kb("RssAnon")
        try:
            mine = heap.attach()
        except MemoryError as e:
            assert "max_map_count" in str(e), e
            continue
        check()
        mine.detach()
        heap.collect()
    assert status_kb("RssAnon") - before < 60 * heap.unit_pages * PAGE // 1024 // 2
    scarce.free()
    with heap.attach() as m:
        check()
        collected(heap, m)
""", combination, seed)
