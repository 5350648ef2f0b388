"""`gcheap stats FILE…`: percentiles of stress runs as tables, a column a run.

What is shown, and in which order, follows `olly gc-stats` of OCaml's runtime-events tools: times
of the whole run first, then mean, deviation and extremes, then a ladder of percentiles.
"""
from rich.text import Text

from gcheap.report.figures import WAITS, summary_row
from gcheap.report.reading import read_runs
from gcheap.report.tables import heading, labels
from gcheap.tools.consoles import result_console
from gcheap.tools.tables import new_table
from gcheap.units import NOTHING, duration, number, percent, size

LADDER = (0.25, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.96, 0.97, 0.98, 0.99, 0.999, 0.9999,
          0.99999, 0.999999)
KINDS = {name.replace("_", "-"): name for name in [*WAITS, "noise_floor"]}
TITLES = WAITS | {"noise_floor": "Noise floor"}


def add(commands):
    parser = commands.add_parser(
        "stats", help="percentile tables of stress runs",
        description="Print, for the documents that `gcheap stress --json` wrote, the times of the "
                    "runs and percentiles of everything a mutator may wait for; a column a run. "
                    "Exit status: 0 shown, 2 a file is none of gcheap's.")
    parser.add_argument("files", nargs="+", metavar="FILE",
                        help="a file that `gcheap stress --json` wrote")
    parser.add_argument("--of", choices=list(KINDS), action="append", metavar="KIND",
                        help=f"only these: {', '.join(KINDS)} (default all that a run has; may be "
                             "given several times)")
    parser.set_defaults(run=run)


def run(args):
    runs = read_runs(args.files)
    console = result_console()
    names = labels(runs)
    for one in runs:
        console.print(Text(heading(one)))
    console.print()
    console.print(times(runs, names))
    for kind in [KINDS[name] for name in args.of or KINDS]:
        table = ladder(runs, names, kind)
        if table is not None:
            console.print()
            console.print(table)
    return 0


def times(runs, names):
    """Of each run: how long it was, and how much of it was the collector's."""
    table = _table("", names)
    for title, text_of in (
        ("wall time", lambda r: duration(r.document["seconds"] * 1e9)),
        ("CPU time", lambda r: _cpu(r, "cpu_ms")),
        ("CPU time of the collector", lambda r: _cpu(r, "collector_cpu_ms")),
        ("operations", lambda r: number(r.document["ops"])),
        ("cycles", lambda r: number(r.document["cycles"])),
        ("in cycles", lambda r: _share(r, "cycles", "cycle_ns")),
        ("in pauses", lambda r: _share(r, "pauses", "work_ns")),
        ("in stalls, all mutators", lambda r: duration(r.document["stalls"]["total_ms"] * 1e6)),
        ("least utilization, 10 ms", lambda r: percent(r.document["mmu"]["10ms"])),
        ("peak resident heap", lambda r: size(r.document["peak_heap_resident_bytes"])),
    ):
        table.add_row(title, *map(text_of, runs))
    return table


def _cpu(run, name):
    """CPU time, with its share of all that the process used."""
    cost = run.document.get("cost")
    if not cost:
        return NOTHING
    share = f" ({percent(cost[name] / cost['cpu_ms'])})" if cost["cpu_ms"] > 0 else ""
    return duration(cost[name] * 1e6) + (share if name != "cpu_ms" else "")


def _share(run, records, column):
    """The sum of a column, and its share of the run; a dash where records were left out."""
    found = run.details[records]
    values = found["columns"][column]
    if len(values) < found["seen"]:
        return NOTHING
    return f"{duration(sum(values))} ({percent(sum(values) / 1e9 / run.document['seconds'])})"


def ladder(runs, names, kind):
    """Mean, deviation, extremes and percentiles of one histogram of each run; None: no sample."""
    rows = [summary_row(run.details["histograms"].get(kind)) for run in runs]
    if not any(rows):
        return None
    table = _table(TITLES[kind], names)

    def add(title, text_of):
        table.add_row(title, *(NOTHING if row is None else text_of(row) for row in rows))

    add("count", lambda row: number(row["count"]))
    for title, key in (("mean", "mean"), ("deviation", "deviation"), ("shortest", "min"),
                       ("longest", "max")):
        add(title, lambda row, key=key: duration(row[key]))
    table.add_section()
    most = max(row["count"] for row in rows if row)
    for q in LADDER:
        if (1 - q) * most >= 0.5 or q <= 0.99:       # beyond that it is the longest again
            add(f"{100 * q:.6g} %", lambda row, q=q: duration(row["at"](q)))
    return table


def _table(title, names):
    table = new_table()
    table.add_column(title, justify="left", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    return table
