"""A memory cgroup with a hard limit, swap, swap that is full: killed by the kernel at worst."""
from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from hostile_support import Running, ended, in_child
from support import wait_until
from system import ZRAM_CONTROL, Janitor, needs_root, swap_space

pytestmark = [needs_root, pytest.mark.xdist_group("machine")]    # swap is the whole machine's
MIB = 1 << 20
ROOM = 48                       # MiB that a child may use beside what is charged before it joins

KIND = "zram" if ZRAM_CONTROL.exists() else "file"

BLOBS = """
def blobs(capacity, live):
    "Arrays of 20 kB, of which the latest `live` are kept, and a graph; all of it read at the end."
    def blob(n):
        return n.to_bytes(4, "little") * 5000
    with gcheap.Heap(capacity, **options) as heap, heap.attach() as m:
        nodes, check = graph(heap, m)
        kept = m.new_slots(live)
        for n in range(3 * live):
            kept[n % live] = m.new_bytes(blob(n))
        heap.collect()
        check()
        assert all(bytes(kept[n % live]) == blob(n) for n in range(2 * live, 3 * live))
        assert heap.stats().relocations > 1
"""

TOO_MUCH = BLOBS + """
blobs("160MiB", 3200)           # 64 MB of them live
print("lives")
"""


def killed_or_lives(done) -> None:
    assert done.returncode in (0, -signal.SIGKILL), done
    assert done.stderr == "" and done.stdout == ("lives\n" if done.returncode == 0 else ""), done


class Group:
    """A control group of the memory controller, of either version of cgroups."""

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self._version = version

    @property
    def join(self) -> str:
        """Python that moves its process into the group; what it uses already is not charged."""
        return f'open({str(self.path / "cgroup.procs")!r}, "w").write(str(os.getpid()))\n'

    def limit(self, nbytes: int) -> None:
        name = "memory.limit_in_bytes" if self._version == 1 else "memory.max"
        (self.path / name).write_text(str(nbytes))

    def never_kill(self) -> None:
        """Without memory its processes sleep until there is some: version 1 alone has that."""
        if self._version == 2:
            pytest.skip("cgroups of version 2 cannot turn the OOM killer off")
        (self.path / "memory.oom_control").write_text("1")

    @property
    def starved(self) -> bool:
        return "under_oom 1" in (self.path / "memory.oom_control").read_text()

    @property
    def refusals(self) -> int:
        """How often memory was not to be had within the limit."""
        if self._version == 2:
            events = (self.path / "memory.events").read_text().split()
            return int(events[events.index("max") + 1])
        return int((self.path / "memory.failcnt").read_text())

    @property
    def swapped(self) -> int:
        """Bytes in swap."""
        if self._version == 2:
            return int((self.path / "memory.swap.current").read_text())
        stat = (self.path / "memory.stat").read_text().split()
        return int(stat[stat.index("swap") + 1])

    @property
    def most_swapped(self) -> int:
        """Bytes in swap at most, as the kernel counted; of version 1 the least that it can be."""
        if self._version == 1:
            both = int((self.path / "memory.memsw.max_usage_in_bytes").read_text())
            return both - int((self.path / "memory.limit_in_bytes").read_text())
        peak = self.path / "memory.swap.peak"
        if not peak.exists():
            pytest.skip("this kernel keeps no peak of a group's swap (Linux 6.5)")
        return int(peak.read_text())


def controller() -> tuple[Path, int]:
    """Where groups with a memory controller can be made, and the version."""
    with open("/proc/self/mounts") as mounts:
        for line in mounts:
            _, at, kind, options, *_ = line.split()
            if kind == "cgroup" and "memory" in options.split(","):
                return Path(at), 1
            if kind == "cgroup2" and "memory" in (
                    Path(at) / "cgroup.subtree_control").read_text().split():
                return Path(at), 2
    pytest.skip("no memory controller is mounted")


@contextmanager
def group(megabytes: int):
    """A group with a limit, removed at the end, when its processes are gone."""
    at, version = controller()
    path = at / f"gcheap-test-{os.getpid()}"
    with Janitor() as janitor:
        janitor.promise("rmdir", str(path))
        try:
            path.mkdir()
            made = Group(path, version)
            made.limit(megabytes * MIB)
        except OSError as error:
            pytest.skip(f"no control group can be made: {error}")
        yield made


# ---- within the limit ----------------------------------------------------------------------

@pytest.mark.uninstrumented("it needs more memory itself")
def test_a_heap_within_the_limit_works(combination, seed):
    with group(ROOM) as limited:
        in_child(limited.join + """
workload(live="8MiB", capacity="16MiB", verify=1)
""", combination, seed)


def test_a_heap_beyond_the_limit_is_killed_by_the_kernel_or_lives(combination, seed):
    """Without swap nothing else can happen to memory that does not fit; but nobody hangs, and
    nobody reads what was not written."""
    with group(ROOM) as limited:
        done = ended(limited.join + TOO_MUCH, combination, seed)
        assert limited.refusals > 0
    killed_or_lives(done)


@pytest.mark.uninstrumented("it needs more memory itself", only="thread")
def test_a_heap_waits_for_memory_where_nobody_is_killed(combination, seed):
    """The killer is off: the process sleeps in the kernel until the limit is raised."""
    if len(Path("/proc/swaps").read_text().splitlines()) > 1:
        pytest.skip("this machine has swap, which the group may use")
    with group(24) as limited, Running(limited.join + BLOBS + """
print("ready", flush=True)
blobs("64MiB", 1600)            # 32 MB of them live, whatever relocation takes
""", combination, seed) as child:
        limited.never_kill()
        child.hears("ready")
        wait_until(lambda: limited.starved, "the group is out of memory")
        time.sleep(0.1)
        assert not child.over
        limited.limit(512 * MIB)
        child.ends_well()


# ---- swap ----------------------------------------------------------------------------------

@pytest.mark.uninstrumented("it needs more memory itself")
@pytest.mark.parametrize(("room", "capacity", "live"), [
    (20, "32MiB", 800), pytest.param(ROOM, "96MiB", 3200, marks=pytest.mark.soak("13 seconds"))])
def test_a_heap_beyond_the_limit_works_with_swap(combination, room, capacity, live, seed):
    """Marking and relocation run over pages that are not there."""
    with swap_space(KIND, 160 * MIB), group(room) as limited:
        for _ in range(3):          # the kernel may kill before it has swapped out enough
            with Running(limited.join + BLOBS + f"""
print("ready", flush=True)
blobs({capacity!r}, {live})
""", combination, seed) as child:
                child.hears("ready")
                most = 0
                while not child.over:
                    most = max(most, limited.swapped)
                    time.sleep(0.01)
                status, _, said = child.wait()
            assert status in (0, -signal.SIGKILL) and said == "", (status, said)
            if status == 0:
                break
        assert status == 0 and most > MIB, (status, most)


def test_swap_that_is_full_kills_or_lets_live(combination, seed):
    with swap_space(KIND, 8 * MIB), group(ROOM) as limited:
        for _ in range(10):         # the kernel may kill before it is full
            done = ended(limited.join + TOO_MUCH, combination, seed)
            killed_or_lives(done)
            if limited.most_swapped > 7 * MIB:
                break
        assert limited.refusals > 0 and limited.most_swapped > 7 * MIB, limited.most_swapped
