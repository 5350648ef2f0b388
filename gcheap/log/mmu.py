"""Minimum mutator utilization by pauses, kept up to date as they come."""
from __future__ import annotations

from collections import deque

WINDOWS_MS = (2, 5, 10, 20, 50, 100)


class PauseUtilization:
    """The least share of a window of time in which nobody was stopped, since the first pause.

    Exact: the total of pauses inside a sliding window is greatest for one that ends with a pause,
    since moving its end into a pause adds to it and past the end of one does not.
    """

    def __init__(self) -> None:
        self._windows = [_Window(1_000_000 * ms) for ms in WINDOWS_MS]

    def add(self, start: int, end: int) -> None:
        """A pause, in ns; not before those added."""
        for window in self._windows:
            window.add(start, end)

    def percent(self) -> dict[int, float]:
        """Window in ms -> utilization in percent, 0 to 100."""
        return {ms: 100 - 100 * window.most / window.length
                for ms, window in zip(WINDOWS_MS, self._windows, strict=True)}


class _Window:
    """The pauses inside the window that ends with the last one, and their greatest total so far."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.most = 0
        self._pauses: deque[tuple[int, int]] = deque()
        self._total = 0

    def add(self, start: int, end: int) -> None:
        self._pauses.append((start, end))
        self._total += end - start
        begin = end - self.length
        while self._pauses[0][1] <= begin:
            first, stop = self._pauses.popleft()
            self._total -= stop - first
        # They follow each other, so only the first can have begun before the window.
        self.most = max(self.most, self._total - max(begin - self._pauses[0][0], 0))
