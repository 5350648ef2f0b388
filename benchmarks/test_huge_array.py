"""A raw array of 1 GiB in huge pages: seconds of relocation, beside what a cycle is."""
import re
import statistics
from pathlib import Path

import numpy as np
import pytest

import gcheap

MIB = 1 << 20
CYCLES = 10


def huge_pages() -> int:
    """Bytes in transparent huge pages, of mappings as large as a heap's halves: Python's own come
    and go."""
    smaps = Path("/proc/self/smaps").read_text()
    return sum(int(huge) << 10 for size, huge in re.findall(
        r"^Size: *(\d+) kB.*?^AnonHugePages: *(\d+) kB", smaps, re.MULTILINE | re.DOTALL)
        if int(size) << 10 >= 1024 * MIB)


@pytest.fixture
def full_heap():
    """A heap whose ranges have held small objects, large arrays in small pages and huge ones: page
    tables may be left of each."""
    try:
        heap = gcheap.Heap("2GiB", backend="move", huge_pages="always", policy="fixed")
    except gcheap.OptionError as error:
        pytest.skip(str(error))
    with heap, heap.attach("benchmark") as mutator:
        node = heap.shape("Node", refs=("next",), raw=[("filler", "V48")])
        for _ in range(2):
            # A page of each: a small one, where huge pages come later or not at all.
            sparse = [mutator.new_array("u1", 9 * MIB) for _ in range(60)]
            for array in sparse:
                array[len(array) // 2] = 1
            chain = None
            for _ in range(500_000):
                chain = mutator.new(node, next=chain)
            heap.collect()
            del sparse, chain
            heap.collect()
        yield heap, mutator


def test_relocation(benchmark, full_heap):
    """Ten cycles in a row, each of which moves the array.  `relocate_ms` is from the flip until its
    last page is placed and the source released; the round is the whole cycle.  Huge pages stay
    whole, and nothing is copied."""
    heap, mutator = full_heap
    garbage, array = mutator.new_array("u1", 9 * MIB), mutator.new_array("u8", 128 * MIB - 2)
    for first in range(0, 128 * MIB - 2, MIB):
        count = min(MIB, 128 * MIB - 2 - first)
        array.copy_in(np.arange(first, first + count, dtype="u8"), first)
    del garbage
    heap.collect()
    before = huge_pages()
    if before < 1000 * MIB:
        pytest.skip(f"no huge pages to be had: {before >> 20} MiB of 1024")
    moved = heap.stats().moved_bytes
    benchmark.pedantic(heap.collect, rounds=CYCLES)
    assert huge_pages() >= before
    assert heap.stats().moved_bytes - moved >= CYCLES * 1024 * MIB
    assert heap.stats().copied_bytes == 0
    for first in range(0, 128 * MIB - 2, 16 * MIB + 1):
        assert array[first] == first
    relocate = heap.cycles()["relocate_ns"][-CYCLES:] / 1e6
    benchmark.extra_info["relocate_ms"] = statistics.median(relocate)
    benchmark.extra_info["relocate_ms_worst"] = max(relocate)
    print(f"relocation of 1 GiB: median {statistics.median(relocate):.2f} ms, worst "
          f"{max(relocate):.2f} ms of {CYCLES} cycles; {before >> 20} MiB in huge pages")
