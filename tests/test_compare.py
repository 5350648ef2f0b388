"""`gcheap compare` on made-up documents: what it finds, what it refuses, what it says."""
import copy
import json

import numpy as np
import pytest
from report_support import DELETED, changed, measured

from gcheap import cli
from gcheap.provenance import stamp
from gcheap.tools.compare import compare, figure
from gcheap.tools.documents import OF_A_RUN, ForeignDocument, load
from gcheap.tools.suite import document_of, metric

CONFIG = {"rounds": 9, "seed": 1}


def bench(name="roots", factor=1.0, rounds=9, seed=1, figures=12, **changes):
    """A suite's document of noisy figures; the one called "planted" is `factor` times as much."""
    rng = np.random.default_rng(seed)
    metrics = {f"figure {i}": metric("ns", "less", rng.normal(100, 5, rounds).tolist())
               for i in range(figures)}
    metrics["planted"] = metric("ns", "less", (factor * rng.normal(100, 5, rounds)).tolist())
    metrics["rate"] = metric("/s", "more", rng.normal(1e6, 1e4, rounds).tolist())
    found = {"rounds": rounds, "metrics": metrics}
    return document_of(name, CONFIG, found, stamp(1)) | changes


def a_run(workload="churn", factor=1.0, seed=1, **config):
    rng = np.random.default_rng(seed)
    run = measured() | stamp(1) | {"workload": workload}
    run["config"] |= {"workload": workload, **config}
    for keys in OF_A_RUN:
        at = run
        for key in keys[:-1]:
            at = at.setdefault(key, {})
        at[keys[-1]] = float(rng.normal(100, 2)) * (factor if keys == ("ops_per_s",) else 1)
    run["peak_heap_resident_bytes"] = int(1e6 * run["peak_heap_resident_bytes"])
    return run


def runs(factor=1.0, count=7, first_seed=1, **config):
    return {"runs": [a_run(factor=factor, seed=first_seed + i, **config) for i in range(count)]}


@pytest.fixture
def files(tmp_path):
    def write(*documents):
        paths = []
        for number, document in enumerate(documents):
            path = tmp_path / f"{number}.json"
            path.write_text(document if isinstance(document, str) else json.dumps(document))
            paths.append(str(path))
        return paths
    return write


def compared(capsys, arguments, status):
    assert cli.main(["compare", *arguments]) == status
    return " ".join(capsys.readouterr().out.split())


def test_a_planted_difference_is_found(files, capsys):
    out = compared(capsys, files(bench(), bench(factor=1.5, seed=2)), 1)
    assert "planted" in out and "1 worse" in out and "figure 3" not in out
    out = compared(capsys, files(bench(), bench(factor=0.6, seed=2)), 0)
    assert "1 better" in out


def test_none_is_found_where_none_is(files, capsys):
    out = compared(capsys, files(bench(), bench(seed=2)), 0)
    assert "nothing stands out of the noise" in out and "figure 3" not in out
    out = compared(capsys, [*files(bench(), bench(seed=2)), "--all"], 0)
    assert "figure 3" in out and "planted" in out


def test_a_document_is_the_same_as_itself(files, capsys):
    one, = files(bench())
    assert "nothing stands out" in compared(capsys, [one, one], 0)


def test_too_few_repetitions_cannot_tell(files, capsys):
    out = compared(capsys, files(bench(rounds=3), bench(rounds=3, factor=5, seed=2)), 0)
    assert "cannot tell: 14 figures" in out and "6 on each side would do" in out


def test_the_document(files, tmp_path):
    target = str(tmp_path / "out.json")
    assert cli.main(["compare", *files(bench(), bench(factor=2, seed=2)), "--json", target]) == 1
    made = json.loads((tmp_path / "out.json").read_text())
    assert made["suite"] == "roots" and made["counts"]["worse"] == 1
    row = next(row for row in made["figures"] if row["name"] == "planted")
    assert row["verdict"] == "worse" and row["low"] < row["ratio"] < row["high"]
    assert 1.8 < row["ratio"] < 2.2 and row["adjusted_p"] >= row["p"]
    assert made["machine_differs"] == made["config_differs"] == {}


def test_runs_of_stress_are_repetitions(files, capsys):
    out = compared(capsys, files(runs(), runs(factor=0.7, first_seed=50)), 1)
    assert "churn: ops per s" in out and "1 worse" in out
    assert "nothing stands out" in compared(capsys, files(runs(), runs(first_seed=50)), 0)
    out = compared(capsys, files(a_run(), a_run(factor=0.1, seed=2)), 0)
    assert "cannot tell" in out


def test_figures_without_a_value_are_left_out(files):
    some = runs()
    for run in some["runs"][:4]:
        run["faults"]["p99_us"] = None
    some["runs"][0]["noise_floor_us"] = None
    results = load(files(some)[0])
    assert len(results.figures["churn: faults p99"].values) == 3
    assert len(results.figures["churn: noise floor max"].values) == 6


