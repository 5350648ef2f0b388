"""What the machine has, the peak of the process, and at what cost a heap is sampled."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

from gcheap.control_groups import memory_groups
from gcheap.errors import OptionError
from gcheap.kernel_files import fields, kilobytes, text
from gcheap.options import format_size

SAMPLE_SECONDS = 0.05
MOST_OF_THE_TIME = 0.05  # a large heap is sampled more rarely, to cost at most this share


@dataclass(frozen=True)
class Room:
    """Memory that a process can have here.  Bytes.

    total       of the machine, or what a control group allows, if that is less
    available   of it now: not what other processes have, nor this one already
    limited_by  the control group that leaves the least; None: the machine
    """

    total: int
    available: int
    limited_by: str | None = None


def room(root: str = "/", with_swap: bool = True) -> Room:
    """`with_swap`: False where what is measured should not be swapped out.  `root`: where /proc
    and /sys are found."""
    place = Path(root)
    known = fields(text(place, "/proc/meminfo"))
    memory, available, swap, swap_free = (kilobytes(known.get(name)) for name in (
        "MemTotal", "MemAvailable", "SwapTotal", "SwapFree"))
    swap, swap_free = (swap or 0, swap_free or 0) if with_swap else (0, 0)
    memory = memory or os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()
    found = Room(memory + swap, (memory if available is None else available) + swap_free)
    for group in memory_groups(place):
        beside, free = swap, swap_free
        if group.swap_limit is not None:
            beside = min(swap, group.swap_limit)
            free = min(swap_free, max(0, group.swap_limit - group.swap_used))
        available = max(0, group.limit - group.used) + free
        found = Room(min(found.total, group.limit + beside), min(found.available, available),
                     group.path if available < found.available else found.limited_by)
    return found


def check_memory(config, workload, label: str = "capacity") -> None:
    """OptionError for a run that needs more memory than there is for it.

    It needs what the heap will hold (its capacity, if the policy lets it fill that before each
    cycle, else the live bytes at least), and what the workload keeps outside.  `label` is how a
    message calls the capacity.
    """
    outside = workload.bytes_outside(config)
    there = room()
    for name, heap, instead in (("live", config.live, "less live data"),
                                (label, config.capacity, "less capacity, or another policy")):
        needed = heap + outside
        if needed <= there.available or (name != "live" and config.policy != "fixed"):
            continue
        beside = f" and {format_size(outside)} outside the heap" if outside else ""
        which = f" in {there.limited_by}" if there.limited_by else ""
        total = "" if there.total == there.available else f" now, of {format_size(there.total)}"
        raise OptionError(
            f"{name} {format_size(heap)}: {config.workload} needs that{beside}, and this machine "
            f"gives a process {format_size(there.available)} of memory and swap{which}{total}; "
            f"ask for {instead}")


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
