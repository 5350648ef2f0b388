"""How much memory there is for a run, and how much it needs: on machines made of files."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import PATIENCE
from workload_support import configured

from gcheap.errors import OptionError
from gcheap.workloads import WORKLOADS, find, memory
from gcheap.workloads.memory import Room

GIB = 1 << 30
MEMINFO = """MemTotal: 4194304 kB
MemFree: 1 kB
MemAvailable: 3145728 kB
SwapTotal: 1048576 kB
SwapFree: 524288 kB
"""
SECOND = "0::/outer/inner\n"
MOUNT_2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
FIRST = "5:devices:/\n4:cpu,memory:/outer/inner\n0::/\n"
MOUNT_1 = ("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
           "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
           "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
           "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n")
HALF = GIB // 2


@pytest.fixture
def machine(tmp_path):
    """room() of a machine with these files; a list stands for numbers of memory.*."""
    def made(files, meminfo=MEMINFO):
        for name, content in {"proc/meminfo": meminfo, **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        with_swap, without = memory.room(tmp_path), memory.room(tmp_path, with_swap=False)
        assert without.total <= with_swap.total and without.available <= with_swap.available
        return with_swap
    return made


def test_a_machine_has_its_memory_and_its_swap(machine, tmp_path):
    assert machine({}) == Room(5 * GIB, 3 * GIB + HALF)
    assert memory.room(tmp_path, with_swap=False) == Room(4 * GIB, 3 * GIB)
    assert machine({"proc/self/cgroup": FIRST}) == Room(5 * GIB, 3 * GIB + HALF)


def test_a_machine_that_tells_nothing_has_what_sysconf_says(tmp_path):
    assert memory.room(tmp_path).available > 0


@pytest.mark.parametrize(("limits", "total", "available"), [
    ({"memory.max": "max"}, 5 * GIB, 3 * GIB + HALF),
    ({"memory.max": GIB, "memory.swap.max": 0}, GIB, GIB),
    ({"memory.max": GIB, "memory.swap.max": 0, "memory.current": HALF}, GIB, HALF),
    ({"memory.max": GIB, "memory.swap.max": 0, "memory.current": HALF,
      "memory.stat": f"anon 5\ninactive_file {HALF // 2}\nactive_file {HALF // 4}"},
     GIB, GIB - HALF // 4),
    ({"memory.max": GIB, "memory.swap.max": GIB}, 2 * GIB, GIB + HALF),
    ({"memory.max": GIB, "memory.swap.max": HALF, "memory.swap.current": HALF // 2},
     GIB + HALF, GIB + HALF // 2),
    ({"memory.max": GIB, "memory.swap.max": "max"}, 2 * GIB, GIB + HALF),
    ({"memory.max": GIB, "memory.current": 2 * GIB, "memory.swap.max": 0}, GIB, 0),
    ({"../memory.max": 2 * GIB, "memory.max": "max"}, 3 * GIB, 2 * GIB + HALF),
    ({"../memory.max": GIB, "../memory.swap.max": 0, "memory.max": 2 * GIB}, GIB, GIB)])
def test_a_control_group_of_version_2_may_allow_less(machine, limits, total, available):
    found = machine({"proc/self/cgroup": SECOND, "proc/self/mountinfo": MOUNT_2} | {
        f"sys/fs/cgroup/outer/inner/{name}": f"{value}\n" for name, value in limits.items()}
        | {"sys/fs/cgroup/outer/inner/cgroup.procs": ""})
    assert (found.total, found.available) == (total, available)
    assert (found.limited_by is None) == (available == 3 * GIB + HALF)


@pytest.mark.parametrize(("limits", "total", "available"), [
    ({"limit_in_bytes": 9223372036854771712, "memsw.limit_in_bytes": 9223372036854771712},
     5 * GIB, 3 * GIB + HALF),
    ({"limit_in_bytes": GIB, "memsw.limit_in_bytes": GIB}, GIB, GIB),
    ({"limit_in_bytes": GIB}, 2 * GIB, GIB + HALF),
    ({"limit_in_bytes": GIB, "memsw.limit_in_bytes": GIB, "usage_in_bytes": HALF,
      "stat": f"inactive_file 7\ntotal_inactive_file {HALF // 2}"}, GIB, GIB - HALF // 2),
    ({"../limit_in_bytes": GIB, "../memsw.limit_in_bytes": GIB, "limit_in_bytes": 2 * GIB},
     GIB, GIB),
    ({"../../limit_in_bytes": GIB, "../../memsw.limit_in_bytes": GIB}, GIB, GIB)])
def test_a_control_group_of_version_1_does_as_well(machine, limits, total, available):
    found = machine({"proc/self/cgroup": FIRST, "proc/self/mountinfo": MOUNT_1} | {
        f"sys/fs/cgroup/memory/outer/inner/{name.rpartition('/')[0]}/memory."
        f"{name.rpartition('/')[2]}": f"{value}\n" for name, value in limits.items()}
        | {"sys/fs/cgroup/memory/outer/inner/cgroup.procs": ""})
    assert (found.total, found.available) == (total, available)


@pytest.mark.parametrize(("group", "mounted", "place"), [
    ("/docker/abc", "/docker/abc", ""),             # a container that sees its own group as the top
    ("/docker/abc/job", "/docker/abc", "job/"),
    ("/../elsewhere", "/", ""), ("/other", "/docker/abc", "")])     # outside of its name space
def test_groups_are_found_where_they_are_mounted(machine, group, mounted, place):
    mount = f"35 31 0:32 {mounted} /mnt/all\\040groups rw - cgroup2 none rw\n"
    found = machine({"proc/self/cgroup": f"0::{group}\n", "proc/self/mountinfo": mount,
                     f"mnt/all groups/{place}memory.max": f"{GIB}\n",
                     f"mnt/all groups/{place}memory.swap.max": "0\n"})
    assert found == Room(GIB, GIB, f"/mnt/all groups/{place}".rstrip("/"))


def test_this_machine_can_be_read():
    found = memory.room()
    assert 0 < found.available <= found.total


# ---- what a run needs ------------------------------------------------------------------------

@pytest.mark.parametrize(("options", "told"), [
    ({"workload": "churn", "live": "3GiB"}, "live 3 GiB: churn needs that, and this machine gives a"
     " process 2 GiB of memory and swap in /g now, of 4 GiB; ask for less live data"),
    ({"workload": "churn", "live": "1GiB", "capacity": "1100MiB"}, None),
    ({"workload": "churn", "live": "1500MiB"}, "capacity 2.9 GiB: churn needs that, and .* less "
     "capacity, or another policy"),
    ({"workload": "churn", "live": "1500MiB", "policy": "factor:2"}, None),
    ({"workload": "weak-table", "live": "1GiB"}, "live 1 GiB: weak-table needs that and 1.2 GiB "
     "outside the heap"),
    ({"workload": "wide", "live": "1GiB", "capacity": "1900MiB"}, None)])    # its array ends before
def test_a_run_that_does_not_fit_is_refused(options, told, monkeypatch):
    monkeypatch.setattr(memory, "room", lambda: Room(4 * GIB, 2 * GIB, "/g"))
    if told is None:
        configured(**{"name": options.pop("workload")} | options)
    else:
        with pytest.raises(OptionError, match=told):
            configured(**{"name": options.pop("workload")} | options)


MEASURE = """
import sys
from workload_support import Driven

def resident():
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[1]) * 4096

with Driven(sys.argv[1]) as driven:
    driven.run(10)
before = resident()
with Driven(sys.argv[1], live=32 << 20) as driven:
    driven.run(10)
    driven.heap.collect()
    held = None
    while held != driven.heap.resident_bytes():     # what the cycle left is being given back
        held, found = driven.heap.resident_bytes(), resident()
    print(found - before - held)
"""


@pytest.mark.uninstrumented("its shadow is resident memory too")
@pytest.mark.parametrize("name", [name for name in WORKLOADS if find(name).outside])
def test_what_is_said_to_be_outside_the_heap_is_there(name):
    path = os.pathsep.join(os.path.abspath(place) for place in (
        os.path.dirname(__file__), os.path.join(os.path.dirname(__file__), "..")))
    done = subprocess.run([sys.executable, "-c", MEASURE, name], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": path}, timeout=PATIENCE, check=True)
    said = find(name).bytes_outside(configured(name, live=32 << 20, mutators=1))
    # A thread, a heap and malloc have 3 to 10 MiB themselves.
    assert 0.6 * said <= int(done.stdout) <= 1.4 * said + (12 << 20)
