"""Small files of /proc and /sys, read as text; what cannot be read is None.

An older kernel has not all of them, nor has one that was built without.
"""
from __future__ import annotations

from contextlib import suppress
from pathlib import Path

HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"


def text(root: Path, path: str) -> str | None:
    """A file below `root`, without white space around it."""
    with suppress(OSError):
        return (root / path.lstrip("/")).read_text(errors="replace").strip()
    return None


def fields(content: str | None) -> dict[str, str]:
    """{name: value} of lines such as "Seccomp:  2"; the first of a name."""
    found: dict[str, str] = {}
    for line in (content or "").splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found


def selected(setting: str | None) -> str | None:
    """The bracketed word of a setting such as "always [madvise] never"; None for None."""
    if setting is None:
        return None
    for part in setting.split():
        if part.startswith("["):
            return part.strip("[]")
    return setting


def kilobytes(value: str | None) -> int | None:
    """Bytes of "2048 kB"."""
    try:
        return int(value.split()[0]) * 1024 if value else None
    except (IndexError, ValueError):
        return None
