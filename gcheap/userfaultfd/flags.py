"""The kernel's words as flags.  In brackets the first kernel that knows each bit.

Every mode has a class of its own, so that a bit of one ioctl cannot slip into another (bit 1 is
WP for COPY and ALLOW_SRC_HOLES for MOVE).  Bits that are newer than this list are kept.
"""
from __future__ import annotations

import operator
from enum import KEEP, Flag
from typing import TypeVar


class Features(Flag, boundary=KEEP):
    """What UFFDIO_API negotiates."""

    PAGEFAULT_FLAG_WP = 1 << 0          # write-protect mode on anonymous memory [5.7]
    EVENT_FORK = 1 << 1                 # [4.11; needs CAP_SYS_PTRACE]
    EVENT_REMAP = 1 << 2                # [4.11]
    EVENT_REMOVE = 1 << 3               # [4.11]
    MISSING_HUGETLBFS = 1 << 4          # [4.11]
    MISSING_SHMEM = 1 << 5              # [4.11]
    EVENT_UNMAP = 1 << 6                # [4.11]
    SIGBUS = 1 << 7                     # faults are answered by SIGBUS, not by events [4.14]
    THREAD_ID = 1 << 8                  # page fault events name the thread [4.14]
    MINOR_HUGETLBFS = 1 << 9            # [5.13]
    MINOR_SHMEM = 1 << 10               # [5.14]
    EXACT_ADDRESS = 1 << 11             # addresses of faults are not rounded down [5.18]
    WP_HUGETLBFS_SHMEM = 1 << 12        # [5.19]
    WP_UNPOPULATED = 1 << 13            # missing anonymous pages can be protected [6.4]
    POISON = 1 << 14                    # [6.6]
    WP_ASYNC = 1 << 15                  # the kernel lifts the protection by itself [6.7]
    MOVE = 1 << 16                      # [6.8]


class Ioctls(Flag, boundary=KEEP):
    """Which ioctls a descriptor (`Userfaultfd.ioctls`) or a range (`register`) has."""

    REGISTER = 1 << 0x00                # [4.3]
    UNREGISTER = 1 << 0x01              # [4.3]
    WAKE = 1 << 0x02                    # [4.3]
    COPY = 1 << 0x03                    # [4.3]
    ZEROPAGE = 1 << 0x04                # [4.3]
    MOVE = 1 << 0x05                    # [6.8]
    WRITEPROTECT = 1 << 0x06            # [5.7]
    CONTINUE = 1 << 0x07                # [5.13]
    POISON = 1 << 0x08                  # [6.6]
    API = 1 << 0x3F                     # [4.3]


class RegisterMode(Flag, boundary=KEEP):
    """Which faults in a registered range are reported."""

    MISSING = 1                         # no page there [4.3]
    WP = 2                              # a write to a protected page [5.7]
    MINOR = 4                           # page in the page cache, not in the page table [5.13]


class CopyMode(Flag, boundary=KEEP):
    DONTWAKE = 1                        # waiting threads go on waiting, until `wake` [4.3]
    WP = 2                              # the new pages are write-protected [5.7]


class ZeropageMode(Flag, boundary=KEEP):
    DONTWAKE = 1                        # [4.3]


class MoveMode(Flag, boundary=KEEP):
    DONTWAKE = 1                        # [6.8]
    ALLOW_SRC_HOLES = 2                 # missing source pages count as moved, stay holes [6.8]


class WriteProtectMode(Flag, boundary=KEEP):
    """An empty value lifts the protection."""

    WP = 1                              # protect [5.7]
    DONTWAKE = 2                        # only when lifting [5.7]


class ContinueMode(Flag, boundary=KEEP):
    DONTWAKE = 1                        # [5.13]
    WP = 2                              # the new mapping is write-protected [6.4]


class PoisonMode(Flag, boundary=KEEP):
    DONTWAKE = 1                        # [6.6]


class FaultFlags(Flag, boundary=KEEP):
    """Of a page fault event.  Empty: a read of a missing page."""

    WRITE = 1                           # by a write [4.3]
    WP = 2                              # the page is write-protected [5.7]
    MINOR = 4                           # the page is in the page cache [5.13]


FlagType = TypeVar("FlagType", bound=Flag)


def bits(value: FlagType | int, kind: type[FlagType]) -> int:
    """The word for the kernel.  Ints pass as they are; flags must be of the class `kind`."""
    if isinstance(value, kind):
        word: int = value.value
        return word
    if isinstance(value, Flag):
        raise TypeError(f"expected {kind.__name__} or int, not {value!r}")
    return operator.index(value)
