"""Where lines go: standard streams, and files that several heaps of a process may share.

Lines are written by one write() each batch, to descriptors opened for appending, so that those of
several heaps and processes stay whole.
"""
from __future__ import annotations

import os
import threading

from gcheap.errors import OptionError
from gcheap.files import check_writable
from gcheap.text import shown

_lock = threading.RLock()
_files: dict[str, File] = {}            # by real path: those that some heap uses
_begun: set[tuple[int, str]] = set()    # (process, real path): emptied by it already


class Stream:
    """Standard output or error: the descriptor, not Python's stream, whose lock another thread may
    have held when the process forked."""

    def __init__(self, number: int) -> None:
        self._descriptor = number

    def write(self, text: str) -> None:
        """Raises OSError."""
        data = text.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._descriptor, data):]

    def close(self) -> None:
        pass


class File(Stream):
    """A file that is written from its beginning by the first heap of a process that names it."""

    def __init__(self, real: str) -> None:
        first = (os.getpid(), real) not in _begun
        super().__init__(os.open(
            real, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            | (os.O_TRUNC if first else 0), 0o666))
        self.users = 0
        self._real = real
        _begun.add((os.getpid(), real))

    def close(self) -> None:
        with _lock:
            self.users -= 1
            if self.users == 0:
                os.close(self._descriptor)
                if _files.get(self._real) is self:
                    del _files[self._real]


def open_output(target: str, label: str) -> Stream:
    """The output `target`: "stderr", "stdout" or a path.  OptionError naming `label` when it cannot
    be written."""
    if target in ("stderr", "stdout"):
        return Stream(2 if target == "stderr" else 1)
    real = os.path.realpath(target)
    with _lock:
        if real not in _files:
            try:
                check_writable(target)
                _files[real] = File(real)
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise OptionError(f"{label}: cannot write {shown(target)}: {why}") from error
        _files[real].users += 1
        return _files[real]


def keep_for_child() -> None:
    """In a forked child: a file that the parent logs to is appended to, not emptied."""
    global _lock
    _lock = threading.RLock()
    for _, real in list(_begun):
        _begun.add((os.getpid(), real))
