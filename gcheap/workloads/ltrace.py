"""What `ltrace -e malloc+calloc+realloc+free -o FILE PROGRAM` writes, as rows of a trace.

A line is a call and what it returned, perhaps after a process number and the library's name:

    4711 libz.so.1->malloc(24)                       = 0x55d0c0f2a2a0
    free(0x55d0c0f2a2a0)                             = <void>

Whatever else is there is left out, and counted: other calls, signals, calls that another thread
interrupted (`<unfinished ...>`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from gcheap.workloads.traces import ALLOCATE, DIE

_CALL = re.compile(
    r"(?:\[pid \d+\] |\d+ )?\s*(?:\S+->)?(malloc|calloc|realloc|free)\(([^)]*)\)\s*=\s*(\S+)")
_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,16}|\d{1,20}")


@dataclass
class Converted:
    """rows of a trace; `unknown` calls named an address that nothing had returned, `skipped`
    lines were no such call."""

    rows: list = field(default_factory=list)
    unknown: int = 0
    skipped: int = 0


def convert(lines: Iterable[str]) -> Converted:
    """Rows of the lines that ltrace wrote."""
    converted = Converted()
    alive = {}                  # address -> id
    ids = 0

    def die(address):
        if address:
            ident = alive.pop(address, None)
            if ident is None:
                converted.unknown += 1
            else:
                converted.rows.append((DIE, ident, 0, 0))

    for line in lines:
        call = _CALL.match(line)
        numbers = None if call is None else _numbers(call[2])
        if numbers is None or len(numbers) != (2 if call[1] in ("calloc", "realloc") else 1):
            converted.skipped += bool(line.strip())
            continue
        name, returned = call[1], _numbers(call[3])
        if name == "free":
            die(numbers[0])
            continue
        address = returned[0] if returned else 0
        if name == "realloc" and (address or numbers[1] == 0):
            die(numbers[0])
        if address == 0:        # it failed, or freed
            continue
        if address in alive:    # its death is missing
            die(address)
        ids += 1
        alive[address] = ids
        nbytes = numbers[0] * numbers[1] if name == "calloc" else numbers[-1]
        converted.rows.append((ALLOCATE, ids, nbytes, 0))
    return converted


def _numbers(text):
    """The numbers of an argument list, `nil` being 0; None when one is no number."""
    words = ["0" if word == "nil" else word for word in text.replace(" ", "").split(",")]
    if not all(_NUMBER.fullmatch(word) for word in words):
        return None
    return [int(word, 16 if word.startswith("0x") else 10) for word in words]
