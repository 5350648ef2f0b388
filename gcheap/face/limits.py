"""What to do about memory that the kernel refuses, given the limits of this process."""
from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress

from gcheap.errors import GcheapError
from gcheap.options import format_size

_LIMITS = (("RLIMIT_AS", resource.RLIMIT_AS, "v"), ("RLIMIT_DATA", resource.RLIMIT_DATA, "d"))


def mapping_advice(number: int) -> str:
    """The kernel's answer to a mapping, and what its user can do: "mmap answers …; …"."""
    answer = f"mmap answers {os.strerror(number)}"
    if number == errno.EAGAIN:
        locked = format_size(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0])
        return (f"{answer}: this process locks all memory to come (mlockall(MCL_FUTURE)), and may "
                f"lock no more than {locked}; raise RLIMIT_MEMLOCK (ulimit -l), or lock memory "
                f"after the heap was made")
    set_here = [f"{name} (ulimit -{option}), now {format_size(limit)}"
                for name, which, option in _LIMITS
                if (limit := resource.getrlimit(which)[0]) != resource.RLIM_INFINITY]
    if set_here:
        return f"{answer}; lower capacity or raise {' and '.join(set_here)}"
    return (f"{answer} although neither RLIMIT_AS nor RLIMIT_DATA is set; lower capacity, or see "
            f"vm.max_map_count and vm.overcommit_memory")


def no_tables() -> MemoryError:
    """malloc has refused one of the tables that every heap has.  It says ENOMEM for whatever mmap
    answered, which is EAGAIN where all memory to come is locked."""
    number = errno.EAGAIN if _locks_memory() else errno.ENOMEM
    return MemoryError(f"gcheap: no memory for the tables of a heap: {mapping_advice(number)}")


def _locks_memory() -> bool:
    with suppress(OSError), open("/proc/self/status", "rb") as status:
        return any(line.startswith(b"VmLck:") and line.split()[1] != b"0" for line in status)
    return False


def no_thread(what: str, number: int) -> GcheapError:
    """pthread_create (or, for the thread that serves faults, eventfd) has refused."""
    return GcheapError(
        f"{what} cannot be started: {os.strerror(number)}; is the process out of threads "
        f"(RLIMIT_NPROC, ulimit -u), of descriptors (RLIMIT_NOFILE, ulimit -n), or of memory for a "
        f"stack (RLIMIT_AS, ulimit -v; vm.max_map_count)?")
