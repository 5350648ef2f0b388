"""Watching memory: the peak of the process, and at what cost a heap is sampled."""

from __future__ import annotations

import resource

SAMPLE_SECONDS = 0.05
MOST_OF_THE_TIME = 0.05  # a large heap is sampled more rarely, to cost at most this share


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
