"""What relocation does to memory: given back, huge, sparse, swapped out, shared by a fork.

    python benchmarks/memory.py [CASE...]

Each case runs in a process of its own, prints what it measured, and says when it does not apply
here.  `swap` needs 300 MiB of swap space.  Numbers are of this machine, now; what must hold on any
is tested in tests/test_large_objects.py, tests/uffd/test_uffd_heap.py and tests/test_fork.py.
"""
from __future__ import annotations

import argparse
import ctypes
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
MADV_PAGEOUT = 21
COLUMN = 34


def status_mib(name: str) -> float:
    return int(re.search(rf"{name}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def huge_mib() -> float:
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"AnonHugePages:\s*(\d+)", text)[1]) / 1024


def say(name: str, value: str) -> None:
    print(f"{name:{COLUMN}} {value}", flush=True)


def backends() -> list[str]:
    import gcheap

    with gcheap.Heap("min") as heap:
        best = heap.backend
    ladder = ["move", "copy", "stw"]
    return ladder[ladder.index(best):]


def relocations_ms(heap, m, times: int) -> list[float]:
    """Forced cycles that move everything: 9 MiB of garbage lie before it each time."""
    took = []
    for _ in range(times):
        m.new_array("u1", 9 * MIB)
        heap.collect()
        took.append(heap.cycles()["relocate_ns"][-1] / 1e6)
    return took


