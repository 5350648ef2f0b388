"""Text from outside made fit to be shown: a name or a value may hold anything.

A terminal obeys control characters, and a reader is misled by those that reorder a line; shown
are only printable characters (as `str.isprintable` has it), others as a Python literal has them.
"""
from __future__ import annotations

from typing import Any

MOST = 200                      # characters of a name or a value in a message


def printable(text: str, most: int | None = None) -> str:
    """`text` with what is not printable escaped, on one line; at most so many characters."""
    if most is not None and len(text) > most:
        text = text[:most] + "…"
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])


def title(name: str) -> str:
    """A name, for messages and reprs."""
    return printable(name, MOST)


def shown(value: Any) -> str:
    """The repr of a value, for messages: one line, never too long, and always one: that of an int
    of more than 4,300 digits raises, and that of a program's own object may do anything."""
    try:
        text = repr(value)
    except Exception:
        if isinstance(value, int):
            return f"<an integer of {value.bit_length()} bits>"
        return f"<{type(value).__name__} object>"
    text = " ".join(text.split("\n"))
    if len(text) > MOST:
        text = f"{text[:MOST // 2]}...{text[-MOST // 4:]}"
    return printable(text)
