"""What the machine has, the peak of the process, and at what cost a heap is sampled."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

from gcheap.errors import OptionError
from gcheap.options import format_size

SAMPLE_SECONDS = 0.05
MOST_OF_THE_TIME = 0.05  # a large heap is sampled more rarely, to cost at most this share


def machine_bytes(root: str = "/") -> int:
    """Memory that a process can have here: of the machine with its swap, or what the control
    groups allow, if that is less.  `root`: where /proc and /sys are found."""
    total = 0
    with suppress(OSError, ValueError, IndexError):
        for line in Path(root, "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith(("MemTotal:", "SwapTotal:")):
                total += int(line.split()[1]) * 1024
    total = total or os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()
    return min([total, *_group_limits(Path(root))])


def _group_limits(root):
    """memory.max (and swap beside it) of this process's control group and those above it."""
    limits = []
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/"):
                group = Path(line[len("0::/"):])
                for part in (group, *group.parents):
                    place = root / "sys/fs/cgroup" / part
                    with suppress(OSError, ValueError):
                        limit = int((place / "memory.max").read_text())
                        with suppress(OSError):
                            swap = (place / "memory.swap.max").read_text().strip()
                            if swap == "max":
                                continue
                            limit += int(swap)
                        limits.append(limit)
    return limits


def check_memory(live: int, capacity: int | None, label: str = "capacity") -> None:
    """OptionError for a run that the machine's memory cannot hold.

    `capacity`: of a heap that will fill it before each cycle; None when it will not.  `label` is
    how a message calls it.
    """
    has = machine_bytes()
    for name, needed, instead in (("live", live, "less live data"),
                                  (label, capacity, "less capacity, or another policy")):
        if needed is not None and needed > has:
            raise OptionError(
                f"{name} {format_size(needed)}: this machine gives a process {format_size(has)} of "
                f"memory and swap; ask for {instead}")


def reset_peak_rss() -> bool:
    """Lets the kernel's peak RSS of this process start anew; false where it cannot."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:
            refs.write("5")
    except OSError:
        return False
    return True


def peak_rss_bytes() -> int:
    """The kernel's peak RSS of this process, since `reset_peak_rss` or its start."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
