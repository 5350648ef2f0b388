"""CPU time of this process, and of the threads in it that only collect."""
from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass

TASKS = "/proc/self/task"
COLLECTING = ("gcheap-collect", "gcheap-faults")    # as their threads are named


@dataclass(frozen=True)
class CpuTime:
    """ns of CPU time used so far; `collector_ns` is of all heaps of the process."""

    process_ns: int = 0
    collector_ns: int = 0

    @classmethod
    def now(cls) -> CpuTime:
        return cls(time.process_time_ns(), sum(map(_thread_ns, os.listdir(TASKS))))


def _thread_ns(task: str) -> int:
    """Of a thread that collects; 0 of any other, and of one that has just ended."""
    with suppress(OSError, ValueError):
        with open(f"{TASKS}/{task}/comm") as name:
            if name.read().strip() not in COLLECTING:
                return 0
        with open(f"{TASKS}/{task}/schedstat") as times:
            return int(times.read().split()[0])
    return 0
