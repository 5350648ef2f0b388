"""Helpers of the tests of fault mode `handler`: reads that fault, and threads that sleep in one."""
from __future__ import annotations

import ctypes
import os

import pytest

from gcheap.core import _testing

COUNT = 20_000                  # nodes of 48 bytes: about fifteen units of 16 pages
KEY = 3                         # among the words of a Node: the header and two slots come first
ARRAY = 400_000                 # bytes of an array that nobody has touched: holes

requires_wchan = pytest.mark.skipif(
    not os.access("/proc/self/wchan", os.R_OK), reason="no /proc/self/wchan to see a sleeper in")


holes = pytest.mark.parametrize("by_handler", ["move"], indirect=True)      # COPY leaves none


def words_of(m, ref) -> list[int]:
    """Reads without the GIL: a reader that sleeps in its fault must not stop the interpreter."""
    return _testing.read_words(m.native(), ref, KEY + 1)


def word_at(address: int) -> int:
    """Reads a word as any native thread may, without the GIL.

    By swab(), twice, because ThreadSanitizer does not look into it: that such a read races with the
    collector is what its callers are about.
    """
    swab = ctypes.CDLL(None).swab
    swab.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ssize_t]
    swapped, word = ctypes.c_uint64(), ctypes.c_uint64()
    swab(address, ctypes.byref(swapped), 8)
    swab(ctypes.byref(swapped), ctypes.byref(word), 8)
    return word.value


def sleeping_in_faults() -> int:
    """Threads of this process that the kernel holds in a userfault."""
    found = 0
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/wchan") as wchan:
                found += "userfault" in wchan.read()
        except OSError:                                     # it has just ended
            pass
    return found
