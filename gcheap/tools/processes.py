"""Running a program to its end and measuring it: wall time, CPU time, peak RSS."""
import os
import select
import subprocess
import time
from dataclasses import dataclass

from gcheap.kernel_files import fields, kilobytes, text
from gcheap.provenance import ROOT

LOOK_MS = 20                    # between two looks at a program; less in its first moments


class TookTooLong(Exception):
    """A program was ended because its time was over."""


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    status              its exit status, or minus the signal that ended it
    peak_rss_bytes      exact when it is more than this process itself has ever had, which is what
                        wait4()'s figure begins with; else the kernel's peak as it was looked at,
                        every 20 ms: what comes in the last of them is missed.  None: it ended
                        before the first look
    """

    status: int
    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int | None


def run_to_end(command, stdout, stderr, *, environment=None, cwd=None, most_seconds=None):
    """Runs `command` without input, its output to two files; killed when this function is left
    before it has ended.  OSError when it cannot be started, TookTooLong."""
    own = _peak_of("self")
    begun = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                               env=environment, cwd=cwd)
    try:
        peak = _watch(process.pid, None if most_seconds is None else begun + most_seconds)
        seconds = time.monotonic() - begun
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    if usage.ru_maxrss * 1024 > own:
        peak = usage.ru_maxrss * 1024
    return Ended(process.returncode, seconds, usage.ru_utime + usage.ru_stime, peak or None)


def _watch(pid, deadline):
    """Returns the peak RSS when the process has ended; does not reap it."""
    peak, wait = 0, 1
    ended = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        while True:
            # Before waiting: a process that has ended has no memory to tell of.
            peak = max(peak, _peak_of(pid))
            if poll.poll(wait):
                return peak
            wait = min(2 * wait, LOOK_MS)
            if deadline is not None and time.monotonic() > deadline:
                raise TookTooLong
    finally:
        os.close(ended)


def _peak_of(pid):
    """The peak RSS so far; 0 of a process that has ended."""
    return kilobytes(fields(text(ROOT, f"/proc/{pid}/status")).get("VmHWM")) or 0