def test_another_machine_or_configuration_is_said(files, capsys):
    other = bench(seed=2)
    other["machine"] = other["machine"] | {"cpus": 64, "kernel": "5.0"}
    other["config"] = other["config"] | {"rounds": 10}
    out = compared(capsys, files(bench(), other), 0)
    assert "another machine: cpus" in out and "another machine: kernel" in out
    assert "another configuration: rounds 9, then 10" in out


def test_figures_of_one_side_only_are_counted(files, capsys):
    assert "3 figures only after" in compared(
        capsys, files(bench(), bench(figures=15, seed=2)), 0)


def edited(**changes):
    document = copy.deepcopy(bench())
    document["metrics"]["figure 0"] = document["metrics"]["figure 0"] | changes
    return document


@pytest.mark.parametrize(("second", "complaint"), [
    (bench("alloc"), "of one suite"), (runs(), "of one suite"),
    ("{", "not JSON"), ("[1, 2]", "no document"), ("{}", "no document"), ("7", "no document"),
    ('{"runs": []}', "no document"), ('{"runs": [7]}', "no document"),
    ('{"runs": [{"workload": "churn"}]}', "this is no run"),
    ("[" * 100000, "not JSON"),
    (edited(values=[1, "2"]), "expected a number"), (edited(values=None), "no document"),
    (edited(values=[True]), "expected a number"), (edited(better="most"), "better side"),
    (bench(rounds=0), "nothing was measured"), (bench(machine=None), "which machine"),
    ({key: value for key, value in bench().items() if key != "metrics"}, "no repetitions"),
    (bench() | {"metrics": {"other": metric("ns", "less", [1.0])}}, "no figure in common"),
])
def test_what_cannot_be_compared_is_refused_in_one_line(files, capsys, second, complaint):
    assert cli.main(["compare", *files(bench(), second)]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and complaint in output.err


@pytest.mark.parametrize(("path", "value", "complaint"), [
    (("format", "version"), 2, "version 2 of the format"), (("format",), DELETED, "no run"),
    (("ops",), "many", "`ops` is 'many'"), (("ops",), 0, "an empty run"),
    (("seconds",), 0, "an empty run"), (("seconds",), -1.5, "`seconds` is -1.5"),
    (("op_latency_us", "p99"), -1, "`op_latency_us.p99` is -1"),
    (("details", "histograms", "pause", "columns"), DELETED, "histograms.pause.columns"),
    (("details", "histograms", "pause", "count"), 10**6, "expected its count, 1000000"),
    (("details", "histograms", "operation", "columns", "value_ns", 0), 10**12, "do not go up"),
    (("config", "live"), 5, "not repetitions")])
@pytest.mark.parametrize("command", ["compare", "stats", "report"])
def test_a_damaged_run_is_refused_by_all_that_read_it(files, capsys, command, path, value,
                                                      complaint):
    paths = files({"runs": [a_run(), changed(a_run(), path, value)]})
    if complaint == "not repetitions" and command != "compare":
        return                                  # runs side by side may be of any two
    assert cli.main([command, *paths * (1 + (command == "compare"))]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and complaint in output.err


def test_a_value_that_json_has_no_word_for_is_refused(files):
    path, = files(json.dumps(bench()).replace('"rounds": 9', '"rounds": NaN', 1))
    assert load(path).suite == "roots"          # elsewhere than in a figure it does no harm
    path, = files(json.dumps(edited(values=[float("nan")])))
    with pytest.raises(ForeignDocument, match="expected a number"):
        load(path)


@pytest.mark.parametrize("missing", ["/nowhere/a.json", "."])
def test_a_file_that_cannot_be_read(files, capsys, missing):
    assert cli.main(["compare", *files(bench()), missing]) == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and missing in output.err


def test_a_name_from_outside_obeys_no_terminal(files, capsys):
    evil = [bench(), bench(seed=2, factor=2)]
    for document in evil:
        document["metrics"]["\x1b[2J"] = document["metrics"].pop("planted")
        document["version"] = "\x1b]0;x\x07"
    assert cli.main(["compare", *files(*evil)]) == 1
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(("value", "unit", "text"), [
    (1500, "ns", "1.50 µs"), (2, "ms", "2 ms"), (3 << 20, "B", "3 MiB"), (0.5, "", "0.50"),
    (1234567, "/s", "1,234,567/s"),
])
def test_figures_are_shown_in_their_units(value, unit, text):
    assert figure(value, unit) == text


def test_ratios_without_a_number(files):
    before, after = bench(), bench(seed=2)
    before["metrics"]["planted"]["values"] = [0.0] * 9
    made = compare(*(load(path) for path in files(before, after)))
    row = next(row for row in made["figures"] if row["name"] == "planted")
    assert row["ratio"] is None and row["verdict"] == "worse"
