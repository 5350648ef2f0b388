"""A descriptor that wakes a thread out of poll."""
from __future__ import annotations

import contextlib
import os


class Bell:
    """`ring` makes the descriptor readable; each `take` takes one ring away.  Any thread."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self.fd)

    def ring(self) -> None:
        os.eventfd_write(self.fd, 1)

    def take(self) -> bool:
        """Whether it had rung."""
        try:
            return bool(os.eventfd_read(self.fd))
        except BlockingIOError:
            return False
