"""No table loses a name or a figure: on a terminal of 80 columns, and where none is."""
from __future__ import annotations

import io
import re

import pytest
import test_bench_backends
import test_bench_lbo
import test_bench_lox
import test_bench_marking
import test_bench_pauses
import test_bench_peers
import test_bench_uffd

from gcheap.provenance import stamp
from gcheap.tools import (
    bench_alloc,
    bench_backends,
    bench_lbo,
    bench_lox,
    bench_marking,
    bench_pauses,
    bench_peers,
    bench_roots,
    bench_uffd,
)
from gcheap.tools.consoles import PlainConsole
from gcheap.tools.suite import document_of, metric
from gcheap.tools.tables import new_table

pytestmark = pytest.mark.sigbus_only("nothing runs here")

NOISE = {"seconds": 0.5, "p99": 1.0, "max": 9.0, "mmu": {"10ms": 0.99}}
WIDE = [123.456, 234.567, 987.654]      # values whose interval is as long as any


def made(name, config, found):
    return document_of(name, config, found, stamp(1) | {"noise_floor_us": NOISE})


def alloc():
    config = {"capacity": 256 << 20, "sizes": [16, 32, 64, 256, 1024, 4096], "threads": [1, 2, 64]}
    names = [str(bench_alloc.Case(kind, threads, nbytes)) for kind in ("bare", "sustained")
             for threads in config["threads"] for nbytes in config["sizes"]]
    metrics = {f"{name}: {what}": metric("ns", "less", WIDE)
               for name in (*names, *bench_alloc.OPERATIONS)
               for what in ("ns per operation", "bytes per s")}
    return (bench_alloc, made("alloc", config, {"rounds": 3, "metrics": metrics}),
            ["64 threads: ns an object", *bench_alloc.OPERATIONS])


def roots():
    config = {"objects": 10 ** 6, "kinds": ["handles", "weak"],
              "counts": [10 ** n for n in range(7)]}
    metrics = {}
    for kind in config["kinds"]:
        metrics[f"{kind}: full, ns a root"] = metric("ns", "less", WIDE)
        for count in config["counts"]:
            metrics[f"{bench_roots.Case(kind, count)}: full us"] = metric("µs", "less", WIDE)
    found = {"rounds": 3, "metrics": metrics, "runs": [], "verified": True, "roots_astray": {}}
    return bench_roots, made("roots", config, found), ["pause: full", "time to safepoint"]


def lbo():
    cases = {f"{backend} {factor}x": (backend, 1 << 20) for factor in (1.3, 2, 3, 6)
             for backend in ("move", "copy", "stw")}
    row = test_bench_lbo.rows()[0] | {"pause_max_us": 123.456, "safepoint_p99_us": 123.456,
                                      "stall_ms": 123.456, "fault_ms": 123.456}
    rows = [row | {"case": case, "round": turn} for case in cases for turn in (1, 2)]
    config = {"workload": "churn", "live": 64 << 20, "minimum": 70 << 20, "seconds": 3}
    return bench_lbo, made("lbo", config, bench_lbo.summarize(rows, cases, {})), list(cases)


def peers():
    state = test_bench_peers.peers()
    return (bench_peers, made("peers", test_bench_peers.CONFIG, state.summarize()),
            ["churn, 2x", "full, 4x", "one", "two", "one, churn, 2x"])


DOCUMENTS = {
    "alloc": alloc, "roots": roots, "lbo": lbo, "peers": peers,
    "backends": lambda: (bench_backends, test_bench_backends.summarized(
        test_bench_backends.ROWS, test_bench_backends.CONFIG), ["move", "copy", "copy by page"]),
    "lox": lambda: (bench_lox, test_bench_lox.document(
        test_bench_lox.rows(3, {"lox": 1.0, "lua": 2.0, "python": 4.0}, (20.0,))), ["fib"]),
    "marking": lambda: (bench_marking, test_bench_marking.made_of(
        [{"idle": (8, 4), "busy": (9, 9)}], test_bench_marking.OUTCOME), ["idle", "busy"]),
    "pauses": lambda: (bench_pauses, test_bench_pauses.document(
        test_bench_pauses.SMALL, test_bench_pauses.EQUAL),
        ["pause: mark end", "time to safepoint", "fault"]),
    "uffd": lambda: (bench_uffd, test_bench_uffd.summarized(
        test_bench_uffd.made_up(), test_bench_uffd.config(batches=[1, 4, 16, 64, 256, 512])),
        ["copy", "MOVE, one huge page"]),
}


def shown(what, **options):
    stream = io.StringIO()
    console = PlainConsole(file=stream, highlight=False, markup=False, color_system=None,
                           **options)
    what(console)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_bench_loses_nothing_on_80_columns(name):
    bench, document, names = DOCUMENTS[name]()
    lines = shown(lambda console: bench.show(document, console), width=80, force_terminal=True)
    assert "…" not in "".join(lines) and max(map(len, lines)) <= 80
    for row in names:
        assert any(f"{line.strip()}  ".startswith(f"{row}  ") for line in lines), row
    wide = shown(lambda console: bench.show(document, console), width=100)
    assert "…" not in "".join(wide)

    def figures(lines):
        return set(re.findall(r"\S*\d\S*", "\n".join(lines)))

    assert figures(lines) >= figures(wide)


def filled(columns):
    table = new_table(title="a title")
    table.add_column("name", no_wrap=True)
    for column in range(columns):
        table.add_column(f"column {column}", justify="right", no_wrap=True)
    table.add_row("first", *(f"value {column}" for column in range(columns)))
    return table


def test_a_wide_table_becomes_several_that_repeat_the_names():
    lines = shown(lambda console: console.print(filled(20)), width=80, force_terminal=True)
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("first ") for line in lines) == sum(
        line.startswith("name ") for line in lines) == 3
    assert sum("a title" in line for line in lines) == 1
    widths = [len(line) for line in lines if line.startswith("first ")]
    assert max(widths) - min(widths) < 20, "none has a few columns that were left"
    text = "\n".join(lines)
    assert all(f"column {column}" in text and f"value {column}" in text for column in range(20))


def test_what_no_terminal_reads_is_one_table_as_wide_as_it_must_be():
    lines = shown(lambda console: console.print(filled(20)), width=100)
    row, = [line for line in lines if line.startswith("first ")]
    assert row.split("  ")[-1].strip() == "value 19" and len(row) > 100


def test_a_cell_longer_than_a_line_takes_several():
    def show(console):
        table = new_table()
        table.add_column("name", no_wrap=True)
        table.add_column("long", no_wrap=True)
        table.add_row("row", "x" * 200)
        console.print(table)

    lines = shown(show, width=80, force_terminal=True)
    assert sum(line.count("x") for line in lines) == 200 and max(map(len, lines)) <= 80
