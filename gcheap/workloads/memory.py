"""Watching memory: the peak of the process, and of a heap, sampled at a bounded cost."""

from __future__ import annotations

import resource
import time

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


class ResidentPeak:
    """The greatest `heap.resident_bytes()` seen; `look` samples about 20 times a second.

    A peak between two samples is missed: the figure is a lower bound.
    """

    def __init__(self, heap):
        self._heap = heap
        self._next = 0.0
        self.bytes = 0

    def look(self):
        """Takes a sample when one is due; cheap otherwise.  From one thread."""
        now = time.monotonic()
        if now >= self._next:
            self.bytes = max(self.bytes, self._heap.resident_bytes())
            took = time.monotonic() - now
            self._next = now + max(SAMPLE_SECONDS, took / MOST_OF_THE_TIME)
