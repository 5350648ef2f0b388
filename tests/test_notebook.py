"""What a heap reports is shown by a notebook: docs/how-to/notebook.md, as it stands."""
from __future__ import annotations

import ast
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from support import ROOT, node_shape
from test_outputs import HOSTILE

import gcheap
from gcheap.records import Histogram, Records, in_units, records

PAGE = ROOT / "docs/how-to/notebook.md"
CELLS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)

pytestmark = pytest.mark.sigbus_only("the same is shown, whoever serves faults")


class Strict(HTMLParser):
    """Text of the cells of a table; fails where a tag is not closed, or may run or load."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert tag in ("div", "table", "thead", "tbody", "tr", "th", "td", "p")
        assert all(name in ("style", "colspan") for name, _ in attributes)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def run_cell(code, names):
    """Runs a cell as a notebook does; returns the value of its last expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(PAGE), "exec"), names)
    return None if last is None else eval(
        compile(ast.Expression(last.value), str(PAGE), "eval"), names)


def test_the_page_runs_and_each_cell_shows_a_table():
    names = {}
    shown = [run_cell(code, names) for code in CELLS]
    assert len(shown) == 6
    tables = [Strict(value._repr_html_()).texts for value in shown[:5]]
    assert "backend" in tables[0] and names["heap"].backend in tables[0]
    assert "work" in tables[1] and "reach" in tables[1]
    assert names["counts"].sum() == len(names["pauses"])
    assert "explicit" in tables[2] and names["freed"] > 400_000 * 24 - (32 << 20)
    assert "p99.9" in tables[3] and names["p99"] <= names["reach"].max_ns
    assert "Node" in tables[4] and names["placed_by_compactor"] > 0


def test_records_are_arrays_and_stay_records(any_heap, any_mutator):
    node = node_shape(any_heap)
    for _ in range(20):
        any_mutator.new(node)
        any_heap.collect()
    cycles = any_heap.cycles()
    assert isinstance(cycles, Records) and isinstance(cycles, np.ndarray)
    for part in (cycles[2:5], cycles[cycles["cycle"] > 3], cycles[["cycle", "cause"]]):
        assert isinstance(part, Records) and part._repr_html_()
    assert cycles["cycle_ns"]._repr_html_() is None         # plain numbers: as numpy shows them
    texts = Strict(cycles._repr_html_()).texts
    assert "20 rows" in texts and "…" in texts and texts.count("explicit") == 12
    assert any(text.endswith(("µs", "ms")) for text in texts)
    assert cycles[:0]._repr_html_() and "1 row" in Strict(cycles[:1]._repr_html_()).texts
    for report in (any_heap.pauses(), any_heap.census(), any_heap.page_map()):
        assert isinstance(report, Records)


def test_statistics_as_one_row(any_heap, any_mutator):
    any_mutator.new_slots(100)
    any_heap.collect()
    stats = any_heap.stats()
    row, = stats.to_array()
    assert row["cycles"] == stats.cycles == 1 and row["backend"] == stats.backend
    assert row["move_pages"] == stats.ioctls["move"].pages
    assert set(row.dtype.names) > {"used_bytes", "faults", "copy_calls", "why"}


def test_a_histogram_is_a_tuple_and_an_array(any_heap, any_mutator):
    empty = any_heap.histogram("stall")
    assert isinstance(empty, Histogram) and empty.percentile(0.5) is None and empty.count == 0
    assert "–" in Strict(empty._repr_html_()).texts
    any_heap.collect()
    values, counts, longest = reach = any_heap.histogram("time_to_safepoint")
    assert reach.count == counts.sum() > 0 and reach.percentile(1.0) == longest
    array = reach.to_array()
    assert list(array["upper_ns"]) == list(values) and list(array["count"]) == list(counts)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_names_are_shown_and_never_obeyed(any_heap, any_mutator, name):
    any_mutator.new(any_heap.shape(name, raw="u8"))
    ref = any_mutator.new(any_heap.shape(name, raw="u8"))
    shown = Strict(any_heap.census()._repr_html_())
    assert all(text.isprintable() for text in shown.texts) and ref is not None


def test_figures_get_the_unit_of_their_name():
    assert in_units("work_ns", 1500) == "1.50 µs" and in_units("live_bytes", 4096) == "4 KiB"
    assert in_units("used_before", 4096) == "4 KiB" and in_units("cycle", 12345) == "12,345"
    assert in_units("live_bytes", -1) == "–" and in_units("start_ns", 10**9) == "1,000,000,000"
    assert in_units("current", np.bool_(True)) == "yes" and in_units("cause", "goal") == "goal"
    assert records(np.zeros(3))._repr_html_() is None
    assert gcheap.Records is Records and gcheap.Histogram is Histogram
