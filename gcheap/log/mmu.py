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
        self._pauses: deque[tuple[int, int]] = deque()      # (start, end) of the longest window
        self._most = dict.fromkeys(WINDOWS_MS, 0)           # ns paused in the worst window

    def add(self, start: int, end: int) -> None:
        """A pause, in ns; not before those added."""
        self._pauses.append((start, end))
        while self._pauses[0][1] <= end - 1_000_000 * WINDOWS_MS[-1]:
            self._pauses.popleft()
        for window in WINDOWS_MS:
            begin = end - 1_000_000 * window
            paused = sum(stop - max(first, begin) for first, stop in self._pauses if stop > begin)
            self._most[window] = max(self._most[window], paused)

    def percent(self) -> dict[int, float]:
        """Window in ms -> utilization in percent, 0 to 100."""
        return {window: 100 - most / (1e4 * window) for window, most in self._most.items()}
