"""Tables of a stress run: a pure function of its JSON document.

`show(document, console)` prints what `gcheap stress` ends with.  Nothing is measured or
looked up here, so a saved document shows the same tables on any machine, later.
"""
import re
import textwrap
from copy import copy
from dataclasses import replace

from rich import box
from rich.table import Table
from rich.text import Text

from gcheap.text import printable_lines
from gcheap.units import NOTHING, counted, duration, number, percent, size, three_digits

WINDOWS = ("1ms", "5ms", "10ms", "50ms")
PERCENTILES = ("p50", "p99", "p99_9", "p99_99", "max")
WRAPPED_WIDTH = 16              # of a column of prose, at least, beside others
MOST_WIDTH = 10_000             # characters of a line, when widths are measured


def show(document, console):
    """Print every table of one run's document."""
    console.print(heading(document))
    for parts in ((times(document),), (mmu(document), noise_line(document)),
                  (waits(document), waits_line(document)), (traffic(document),),
                  (ioctls(document),), (rates(document),)):
        console.print()
        for part in parts:
            if part is not None:
                console.print(part)
    console.print()
    if document.get("facts"):
        console.print(facts_line(document, console.width))
    console.print(backend_line(document))
    console.print(verdict(document))


def facts_line(document, width=100):
    """What only this workload knows; no line ends within a fact, unless it is longer than one."""
    facts = []
    for name, value in document["facts"].items():
        for more, each in value.items() if isinstance(value, dict) else [("", value)]:
            label = f"{name} {_QUANTILE.sub(r'p99.', more)}".strip().replace("_", " ")
            facts.append(f"{label} {_fact(each)}".replace(" ", _HARD))
    lines = textwrap.wrap(", ".join(facts), width, break_on_hyphens=False, break_long_words=False)
    return Text("\n".join(lines).replace(_HARD, " "))


_HARD = "\N{NO-BREAK SPACE}"
_QUANTILE = re.compile(r"^p99_(?=9)")         # a name of a document: p99_9 is p99.9


def _fact(value):
    if value is None:
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else three_digits(value)


def heading(document):
    config = document["config"]
    parts = [f"{size(config['live'])} live", f"capacity {size(config['capacity'])}",
             counted(config["mutators"], "mutator"),
             f"{document['seconds']:.1f} s", f"seed {config['seed']}"]
    if document.get("interrupted"):
        parts.append("interrupted")
    return Text.assemble((document["workload"], "bold"), ": ", ", ".join(parts))


def times(document):
    """Cycles, pauses by phase, time to safepoint, operations beside the noise floor."""
    table = _table("times", "count", "p50", "p99", "p99.9", "p99.99", "max")
    cycles = document["cycles"]
    _times_row(table, "cycle", document["cycle_ms"], cycles, 1e6)
    _times_row(table, "relocate", document["relocate_ms"], None, 1e6)
    table.add_section()
    pauses = document["pauses"]
    for phase, row in pauses["by_phase"].items():
        _times_row(table, f"pause: {phase.replace('_', ' ')}", row, row["count"], 1e3)
    _times_row(table, "all pauses", pauses, pauses["count"], 1e3)
    table.add_section()
    reach = document["time_to_safepoint_us"]
    _times_row(table, "time to safepoint", reach, reach.get("count"), 1e3)
    table.add_section()
    _times_row(table, "operation", document["op_latency_us"], document["ops"], 1e3)
    noise = document.get("noise_floor_us")
    if noise:
        _times_row(table, "noise floor", noise, noise.get("count"), 1e3)
    return table


def mmu(document):
    """Minimum mutator utilization: the least share of any window left to the mutator."""
    table = _table("MMU", *(window.replace("ms", " ms") for window in WINDOWS))
    rows = {"worst mutator": document["mmu"],
            "noise floor": (document.get("noise_floor_us") or {}).get("mmu")}
    for name, values in rows.items():
        if values:
            table.add_row(name, *(percent(values.get(window)) for window in WINDOWS))
    return table


def noise_line(document):
    """How the noise floor was measured; None without one."""
    noise = document.get("noise_floor_us")
    if not noise or "seconds" not in noise:
        return None
    return Text(f"noise floor: one thread, {duration(noise['seconds'] * 1e9)} before there was a "
                "heap; its longest is of that time alone, and a window that is longer has no MMU")


def waits(document):
    """Faults that mutators served themselves, and allocation stalls."""
    table = _table("waits", "count", "p50", "p99", "max", "total")
    faults, stalls = document["faults"], document["stalls"]
    total = (document.get("cost") or {}).get("fault_ms")
    table.add_row("faults", number(faults["count"]), *(
        duration(_scaled(faults, key, 1e3)) for key in ("p50", "p99", "max")),
        duration(None if total is None else total * 1e6))
    table.add_row("allocation stalls", number(stalls["count"]), *(
        duration(_scaled(stalls, key, 1e6)) for key in ("p50", "p99", "max", "total")))
    return table


def waits_line(document):
    """What faults were; None when there was none.

    The heap counts those that waited, and has one histogram of all.
    """
    row = document["faults"]
    if not row["count"]:
        return None
    waited = ("" if row.get("waits") is None else
              f"; {number(row['waits'])} of them waited for another thread that was building "
              "theirs, and their times are among these")
    return Text(f"faults: {row['pages'] / row['count']:.1f} pages built by each{waited}")


