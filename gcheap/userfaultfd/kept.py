"""Buffers that stay alive, unmovable, while their memory is registered."""
from __future__ import annotations

import threading


class KeptBuffers:
    """Which registered addresses belong to which exported buffer.

    An exported `mmap` cannot be closed or resized, so a registered range never vanishes under
    the kernel.  Any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[tuple[int, int, memoryview]] = []

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, start: int, end: int, view: memoryview) -> None:
        with self._lock:
            self._kept.append((start, end, view))

    def remove(self, start: int, end: int) -> None:
        """Forgets [start, end); a buffer of which nothing is left is released."""
        kept = []
        with self._lock:
            before = self._kept
            for low, high, view in before:
                if low < min(high, start):
                    kept.append((low, min(high, start), view))
                if max(low, end) < high:
                    kept.append((max(low, end), high, view))
            self._kept = kept
        # `before` dies here, without the lock: releasing a buffer may run its owner's code.

    def clear(self) -> None:
        # Unlocked: a forked child may find the lock taken by a thread that it does not have.
        self._kept = []
