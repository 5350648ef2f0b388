"""Linux userfaultfd for Python: every ioctl, typed events, errors that say what to do.

Usable without any heap.  A page that is missing from a registered range is supplied by this
process when somebody touches it:

    import mmap
    from gcheap.userfaultfd import Userfaultfd

    memory = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with Userfaultfd() as uffd:
        uffd.register(memory)
        uffd.copy(memory, b"x" * mmap.PAGESIZE, mmap.PAGESIZE)      # now memory[:1] == b"x"

Two rules before anything else.  A Python thread that touches a missing page (`memory[0]`) waits
inside the kernel *with the GIL held*, so no other Python thread can serve it: touch missing
pages with `read_memory` and `write_memory`, from native code without the GIL, or from another
process.  The same holds for `os.fork`, `mmap.madvise`, `mmap.resize` and `mmap.close` when the
matching EVENT_* feature was asked for: they wait until the event is read.

Addresses are ints, or buffers, which stand for the address of their first byte; lengths are in
bytes; each call that changes pages returns the bytes done.
"""
from gcheap.userfaultfd._ioctls import address_of, read_memory, write_memory
from gcheap.userfaultfd.api import Memory, Userfaultfd
from gcheap.userfaultfd.events import (
    Event,
    ForkEvent,
    PagefaultEvent,
    RemapEvent,
    RemoveEvent,
    UnmapEvent,
)
from gcheap.userfaultfd.flags import (
    ContinueMode,
    CopyMode,
    FaultFlags,
    Features,
    Ioctls,
    MoveMode,
    PoisonMode,
    RegisterMode,
    WriteProtectMode,
    ZeropageMode,
)
from gcheap.userfaultfd.moving import MoveReport
from gcheap.userfaultfd.problems import MissingFeatures, UffdError

__all__ = [
    "ContinueMode", "CopyMode", "Event", "FaultFlags", "Features", "ForkEvent", "Ioctls",
    "Memory", "MissingFeatures", "MoveMode", "MoveReport", "PagefaultEvent", "PoisonMode",
    "RegisterMode", "RemapEvent", "RemoveEvent", "UffdError", "UnmapEvent", "Userfaultfd",
    "WriteProtectMode", "ZeropageMode", "address_of", "read_memory", "write_memory",
]