def traffic(document):
    """Bytes by what happened to them while objects were relocated."""
    row = document["bytes"]
    keys = ("moved", "copied", "zeroed", "recycled")
    table = _table("bytes", *keys)
    table.add_row("", *(size(row[key]) for key in keys))
    return table


def ioctls(document):
    """ioctls of the userfaultfd, and which were refused, by errno."""
    table = _table("ioctls", "calls", "pages", "pages/call")
    table.add_column("refused", justify="left")
    for name, row in document["ioctls"].items():
        per_call = f"{row['pages'] / row['calls']:.1f}" if row["calls"] else NOTHING
        refused = ", ".join(f"{errno} {number(count)}"
                            for errno, count in sorted(row["refused"].items()))
        table.add_row(f"UFFDIO_{name.upper()}", number(row["calls"]), number(row["pages"]),
                      per_call, refused or "none")
    return table


def rates(document):
    """Work done, allocation rate, and memory at its peak."""
    table = _table("totals", "")
    rate = document["alloc_bytes_per_s"]
    for name, value in (
        ("operations/s", number(document["ops_per_s"])),
        ("operations while relocating", number(document["relocate_ops"])),
        ("allocation rate", NOTHING if rate is None else f"{size(rate)}/s"),
        ("peak RSS", size(document["peak_rss_bytes"])),
        ("peak resident heap", size(document["peak_heap_resident_bytes"])),
        ("live after the last cycle", size(document["live_bytes"])),
    ):
        table.add_row(name, value)
    limit = document.get("limit")
    if limit:
        table.add_row("peak heap limit", f"{size(limit['peak_bytes'])} ({limit['policy']})")
    return table


def backend_line(document):
    why = document.get("why")
    mode = document["fault_mode"]
    line = f"backend {document['backend']}, fault mode {mode or 'none'}"
    return Text(f"{line}: {why}" if why else line)


def verdict(document):
    if document["verified"]:
        return Text("verified: every check passed", style="green")
    if document.get("failures") == 0:
        return Text("not verified: the run ended before its last check", style="yellow")
    failure = document.get("failure")
    return Text("NOT verified" + (f": {failure}" if failure else ": a check failed"),
                style="bold red")


class PlainTable(Table):
    """A table of which nothing is lost, however narrow the terminal.

    Columns are as wide as what is shown of their texts (consoles.PlainConsole escapes the rest),
    and only those without `no_wrap` may be narrower.  Where they do not fit side by side, the table
    becomes several, one below the other, each with the first column, the names of the rows.  What
    no terminal reads is as wide as it must be.
    """

    def add_column(self, header="", *args, **options):
        super().add_column(_shown(header), *args, **{"overflow": "fold"} | options)

    def add_row(self, *cells, **options):
        super().add_row(*map(_shown, cells), **options)

    def __rich_console__(self, console, options):
        if not self.columns:
            return
        if not console.is_terminal:
            needed = self._least_width(console, self.columns)
            options = options.update(max_width=max(options.max_width, needed))
        groups = self._groups(console, options.max_width)
        for group in groups:
            part = self._of(group)
            if group is not groups[0]:
                yield Text()
                part.title = None
            if self._least_width(console, group) > options.max_width:
                for column in part.columns:         # a cell wider than a line: it takes several
                    column.no_wrap = False
            yield from Table.__rich_console__(part, console, options)

    def _groups(self, console, width):
        """The columns of each table that is shown: as few tables as fit so many characters, and
        those about equally wide."""
        first, *others = self.columns
        alone = self._least_width(console, [first])
        added = [self._least_width(console, [first, column]) - alone for column in others]

        def packed(room):
            groups, used = [[first]], alone
            for column, more in zip(others, added, strict=True):
                if used + more > room and len(groups[-1]) > 1:
                    groups.append([first])
                    used = alone
                groups[-1].append(column)
                used += more
            return groups

        fewest = len(packed(width))
        for room in range(width - 1, alone, -1):
            if len(packed(room)) > fewest:
                return packed(room + 1)
        return packed(width)

    def _least_width(self, console, columns):
        """Characters of a line that these columns need beside each other."""
        part = self._of(columns)
        for column in part.columns:
            if not column.no_wrap:
                column.max_width = WRAPPED_WIDTH
        part.title = None
        return Table.__rich_measure__(
            part, console, console.options.update(max_width=MOST_WIDTH)).maximum

    def _of(self, columns):
        """A table like this one, of some of its columns."""
        part = copy(self)
        part.columns = [replace(column, _index=index) for index, column in enumerate(columns)]
        return part


def _shown(cell):
    return Text(printable_lines(cell)) if isinstance(cell, str) else cell


def new_table(**options):
    """An empty table in the manner of all of gcheap's: two spaces between columns, no frame."""
    return PlainTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1), pad_edge=False,
                      **options)


def _table(first, *columns):
    table = new_table()
    table.add_column(first, justify="left", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _scaled(row, key, factor):
    """`row[key]`, with or without its unit in the key's name, times `factor`."""
    for name in (key, f"{key}_us", f"{key}_ms"):
        if name in row:
            return None if row[name] is None else row[name] * factor
    return None


def _times_row(table, name, row, count, factor):
    table.add_row(name, number(count), *(
        duration(_scaled(row, key, factor)) for key in PERCENTILES))
