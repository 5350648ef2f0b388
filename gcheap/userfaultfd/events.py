"""Typed events, as `Userfaultfd.read_events` returns them.  Addresses and lengths in bytes."""
from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from gcheap.userfaultfd.flags import FaultFlags

if TYPE_CHECKING:
    from gcheap.userfaultfd.api import Userfaultfd

PAGEFAULT, FORK, REMAP, REMOVE, UNMAP = 0x12, 0x13, 0x14, 0x15, 0x16


@dataclass(frozen=True)
class PagefaultEvent:
    """A thread waits for a page, until a copy, zeropage, move ... or `wake` of it.

    `address` is rounded down to the page, unless EXACT_ADDRESS was asked for; `thread_id` is
    None unless THREAD_ID was asked for, else the id of the thread as the reading process's pid
    namespace sees it.
    """

    address: int
    flags: FaultFlags
    thread_id: int | None

    @property
    def page(self) -> int:
        """`address`, rounded down to the (small) page."""
        return self.address & -mmap.PAGESIZE


@dataclass(frozen=True)
class ForkEvent:
    """The process forked.  `child` manages the child's copy of the registered ranges.

    The receiver owns `child`: serve it, or close it, and the child's missing pages read as zero.
    """

    child: Userfaultfd


@dataclass(frozen=True)
class RemapEvent:
    """mremap moved `length` registered bytes from `old` to `new`; still registered there."""

    old: int
    new: int
    length: int


@dataclass(frozen=True)
class RemoveEvent:
    """madvise (MADV_DONTNEED, MADV_REMOVE, MADV_FREE) dropped the pages of [start, end).

    Still registered: the next touch is a page fault event.
    """

    start: int
    end: int


@dataclass(frozen=True)
class UnmapEvent:
    """munmap (or mremap, or mmap over it) removed [start, end)."""

    start: int
    end: int


Event: TypeAlias = PagefaultEvent | ForkEvent | RemapEvent | RemoveEvent | UnmapEvent
