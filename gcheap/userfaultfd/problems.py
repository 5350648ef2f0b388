"""The exceptions: what an errno of this ioctl means, and what to do about it."""
from __future__ import annotations

import os
from errno import EAGAIN, EINVAL
from typing import TYPE_CHECKING

from gcheap.errors import GcheapError
from gcheap.userfaultfd.explanations import explanation
from gcheap.userfaultfd.flags import Features

if TYPE_CHECKING:
    from gcheap.userfaultfd.moving import MoveReport


class UffdError(GcheapError, OSError):
    """The kernel refused, or did only a part.

    `errno` is the kernel's, `ioctl` the name of the call ("MOVE"), `done` the bytes that were
    done before it stopped: going on means the same call with every address advanced by `done`.
    From `move_all` the attribute `report` says which of these bytes were moved and which copied.
    """

    def __init__(self, errno: int, message: str, ioctl: str = "", done: int = 0) -> None:
        super().__init__(errno, message)
        self.ioctl = ioctl
        self.done = done
        self.report: MoveReport | None = None


class MissingFeatures(UffdError):
    """Features were asked for that this kernel lacks.

    `requested`, `missing` and `available` are `Features`; `errno` is EINVAL.
    """

    def __init__(self, requested: Features, available: Features) -> None:
        self.requested = requested
        self.available = available
        # In ints: inverting flags would forget bits without a name.
        self.missing = Features(requested.value & ~available.value)
        super().__init__(
            EINVAL, f"this kernel ({os.uname().release}) lacks {names(self.missing)}; "
            f"requested: {names(requested)}; available: {names(available)}", "API")

    def __reduce__(self) -> tuple[type[MissingFeatures], tuple[Features, Features]]:
        return type(self), (self.requested, self.available)


def names(features: Features) -> str:
    """`SIGBUS, MOVE`; bits without a name as numbers."""
    single = (1 << bit for bit in range(64) if features.value >> bit & 1)
    return ", ".join(Features(bit).name or hex(bit) for bit in single) or "none"


def refused(ioctl: str, errno: int, done: int = 0, length: int | None = None) -> UffdError:
    """The exception for one refused or short call."""
    what = f"UFFDIO_{ioctl}" if ioctl.isupper() else f"userfaultfd {ioctl}"
    progress = ""
    if length is not None and done:
        progress = f" after {done} of {length} bytes"
    # A short call answers EAGAIN whatever stopped it: the cause shows when it is called again.
    sentence = explanation(ioctl, errno, short=bool(done) and errno == EAGAIN)
    return UffdError(errno, f"{what}: {os.strerror(errno)}{progress}. {sentence}".rstrip(),
                     ioctl, done)
