"""Seconds to wait, as calls take them."""
from __future__ import annotations

from typing import Any

from gcheap.text import shown


def checked_timeout(value: Any, where: str) -> float:
    """`value` as a float; infinity stays.

    TypeError naming `where` for what is no number, ValueError for one below 0 and for NaN, with
    which a wait would never end.
    """
    message = f"{where}: timeout {shown(value)}: expected seconds, 0 or more"
    if isinstance(value, (str, bytes, bytearray, bool)):
        raise TypeError(message)
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError(message) from None
    except (TypeError, ValueError):
        raise TypeError(message) from None
    if not seconds >= 0:
        raise ValueError(message)
    return seconds
