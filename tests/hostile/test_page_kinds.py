"""Pages of other kinds: huge ones, always or never, and ones that KSM has merged."""
from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from hostile_support import Running, in_child
from system import Janitor, ksm_at_work, libc, needs_root

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PR_SET_THP_DISABLE, PR_SET_MEMORY_MERGE = 41, 67

# Small objects under load, and arrays of 8 MiB, which move as huge pages where there are any.
BOTH_KINDS = """
import mmap

def huge_kb():
    with open("/proc/self/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("AnonHugePages"))

def given():
    "Whether the kernel gives huge pages to memory that asks for nothing."
    before = huge_kb()
    with mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE) as memory:
        for at in range(0, 16 << 20, PAGE):
            memory[at] = 1
        return huge_kb() > before

def large_arrays():
    before = most = huge_kb()
    with gcheap.Heap("48MiB", **options) as heap, heap.attach() as m:
        kept = m.new_slots(2)
        for n in range(4):
            m.new_array("u8", 1 << 20)                      # garbage: what follows moves
            kept[n % 2] = m.new_array("u8", (1 << 20) + n)
            for at in range(0, 1 << 20, 1 << 15):
                kept[n % 2][at] = at + n
            most = max(most, huge_kb())
            heap.collect()
            for i in range(min(n + 1, 2)):
                made = n - (n - i) % 2
                assert len(kept[i]) == (1 << 20) + made
                assert all(kept[i][at] == at + made for at in range(0, 1 << 20, 1 << 15))
        m.new_array("u1", 1 << 20, pinned=True)[0] = 7
    return most > before

print(given(), large_arrays())
workload(verify=2)
"""


def test_huge_pages_disabled_for_the_process(combination, seed):
    """prctl(PR_SET_THP_DISABLE): what is asked for by madvise is not given, and not needed."""
    out = in_child(f"assert libc.prctl({PR_SET_THP_DISABLE}, 1, 0, 0, 0) == 0\n" + BOTH_KINDS,
                   combination, seed, env_more={"GCHEAP_HUGE_PAGES": "always"})
    assert out == "False False\n"


@needs_root
@pytest.mark.xdist_group("machine")
@pytest.mark.parametrize("system", [
    "always", pytest.param("never", marks=pytest.mark.soak("as when they are disabled"))])
def test_huge_pages_of_the_whole_system(combination, system, seed):
    if not THP.exists():
        pytest.skip("this kernel has no transparent huge pages")
    with Janitor() as janitor:
        janitor.write(THP, system)
        given, got = in_child(BOTH_KINDS, combination, seed,
                              env_more={"GCHEAP_HUGE_PAGES": "system"}).split()
    if system == "always" and given == "False":
        pytest.skip("this machine has no 2 MiB of adjacent free memory to give as a huge page")
    assert (given, got) == ("True",) * 2 if system == "always" else ("False",) * 2


# ---- KSM -----------------------------------------------------------------------------------

@needs_root
@pytest.mark.xdist_group("machine")
@pytest.mark.uninstrumented("it has pages of its own that are merged")
def test_pages_that_ksm_has_merged(combination, seed):
    """Merged pages cannot be moved (EBUSY): those units are copied, and what they held is there."""
    if libc.prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0) and ctypes.get_errno():
        pytest.skip("this kernel cannot merge the memory of a whole process (Linux 6.4)")
    with Running(f"assert libc.prctl({PR_SET_MEMORY_MERGE}, 1, 0, 0, 0) == 0\n" + """
from support import wait_until
with gcheap.Heap("32MiB", **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m)
    alike = m.new_slots(40)
    garbage = m.new_slots(20_000)                           # before them: they will move
    for i in range(40):
        alike[i] = m.new_bytes(b"merge me" * 16_384)        # 128 KiB: moved whole
    def merged():
        return int(open("/proc/self/ksm_merging_pages").read())
    print("ready", flush=True)
    wait_until(lambda: merged() > 1000, "KSM merges them")       # of 1280
    del garbage
    before = heap.stats()
    heap.collect()
    check()
    assert all(bytes(a) == b"merge me" * 16_384 for a in alike)
    after = heap.stats()
    print("refused", after.ioctls["move"].refused.get("EBUSY", 0),
          after.copied_bytes - before.copied_bytes, flush=True)
    for _ in range(3):                                      # while it goes on merging
        m.new_bytes(bytes(100_000))
        heap.collect()
        check()
    assert all(bytes(a) == b"merge me" * 16_384 for a in alike)
workload(verify=2)
""", combination, seed) as child:
        child.hears("ready")
        with ksm_at_work():
            _, busy, copied = child.hears("refused").split()
            if combination["backend"] == "move":
                assert int(busy) > 0 and int(copied) > 0
            child.ends_well()