def given_back() -> None:
    """Resident memory after everything was dropped and collected, over what it was before."""
    import gcheap

    gcheap.Records                      # noqa: B018  (numpy comes now, not within the measurement)
    for backend in backends():
        for size in (64, 256, 1024):
            with gcheap.Heap(f"{2 * size}MiB", backend=backend) as heap, heap.attach() as m:
                node = heap.shape("Node", refs=("next",), raw=[("a", "u8"), ("b", "u8")])
                heap.collect()
                before = status_mib("RssAnon")
                table = m.new_slots(size * MIB // 64)
                for i in range(0, size * MIB // 64, 32):        # 1 KiB each
                    table[i] = m.new_bytes(bytes(1000))
                    table[i + 1] = m.new(node)
                full = status_mib("RssAnon")
                del table
                heap.collect()
                say(f"{backend}, {size} MiB live", f"{full - before:.0f} MiB resident, then "
                    f"{status_mib('RssAnon') - before:+.1f} MiB")


def huge() -> None:
    """1 GiB in huge pages: time of a relocation, and whether the pages stay huge."""
    import numpy as np

    import gcheap

    with gcheap.Heap("1200MiB", huge_pages="always") as heap, heap.attach() as m:
        small = [m.new_bytes(bytes(3000)) for _ in range(10_000)]       # where it will lie later
        heap.collect()
        del small
        array = m.new_array("u1", GIB)
        for at in range(0, GIB, 64 * MIB):
            array.copy_in(np.full(64 * MIB, at // MIB % 251 + 1, dtype="u1"), at)
        before = huge_mib()
        took = relocations_ms(heap, m, 10)
        say(f"{heap.backend}, 10 relocations of 1 GiB", f"median {statistics.median(took):.2f} ms, "
            f"{min(took):.2f} to {max(took):.2f}")
        say("AnonHugePages", f"{before:.0f} MiB, then {huge_mib():.0f} MiB")


def sparse() -> None:
    """1 GiB of which every hundredth page was touched."""
    import gcheap

    for backend in backends():
        heap = gcheap.Heap("1200MiB", backend=backend, huge_pages="never")
        with heap, heap.attach() as m:
            array = m.new_array("u1", GIB)
            for at in range(0, GIB, 100 * 4096):
                array[at] = 1
            before = status_mib("RssAnon")
            took = relocations_ms(heap, m, 3)
            say(f"{backend}, 1 GiB sparse", f"{before:.0f} MiB resident, then "
                f"{status_mib('RssAnon'):.0f} MiB; {statistics.median(took):.0f} ms")


def swap() -> None:
    """256 MiB that are swapped out: do they stay there?"""
    import numpy as np

    import gcheap

    free = int(re.search(r"SwapFree:\s*(\d+)", Path("/proc/meminfo").read_text())[1]) / 1024
    if free < 300:
        return say("swapped out", f"not here: {free:.0f} MiB of swap are free")
    with gcheap.Heap("320MiB", huge_pages="never") as heap, heap.attach() as m:
        m.new_array("u1", 9 * MIB)
        array = m.new_array("u8", 32 * MIB)
        for at in range(0, 32 * MIB, MIB):
            array.copy_in(np.arange(at + 1, at + 1 + MIB, dtype="u8"), at)
        libc = ctypes.CDLL(None, use_errno=True)
        for line in Path("/proc/self/smaps").read_text().split("VmFlags")[:-1]:
            span = re.search(r"^([0-9a-f]+)-([0-9a-f]+) rw", line, re.MULTILINE)
            if span and int(re.search(r"Rss:\s*(\d+)", line)[1]) >= 250 << 10:
                start, end = (int(x, 16) for x in span.groups())
                for _ in range(5):
                    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start),
                                 MADV_PAGEOUT)
        before = status_mib("VmSwap")
        took = relocations_ms(heap, m, 5)
        stats = heap.stats()
        say(f"{heap.backend}, 256 MiB, 5 relocations", f"VmSwap {before:.1f} MiB, then "
            f"{status_mib('VmSwap'):.1f} MiB; {stats.copied_bytes >> 10} KiB copied; "
            f"{min(took):.0f} to {max(took):.0f} ms")


def leaks() -> None:
    """100 million allocations that die at once: the census before and after."""
    import numpy as np

    import gcheap
    from gcheap.workloads._micro import alloc_loop

    with gcheap.Heap("64MiB") as heap, heap.attach() as m:
        shape = heap.shape("Small", raw=[("filler", "V24")])
        kept = [m.new(shape) for _ in range(1000)]
        heap.collect()
        before, live, cycles = heap.census(), heap.stats().live_bytes, heap.stats().cycles
        started = time.monotonic()
        for _ in range(10):
            alloc_loop(m.native(), shape.id, 10_000_000)
        took = time.monotonic() - started
        heap.collect()
        say("100 M allocations", f"{took:.1f} s, {heap.stats().cycles - cycles} cycles; live "
            f"{live}, then {heap.stats().live_bytes}; census the same: "
            f"{np.array_equal(before, heap.census())}; {len(kept)} objects kept")


def fork() -> None:
    """Ten forks while pages move; parent and child walk all of it and collect."""
    import gcheap
    from gcheap import failpoints

    for backend in backends():
        with gcheap.Heap("64MiB", backend=backend, verify=3) as heap, heap.attach() as m:
            node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])

            def walk(first, count=100_000):
                seen = 0
                while first is not None:
                    assert first.key == seen
                    first, seen = first.next, seen + 1
                assert seen == count

            first = None
            for key in range(99_999, -1, -1):
                first = m.new(node, next=first, key=key)
            statuses = []
            shared = m.new_array("u1", 9 * MIB)         # moves whole: refused once it is shared
            shared[0] = shared[9 * MIB - 1] = 7
            for _ in range(10):
                m.new_array("u1", 9 * MIB)
                with failpoints.delay("compactor.claimed", 20_000):
                    heap.collect(wait=False)
                    child = os.fork()
                    if child == 0:
                        for _ in range(3):
                            walk(first)
                            heap.collect()
                        os._exit(0)
                walk(first)
                assert shared[0] == shared[9 * MIB - 1] == 7
                statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            refused = heap.stats().ioctls["move"].refused
            say(f"{backend}, 10 forks", f"children's statuses {sorted(set(statuses))}, MOVE "
                f"refused {dict(refused)}")


CASES: dict[str, Callable[[], None]] = {
    "given-back": given_back, "huge": huge, "sparse": sparse, "swap": swap, "leaks": leaks,
    "fork": fork}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--inside", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        CASES[options.inside]()
        return 0
    unknown = set(options.case) - set(CASES)
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    status = 0
    for name in options.case or CASES:
        print(f"\n{name}: {CASES[name].__doc__}", flush=True)
        status |= subprocess.run([sys.executable, __file__, "--inside", name]).returncode
    return int(bool(status))


if __name__ == "__main__":
    sys.exit(main())
