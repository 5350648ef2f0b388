"""Getting a descriptor: the system call first, the device file next."""
from __future__ import annotations

import os
from errno import EACCES, EINVAL, ENODEV, ENOENT, ENOSYS, ENXIO, EPERM

from gcheap.userfaultfd import _ioctls
from gcheap.userfaultfd.problems import refused

DEVICE = "/dev/userfaultfd"
# Refusals after which another way may still work; the rest (EMFILE, ENOMEM ...) would repeat.
_OTHER_WAY = {EPERM, EACCES, ENOSYS, ENOENT, ENODEV, ENXIO, EINVAL}


def open_descriptor(user_mode_only: bool | None,
                    path: str | os.PathLike[str] | None) -> tuple[int, bool, str]:
    """(descriptor, whether it is for user mode only, "syscall" or "device").

    With None kernel-mode faults are asked for first.  Raises UffdError with the errno of the
    system call, or of the device when a path was given.
    """
    reason = 0
    for restricted in (False, True) if user_mode_only is None else (bool(user_mode_only),):
        ways = ["syscall", DEVICE] if path is None else [os.fspath(path)]
        for way in ways:
            fd = (_ioctls.open_syscall(restricted) if way == "syscall"
                  else _open_device(way, restricted))
            if fd >= 0:
                return fd, restricted, "syscall" if way == "syscall" else "device"
            if way == ways[0]:
                reason = -fd
            if -fd not in _OTHER_WAY:
                raise refused("open", -fd)
    raise refused("open", reason)


def _open_device(path: str, user_mode_only: bool) -> int:
    try:
        node = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return -(error.errno or EINVAL)
    try:
        return _ioctls.open_node(node, user_mode_only)
    finally:
        os.close(node)
