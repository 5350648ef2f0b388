"""Runs read back, and what is drawn of them: pages, tables, and one clear line for a bad file."""
from __future__ import annotations

import json
import os
import re
import sys

import numpy as np
import pytest
from report_support import DELETED, changed, measured
from test_outputs import HOSTILE

from gcheap import cli
from gcheap.percentiles import histogram_of, merged, of_histogram
from gcheap.report import Run, RunFileError, check_document, read_runs
from gcheap.report.figures import hdr_points, percent_label, summary_row
from gcheap.report.tables import labels
from gcheap.report.timeline import bars, close_up
from gcheap.tools import stress
from gcheap.tools.output import dump_json
from gcheap.units import duration, number

pytestmark = [
    pytest.mark.sigbus_only("a report is drawn from a document"),
    pytest.mark.xdist_group("report"),      # the runs that they read are made once
]
needs_matplotlib = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("matplotlib") is None,
    reason="matplotlib is not installed")


@pytest.fixture(scope="module")
def document():
    return measured()


@pytest.fixture
def file_of(tmp_path):
    def write(content, name="run.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else dump_json(content))
        return str(path)
    return write


# ---- the document -----------------------------------------------------------------------------

def test_the_details_agree_with_the_summary(document):
    details = document["details"]
    assert details["pauses"]["seen"] == document["pauses"]["count"]
    assert details["cycles"]["seen"] == document["cycles"] > 0
    histograms = details["histograms"]
    assert histograms["operation"]["count"] == document["ops"]
    assert histograms["fault"]["count"] == document["faults"]["count"]
    assert histograms["noise_floor"]["count"] == document["noise_floor_us"]["count"]
    assert max(details["pauses"]["columns"]["work_ns"]) / 1e3 == document["pauses"]["max_us"]
    row = summary_row(histograms["operation"])
    for name, q in (("p50", 0.5), ("p99", 0.99), ("p99_9", 0.999)):
        assert row["at"](q) / 1e3 == document["op_latency_us"][name]
    curve = details["mmu"]["columns"]
    for window, share in (("1ms", 1_000_000), ("10ms", 10_000_000)):
        at = curve["window_ns"].index(share)
        assert curve["worst_mutator"][at] == document["mmu"][window]
    series = details["series"]["columns"]
    assert len(series["at_ns"]) > 3 and series["at_ns"] == sorted(series["at_ns"])
    assert max(series["heap_resident_bytes"]) == document["peak_heap_resident_bytes"]
    assert len(dump_json(document)) < 400_000


def test_the_page_map_of_a_run_shows_a_whole_cycle(document):
    space = document["details"]["page_map"]["spaces"]["small"]
    cells = -(-space["units"] // space["units_per_cell"])
    assert 0 < len(space["after"]["to"]) <= cells
    assert set(space["after"]["to"]) <= set(".ucm")
    assert "c" in space["after"]["to"] or "m" in space["after"]["to"]
    assert all(-1 <= share <= 100 for share in space["before"]["live_percent"])


def test_long_runs_are_cut_and_say_so(monkeypatch):
    from gcheap.workloads import details, samples
    rows = np.zeros(5000, [("start_ns", "u8"), ("cycle", "u8")])
    rows["cycle"] = range(5000)
    kept = details._records(rows, 0)
    assert kept["seen"] == 5000 and len(kept["columns"]["cycle"]) == details.MOST_RECORDS
    assert kept["columns"]["cycle"][-1] == 4999
    series = details.Thinned(("at", "value"), 0.5)
    for at in range(9000):
        series.add(at, (at, 2 * at))
    document = series.document()
    assert 1000 <= len(document["columns"]["at"]) <= details.Thinned.MOST + 1
    assert document["columns"]["value"] == [2 * at for at in document["columns"]["at"]]
    assert document["interval_ns"] in [2**n * 500_000_000 for n in range(1, 10)]
    monkeypatch.setattr(samples, "MOST_CELLS", 10)
    rows = np.zeros(95, [("space", "u1"), ("current", "?"), ("state", "u1"), ("by", "u1"),
                         ("live_bytes", "i4")])
    rows["current"], rows["state"], rows["by"] = True, 6, 1
    space = samples._space(rows, None, 0, 4096)
    assert space["units_per_cell"] == 10 and space["after"]["to"] == "c" * 10


def test_samples_fall_into_the_buckets_of_the_native_histograms():
    from gcheap.core import _testing
    rng = np.random.default_rng(1)
    values = np.unique(np.concatenate([
        rng.integers(0, 5000, 200), rng.integers(0, 2**44, 200),
        2 ** rng.integers(0, 40, 200), 2 ** rng.integers(1, 40, 200) - 1]))
    edges, counts, maximum = histogram_of(values)
    native = _testing.histogram([int(value) for value in values])
    assert [(min(int(upper), maximum), count) for upper, count in native] == list(
        zip(edges.tolist(), counts.tolist(), strict=True))
    assert merged([(edges, counts, maximum)] * 2)[1].sum() == 2 * len(values)
    assert histogram_of([])[2] == 0 and merged([])[2] == 0


# ---- reading ----------------------------------------------------------------------------------

def test_a_file_of_several_runs_is_several_runs(document, file_of):
    path = file_of({"runs": [document, document]})
    runs = read_runs([path, file_of(document, "two.json")])
    assert [run.name for run in runs] == [f"{path}, run 1", f"{path}, run 2",
                                          path.replace("run.json", "two.json")]


@pytest.mark.parametrize(("content", "complaint"), [
    ("", "an empty file"), ("   \n", "an empty file"), ("{", "no JSON"), ("\x00\x01", "no JSON"),
    ("[" * 100_000, "no JSON"), ('{"a": NaN}', "NaN"), ("[]", "no run"), ("5", "no run"),
    ('{"runs": []}', "no run in it"), ('{"runs": [5]}', "no run"), ('{"version": "0.1"}', "no run"),
    ('{"format": {"name": "gcheap stress", "version": 2}}', "version 2 of the format"),
    ('{"format": {"name": "gcheap stress", "version": true}}', "version True"),
    ('{"benchmark": "backends", "runs": []}', "figures of `gcheap bench backends`"),
    ('{"benchmark": "backends", "runs": [5]}', "`gcheap stress --backend move --json move.json`"),
    ('{"benchmark": "\\u001b[1m"}', r"bench \x1b[1m`"),
    ('{"format": {"name": "other", "version": 1}}', "no run"),
    ('{"format": {"name": "gcheap stress", "version": 1}}', "is missing"),
])
@pytest.mark.parametrize("command", ["report", "stats"])
def test_what_is_no_run_is_one_line_and_status_2(content, complaint, command, file_of, tmp_path,
                                                 capsys):
    target = tmp_path / "out.html"
    more = ["-o", str(target)] if command == "report" else []
    assert cli.main([command, file_of(content), *more]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and complaint in said.err
    assert "run.json" in said.err and len(said.err) < 400
    assert not target.exists()


@pytest.mark.parametrize("command", ["report", "stats"])
def test_files_that_cannot_be_read(command, tmp_path, capsys):
    for path, complaint in (("/nonexistent/run.json", "No such file"), (str(tmp_path), "directory"),
                            ("a\0b", "cannot be read")):
        assert cli.main([command, path]) == 2
        said = capsys.readouterr().err
        assert complaint in said and said.count("\n") == 1
    with pytest.raises(SystemExit) as stopped:
        cli.main([command])
    assert stopped.value.code == 2


def test_an_empty_run_is_refused(document, file_of, capsys):
    empty = changed(document, ("ops",), 0)
    assert cli.main(["stats", file_of(empty)]) == 2
    assert "an empty run" in capsys.readouterr().err


def paths(value, at=()):
    """Every place in a document, but of long lists the first only."""
    yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*at, key))
    elif isinstance(value, list) and value:
        yield from paths(value[0], (*at, 0))


@needs_matplotlib
def test_a_document_that_was_damaged_is_refused_or_shown_and_nothing_else(document, seed):
    """Each value once taken away, and once replaced by what does not belong there."""
    from gcheap.report import render
    rng = np.random.default_rng(seed)
    junk = [DELETED, None, -1, "x", [], {}, True, 1e300, [None], {"a": 1}]
    refused, good = 0, []
    for at in paths(document):
        if not at:
            continue
        for value in junk:
            damaged = changed(document, at, value)
            try:
                check_document(damaged, "x.json")
            except RunFileError as error:
                assert str(error).startswith("x.json: ") and "\n" not in str(error)
                refused += 1
            else:
                good.append(damaged)
    assert refused > 500
    for at in rng.choice(len(good), 2, replace=False):  # what passes can be shown
        assert "</html>" in render([Run("x.json", good[at])])


def accepted(document):
    try:
        check_document(document, "x.json")
    except RunFileError:
        return False
    return True


@needs_matplotlib
def test_nothing_is_read_that_was_not_checked(document):
    """All places at once where anything passes."""
    from gcheap.report import render
    junk = [DELETED, None, -1, "x", [], {}, True, {"a": 1}]
    unchecked = [at for at in paths(document)
                 if at and all(accepted(changed(document, at, value)) for value in junk)]
    assert ("config", "verify") in unchecked and ("ops",) not in unchecked
    for value in junk:
        damaged = document
        for at in unchecked:
            if not any(at[:end] in unchecked for end in range(1, len(at))):
                damaged = changed(damaged, at, value)
        assert "</html>" in render([Run("x.json", damaged)])


# ---- the page ----------------------------------------------------------------------------------

@needs_matplotlib
def test_the_page_holds_the_figures_of_the_document(document):
    from gcheap.report import render
    page = render([Run("run.json", document)])
    assert page.count("<svg") == page.count("</svg>") >= 8
    for text in (number(document["ops"]), f"{number(document['ops_per_s'])}/s",
                 duration(document["pauses"]["max_us"] * 1e3),
                 duration(document["noise_floor_us"]["max"] * 1e3),
                 "Verified: every check passed."):
        assert text in page
    assert not re.findall(r"#[0-9a-f]{6}", re.sub(r"<style>.*?</style>", "", page, flags=re.S)), (
        "a colour that follows no theme")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


@needs_matplotlib
def test_names_are_shown_and_never_obeyed(document):
    from gcheap.report import render
    for name in HOSTILE:
        evil = changed(document, ("workload",), name)
        evil["why"] = evil["version"] = name
        evil["machine"] = evil["machine"] | {"kernel": name}
        evil["config"] = evil["config"] | {name: name}
        check_document(evil, name)
    page = render([Run("".join(HOSTILE), changed(evil, ("workload",), "".join(HOSTILE)))])
    assert "<script" not in page and "\x1b" not in page and "\u202e" not in page
    assert "&lt;script&gt;" in page


@needs_matplotlib
def test_runs_are_overlaid_and_named_by_what_differs(document, file_of, tmp_path):
    other, third = measured(backend="stw"), measured("array-holes")
    assert labels([Run("a", document), Run("b", other)]) == [document["backend"], "stw"]
    assert labels([Run("a", document)]) == ["churn"]
    assert labels([Run("a", document)] * 2) == ["churn #1", "churn #2"]
    assert labels([Run("a", document), Run("b", other), Run("c", third)])[2] == (
        f"array-holes, {third['backend']}")
    fewer = changed(document, ("config", "settings"), {"hit_ratio": 50})
    assert labels([Run("a", document), Run("b", fewer)])[1] == "hit_ratio 50"
    target = tmp_path / "out.html"
    assert cli.main(["report", file_of(document, "a"), file_of(other, "b"), file_of(third, "c"),
                     "-o", str(target)]) == 0
    page = target.read_text()
    assert all(f'class="run run-{n}' in page and f'id="show-{n}"' in page for n in (1, 2, 3))
    assert "Side by side" in page and 'id="show-4"' not in page


@needs_matplotlib
def test_a_run_without_cycles_stalls_or_a_noise_floor_is_shown(document):
    from gcheap.report import render
    bare = json.loads(json.dumps(document))
    details = bare["details"]
    for records in ("cycles", "pauses"):
        details[records] = {"seen": 0, "columns": {
            name: [] for name in details[records]["columns"]}}
    del details["histograms"]["noise_floor"]
    for name in ("fault", "stall", "pause", "time_to_safepoint"):
        details["histograms"][name] = {"count": 0, "max_ns": 0,
                                       "columns": {"value_ns": [], "count": []}}
    details["series"]["columns"] = {name: [] for name in details["series"]["columns"]}
    details["page_map"] = bare["noise_floor_us"] = None
    check_document(bare, "bare")
    assert "No cycle that relocated was seen." in render([Run("bare", bare)])
    assert close_up(details) is None and bars(details) == []


def test_more_runs_than_colours_are_refused(document, file_of, capsys):
    assert cli.main(["report", *[file_of(document)] * 9]) == 2
    assert "9 runs" in capsys.readouterr().err
    assert not os.path.exists("gcheap-report.html")


def test_without_matplotlib_it_says_what_to_install(document, file_of, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["report", file_of(document)]) == 2
    assert "pip install 'gcheap[plot]'" in capsys.readouterr().err
    assert cli.main(["stress", "--report", "x.html"]) == 2


@needs_matplotlib
def test_stress_writes_the_report_of_its_runs(document, tmp_path, monkeypatch, capsys):
    empty = changed(document, ("ops",), 0) | {"interrupted": True}
    results = [document, empty]
    monkeypatch.setattr(stress, "run_stress", lambda config, progress: results.pop(0))
    target = tmp_path / "out.html"
    assert cli.main(["stress", "churn", "trees", "--report", str(target)]) == 130
    assert "<h1>churn</h1>" in target.read_text()
    said = capsys.readouterr()
    assert f"not in the report {target}: churn: an empty run" in said.err
    assert f"{target}: the page of 1 run\n" in said.out
    assert cli.main(["stress", "--report", "/nonexistent/out.html"]) == 2


# ---- what is drawn ---------------------------------------------------------------------------

def test_an_hdr_plot_shows_exact_percentiles_and_ends_with_the_maximum(document):
    histogram = document["details"]["histograms"]["operation"]
    x, y = hdr_points(histogram)
    assert (np.diff(y) >= 0).all() and y[-1] == histogram["max_ns"]
    values, counts = (np.array(histogram["columns"][name]) for name in ("value_ns", "count"))
    for at in (60, 120, 200):
        q = round(1 - 10.0 ** -float(x[at]), 12)
        assert y[at] == of_histogram(values, counts, histogram["max_ns"], q)
    assert [percent_label(tick) for tick in range(6)] == ["0", "90", "99", "99.9", "99.99",
                                                          "99.999"]


def test_phases_lie_within_their_cycles_and_in_order(document):
    details = document["details"]
    columns = details["cycles"]["columns"]
    for cycle, start, length in zip(columns["cycle"], columns["start_ns"], columns["cycle_ns"],
                                    strict=True):
        phases = {bar.lane: bar for bar in bars(details)
                  if bar.cycle == cycle and bar.lane != "pause"}
        assert start <= phases["mark"].start_ns <= phases["weak"].start_ns <= phases[
            "plan"].start_ns
        if "relocate" in phases:
            assert phases["plan"].start_ns <= phases["relocate"].start_ns
            end = phases["relocate"].start_ns + phases["relocate"].length_ns
            assert end <= start + length + 1e6
    begin, end = close_up(details)
    assert 0 <= begin < end


def test_planning_ends_before_the_flip_though_marking_is_timed_from_before_its_pause():
    cycle = {"cycle": [1], "start_ns": [90], "mark_ns": [130], "weak_ns": [20], "plan_ns": [30],
             "relocate_ns": [40]}
    pauses = {"cycle": [1, 1], "phase": ["mark_start", "relocate_start"], "start_ns": [100, 270],
              "reach_ns": [0, 5], "work_ns": [2, 2]}
    found = {bar.lane: bar for bar in bars({"cycles": {"columns": cycle},
                                            "pauses": {"columns": pauses}})}
    assert [found[lane].start_ns for lane in ("mark", "weak", "plan", "relocate")] == [
        100, 225, 245, 275]


# ---- gcheap stats ------------------------------------------------------------------------------

def test_stats_prints_a_ladder_with_a_column_a_run(document, file_of, capsys):
    other = measured(backend="stw")
    assert cli.main(["stats", file_of(document, "a"), file_of(other, "b")]) == 0
    said = capsys.readouterr().out
    for title in ("wall time", "Pauses", "Time to safepoint", "Operations", "Noise floor"):
        assert title in said
    row = summary_row(document["details"]["histograms"]["operation"])
    table = said[said.index("Operations"):said.index("Noise floor")]
    line = next(line for line in table.splitlines() if line.startswith("99.9 %"))
    assert duration(row["at"](0.999)) in line
    faults = said[said.index("Faults"):]
    line = next(line for line in faults.splitlines() if line.startswith("longest"))
    assert line.rstrip().endswith("–"), "stw has none"


def test_stats_of_one_kind_alone(document, file_of, capsys):
    assert cli.main(["stats", "--of", "pause", file_of(document)]) == 0
    said = capsys.readouterr().out
    assert "Pauses" in said and "Operations" not in said
    with pytest.raises(SystemExit) as stopped:
        cli.main(["stats", "--of", "nonsense", file_of(document)])
    assert stopped.value.code == 2
