"""Values as error messages show them."""
from __future__ import annotations

from typing import Any

MOST = 200                              # characters


def shown(value: Any) -> str:
    """`repr(value)` on one line, cut where it is long; never fails.

    repr() of an int of more than 4,300 digits raises, that of an array or of a program's own object
    may be anything.
    """
    try:
        text = repr(value)
    except Exception:
        if isinstance(value, int):
            return f"<an integer of {value.bit_length()} bits>"
        return f"<{type(value).__name__} object>"
    text = " ".join(text.split("\n"))
    return text if len(text) <= MOST else f"{text[:MOST // 2]}...{text[-MOST // 4:]}"
