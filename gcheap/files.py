"""Files written whole or not at all."""
from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any


def is_special(path: Any) -> bool:
    """Whether `path` is there and neither a file nor a directory: a device, a pipe."""
    try:
        mode = os.stat(path).st_mode        # follows /dev/stdout to what it is
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_writable(path: Any) -> None:
    """Raises the OSError that writing the file `path` would plainly end with.

    Tries to make a file beside it: permissions do not tell of a directory that takes none, such as
    /proc, nor of a full or read-only file system.
    """
    _check_place(path)
    if not is_special(path):
        partial = _partial(os.fsdecode(os.path.realpath(path)))
        try:
            with open(partial, "xb"):
                pass
            os.unlink(partial)
        except OSError as error:
            place = os.path.dirname(partial)
            # The directory is there: it takes no files.
            number = errno.EACCES if error.errno == errno.ENOENT else error.errno or errno.EIO
            raise _error(number, place) from error


def _check_place(path: Any) -> None:
    if is_special(path):
        place = path
    else:
        target = os.path.realpath(path)
        if os.path.isdir(target):
            raise _error(errno.EISDIR, path)
        place = os.path.dirname(target)
        if not os.path.isdir(place):
            raise _error(errno.ENOENT, place)
        # A new file takes the place of the old one, which its permissions may forbid all the same.
        if os.path.exists(target) and not os.access(target, os.W_OK):
            raise _error(errno.EACCES, path)
    if not os.access(place, os.W_OK):
        raise _error(errno.EACCES, place)


@contextmanager
def whole_file(path: Any) -> Iterator[IO[bytes]]:
    """A binary stream for the new content of the file `path`.

    At the end of the block the file has that content; when the block or anything else fails, it
    is as before, or not there.  Written to a hidden file beside the target, to the disk, and
    renamed over it; whoever kills the process leaves that hidden file behind.  Symbolic links are
    followed; mode and, where permitted, owner stay; a file that may not be written is not
    replaced.  A device or pipe is written to directly.  Raises OSError.
    """
    path = os.fspath(path)
    _check_place(path)
    if is_special(path):
        with open(path, "wb") as stream:
            yield stream
        return
    target = os.fsdecode(os.path.realpath(path))
    partial = _partial(target)
    try:
        with open(partial, "xb") as stream:
            _take_after(stream.fileno(), target)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def _partial(target: str) -> str:
    """The name of the hidden file beside `target`."""
    return os.path.join(os.path.dirname(target), f".gcheap-{secrets.token_hex(8)}.partial")


def _take_after(descriptor: int, target: str) -> None:
    """Gives a new file the mode and the owner of the one that it is going to replace."""
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return
    with suppress(PermissionError):         # only root gives files away
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & 0o777)


def _error(number: int, path: Any) -> OSError:
    return OSError(number, os.strerror(number), os.fsdecode(path))
