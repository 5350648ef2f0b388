"""What a heap reports, as arrays and tuples that a notebook shows as tables.

Text is escaped, and no cell runs or loads anything.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from gcheap.percentiles import mean_and_deviation, of_histogram
from gcheap.text import printable
from gcheap.units import NOTHING, counted, duration, number, size

SHOWN = 12                      # rows of an array that a notebook shows
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999}
MOST_TEXT = 200                 # characters of a cell
_LEFT, _RIGHT = ' style="text-align:left"', ' style="text-align:right"'


class Records(np.ndarray):
    """A structured array; every operation of numpy gives another one, or a plain value.

    Names of columns end in _ns or _bytes where they have that unit, and a notebook shows such
    columns with the unit that fits.
    """

    def _repr_html_(self) -> str | None:
        names = self.dtype.names
        if not names or self.ndim != 1:
            return None
        rows: list[list[str] | None] = [_cells(names, row) for row in self[:SHOWN // 2]]
        left = self[SHOWN // 2:]
        if len(left) > SHOWN // 2:
            rows.append(None)
        rows += [_cells(names, row) for row in left[-(SHOWN // 2):]]
        return table([_heading(name) for name in names], rows, counted(len(self), "row"))


def records(array: np.ndarray) -> Records:
    """`array`, not copied, as Records."""
    return array.view(Records)


class Histogram(NamedTuple):
    """A log-linear histogram with three significant digits (G. Tene's HdrHistogram).

    values_ns are the upper edges of the buckets that are not empty, counts what is in each, max_ns
    the exact maximum.
    """

    values_ns: np.ndarray
    counts: np.ndarray
    max_ns: int

    @property
    def count(self) -> int:
        """How many values were recorded."""
        return int(self.counts.sum())

    def percentile(self, q: float) -> int | None:
        """The nearest-rank quantile `q` (0 to 1) in ns; None when nothing was recorded."""
        return of_histogram(self.values_ns, self.counts, self.max_ns, q)

    def to_array(self) -> Records:
        """A structured array: upper_ns, count."""
        rows = np.empty(len(self.values_ns), [("upper_ns", "u8"), ("count", "u8")])
        rows["upper_ns"], rows["count"] = self.values_ns, self.counts
        return records(rows)

    def _repr_html_(self) -> str:
        mean, _deviation = mean_and_deviation(self.values_ns, self.counts)
        cells = [number(self.count), duration(mean),
                 *(duration(self.percentile(q)) for q in QUANTILES.values()),
                 duration(self.max_ns) if self.count else NOTHING]
        return table(["count", "mean", *QUANTILES, "longest"], [cells])


def table(headings: Sequence[str], rows: Iterable[Sequence[str] | None], below: str = "") -> str:
    """An HTML table of texts, which are escaped here; a row that is None is a gap."""
    head = "".join(f"<th{_RIGHT}>{_shown(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + ("".join(f"<td{_RIGHT}>{_shown(cell)}</td>" for cell in row) if row is not None
                  else f"<td colspan=\"{len(headings)}\"{_LEFT}>…</td>") + "</tr>"
        for row in rows)
    note = f"<p>{_shown(below)}</p>" if below else ""
    return (f"<div style=\"overflow-x:auto\"><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>{note}")


def pairs(groups: dict[str, dict[str, str]]) -> str:
    """An HTML table of names and values in groups; all text is escaped here."""
    body = ""
    for heading, rows in groups.items():
        body += f"<tr><th colspan=\"2\"{_LEFT}>{_shown(heading)}</th></tr>"
        body += "".join(f"<tr><td{_LEFT}>{_shown(name)}</td><td{_RIGHT}>{_shown(value)}</td></tr>"
                        for name, value in rows.items())
    return f"<div style=\"overflow-x:auto\"><table><tbody>{body}</tbody></table></div>"


def in_units(name: str, value: Any) -> str:
    """A figure as people read it, by the unit that ends its name."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, float, np.integer, np.floating)):
        if name.endswith("_ns") and name != "start_ns":
            return duration(float(value))
        if name.endswith("_bytes") or name in ("bytes", "used_before", "used_after"):
            return size(int(value)) if value >= 0 else NOTHING
        return number(float(value))
    return str(value)


def _cells(names: Sequence[str], row: Any) -> list[str]:
    return [in_units(name, row[name]) for name in names]


def _heading(name: str) -> str:
    return name if name == "start_ns" else name.removesuffix("_ns").removesuffix("_bytes")


def _shown(text: str) -> str:
    return escape(printable(text, MOST_TEXT))
