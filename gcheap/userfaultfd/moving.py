"""`move_all`: MOVE as far as it goes, COPY where it is refused, and an exact report."""
from __future__ import annotations

import mmap
import time
from dataclasses import dataclass, field
from errno import EAGAIN, EBUSY
from typing import Protocol

from gcheap.userfaultfd.flags import MoveMode
from gcheap.userfaultfd.problems import UffdError, refused


class Placing(Protocol):
    """The two calls it is made of; each answers (bytes done, errno or 0)."""

    def move(self, dst: int, src: int, length: int, mode: int) -> tuple[int, int]: ...
    def copy(self, dst: int, src: int, length: int, mode: int) -> tuple[int, int]: ...


@dataclass
class MoveReport:
    """What `move_all` did.  Bytes; ranges are (offset, length) from the start of the call.

    Copied pages are still in the source: drop them with MADV_DONTNEED when they are not needed.
    """

    moved: int = 0
    copied: int = 0
    moved_ranges: list[tuple[int, int]] = field(default_factory=list)
    copied_ranges: list[tuple[int, int]] = field(default_factory=list)
    calls: int = 0                      # ioctls made

    @property
    def done(self) -> int:
        """`moved + copied`."""
        return self.moved + self.copied

    def _extend(self, ranges: list[tuple[int, int]], offset: int, length: int) -> None:
        if ranges and sum(ranges[-1]) == offset:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + length)
        else:
            ranges.append((offset, length))


def move_all(kernel: Placing, dst: int, src: int, length: int, mode: int, copying: bool,
             patience: float) -> MoveReport:
    """See `Userfaultfd.move_all`."""
    page = mmap.PAGESIZE
    copy_mode = mode & MoveMode.DONTWAKE.value
    report = MoveReport()
    since: float | None = None          # of the first EAGAIN in a row without progress
    copy_next = False
    # At least one call, so that a length that the kernel refuses is refused.
    while report.done < length or not report.calls:
        offset = report.done
        report.calls += 1
        if copy_next:
            done, errno = kernel.copy(dst + offset, src + offset, page, copy_mode)
            report.copied += done
            if done:
                report._extend(report.copied_ranges, offset, done)
        else:
            done, errno = kernel.move(dst + offset, src + offset, length - offset, mode)
            report.moved += done
            if done:
                report._extend(report.moved_ranges, offset, done)
        if done:
            since = None
        if errno == EAGAIN:
            # A short answer hides its cause: asking for the rest tells.  Without progress it
            # passes by itself, unless it waits for this very thread to read an event.
            if not done:
                since = since or time.monotonic()
                if time.monotonic() - since > patience:
                    break
                time.sleep(0)
        elif errno == EBUSY and copying and not copy_next:
            copy_next = True
            continue
        elif errno:
            break
        if done:
            copy_next = False
    else:
        return report
    raise _failure("COPY" if copy_next else "MOVE", errno, report, length)


def _failure(ioctl: str, errno: int, report: MoveReport, length: int) -> UffdError:
    error = refused(ioctl, errno, report.done, length)
    error.report = report
    return error
