"""What the control groups of this process allow it in memory: version 1 and 2, whichever rules.

/proc/self/cgroup names the process's group in each hierarchy, /proc/self/mountinfo where that is
mounted and which of its groups stands at the mount point (a container sees a part of the tree, or
its own group as the root).  The limit of every group from there up to the mount point counts.
Formats: cgroups(7), proc_pid_mountinfo(5), Documentation/admin-guide/cgroup-v1/memory.rst and
cgroup-v2.rst of the kernel.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gcheap.kernel_files import text

UNLIMITED = 1 << 60             # version 1 writes a huge number; nobody has so much


@dataclass(frozen=True)
class MemoryGroup:
    """A group that limits memory, in bytes.

    path        of its directory, as it is mounted
    limit       memory that its processes may have
    used        what they have, without page cache, which goes when it must
    swap_limit  swap beside it; None: as much as there is (so where swap is not accounted for)
    swap_used   of that
    """

    path: str
    limit: int
    used: int
    swap_limit: int | None
    swap_used: int


def memory_groups(root: Path) -> list[MemoryGroup]:
    """Those of this process, inner ones first; `root`: where /proc is found."""
    return [group for place, version in _places(root)
            if (group := (_second if version == 2 else _first)(place, root)) is not None]


# ---- finding them ----------------------------------------------------------------------------

def _places(root: Path) -> Iterator[tuple[Path, int]]:
    """(directory, version) of this process's group and those above it, of either version."""
    mounts = list(_mounts(root))
    for line in (text(root, "/proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            version = 2
        elif "memory" in controllers.split(","):
            version = 1
        else:
            continue
        for of_version, mounted, point in mounts:
            if of_version == version:
                top = root / point.lstrip("/")
                below = _below(PurePosixPath(group), mounted)
                yield from ((top / part, version) for part in (below, *below.parents))
                break


def _below(group: PurePosixPath, mounted: str) -> PurePosixPath:
    """The group relative to the one that is mounted; where it is not inside (it lies outside of
    this name space), the mounted one stands for all that can be seen."""
    if ".." in group.parts or not group.is_relative_to(mounted):
        return PurePosixPath(".")
    return group.relative_to(mounted)


def _mounts(root: Path) -> Iterator[tuple[int, str, str]]:
    """(version, group that is mounted, mount point) of hierarchies that may limit memory."""
    for line in (text(root, "/proc/self/mountinfo") or "").splitlines():
        head, _, tail = line.partition(" - ")
        place, kind = head.split(), tail.split()
        if len(place) < 5 or not kind:
            continue
        if kind[0] == "cgroup2" or (kind[0] == "cgroup" and "memory" in kind[-1].split(",")):
            yield 2 if kind[0] == "cgroup2" else 1, _plain(place[3]), _plain(place[4])


def _plain(word: str) -> str:
    """A path of mountinfo: blanks and the like are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


# ---- reading them ----------------------------------------------------------------------------

def _second(place: Path, root: Path) -> MemoryGroup | None:
    limit = _number(place / "memory.max")
    if limit is None:
        return None
    cache = _cache(place, ("inactive_file", "active_file"))
    return MemoryGroup(_shown(place, root), limit,
                       max(0, (_number(place / "memory.current") or 0) - cache),
                       _number(place / "memory.swap.max"),
                       _number(place / "memory.swap.current") or 0)


def _first(place: Path, root: Path) -> MemoryGroup | None:
    limit = _number(place / "memory.limit_in_bytes")
    both = _number(place / "memory.memsw.limit_in_bytes")       # memory and swap
    if limit is None and both is None:
        return None
    used = _number(place / "memory.usage_in_bytes") or 0
    with_swap = _number(place / "memory.memsw.usage_in_bytes") or used
    cache = _cache(place, ("total_inactive_file", "total_active_file"))
    limit = min(known for known in (limit, both) if known is not None)
    return MemoryGroup(_shown(place, root), limit, max(0, used - cache),
                       None if both is None else max(0, both - limit), max(0, with_swap - used))


def _number(path: Path) -> int | None:
    """The number in a file; None when there is none, or it means "no limit"."""
    try:
        found = int(path.read_text())
    except (OSError, ValueError):
        return None
    return found if found < UNLIMITED else None


def _cache(place: Path, names: tuple[str, ...]) -> int:
    total = 0
    for line in (text(place, "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name in names and value.isdigit():
            total += int(value)
    return total


def _shown(place: Path, root: Path) -> str:
    return "/" + str(place.relative_to(root))
