"""A heap's raw array in swap stays there when it moves: nothing of it is read.

As root, with swap space of the tests' own (see test_uffd_swap.py).
"""
from __future__ import annotations

import numpy as np
import pytest
from system import status_kb
from uffd_support import MADV_PAGEOUT, advise

import gcheap

pytestmark = pytest.mark.xdist_group("machine")     # they change settings of all of it

MIB = 1 << 20
SWAP_BYTES = 80 * MIB


def mapping_with(nbytes: int) -> tuple[int, int]:
    """Start and length of the mapping that has the most resident memory, at least `nbytes`."""
    best = (0, 0, 0)
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            head = line.split()
            if "-" in head[0] and not head[0].endswith(":"):
                start, end = (int(x, 16) for x in head[0].split("-"))
            elif head[0] == "Rss:":
                best = max(best, (int(head[1]) << 10, start, end - start))
    assert best[0] >= nbytes
    return best[1:]


def test_a_large_array_in_swap_stays_there(swap):
    try:
        heap = gcheap.Heap("128MiB", backend="move", huge_pages="never")
    except gcheap.OptionError as error:
        pytest.skip(str(error))
    with heap, heap.attach() as m:
        m.new_array("u1", 9 * MIB)                      # garbage: the array will move
        holder = m.new_slots(1)
        holder[0] = big = m.new_array("u8", 8 * MIB - 2)
        for i in range(0, 8 * MIB - 2, MIB):            # 64 MiB, no page like another
            n = min(MIB, 8 * MIB - 2 - i)
            big.copy_in(np.arange(i + 1, i + 1 + n, dtype="u8"), i)
        start, length = mapping_with(64 * MIB)
        for _ in range(20):
            advise(start, length, MADV_PAGEOUT)
            if status_kb("VmSwap") >= 60 << 10:
                break
        else:
            pytest.skip(f"the kernel does not swap out: {status_kb('VmSwap')} of 65536 KiB")
        before = min(status_kb("VmSwap"), 64 << 10)     # without what else was swapped out
        for _ in range(3):
            m.new_array("u1", 9 * MIB)
            moved = heap.stats().moved_bytes
            heap.collect()
            assert heap.stats().moved_bytes - moved >= 64 * MIB
            # A page in the swap cache may be busy; its unit is copied, and so read in.
            assert status_kb("VmSwap") >= before - (heap.stats().copied_bytes >> 10)
        assert heap.stats().copied_bytes <= MIB
        assert np.array_equal(holder[0].copy_out(), np.arange(1, 8 * MIB - 1, dtype="u8"))
