"""Figures as people read them: a number with its unit, or a dash where there is none."""
from __future__ import annotations

from gcheap.options import format_size

NOTHING = "–"                   # a percentile without samples is None


def duration(nanoseconds: float | None) -> str:
    """A time in the unit that fits, three significant digits; a dash for None."""
    if nanoseconds is None:
        return NOTHING
    # Rounded first, so that 999.7 ns becomes 1 µs and not 1,000 ns.
    nanoseconds = float(f"{nanoseconds:.3g}")
    for limit, divisor, unit in ((1e3, 1, "ns"), (1e6, 1e3, "µs"), (1e9, 1e6, "ms")):
        if nanoseconds < limit:
            return f"{three_digits(nanoseconds / divisor)} {unit}"
    return f"{three_digits(nanoseconds / 1e9)} s"


def three_digits(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def counted(count: int, noun: str) -> str:
    """"1 round", "3 rounds"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def percent(fraction: float | None) -> str:
    return NOTHING if fraction is None else f"{100 * fraction:.1f} %"


def size(count: float | None) -> str:
    return NOTHING if count is None else format_size(int(count))
