"""What to do about memory that the kernel refuses, given the limits of this process."""
from __future__ import annotations

import errno
import os
import resource

from gcheap.options import format_size

NO_TABLES = ("gcheap: no memory for the tables of a heap; end what else takes memory, or raise "
             "RLIMIT_AS (ulimit -v) and RLIMIT_DATA (ulimit -d)")
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
