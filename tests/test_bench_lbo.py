"""The lower-bound overhead: by hand, and one small real run."""
import json

import pytest

from gcheap import cli
from gcheap.tools import bench_lbo
from gcheap.tools.lbo import Cost, cpu_cost, distilled, overheads, wall_cost


def test_by_hand():
    """Cai et al. 2022, eq. 1: totals 100, 120, 90; for certain 20, 50, 5.  The least of 80, 70,
    85 is 70."""
    costs = {"a": [Cost(100, 20)], "b": [Cost(120, 50)], "c": [Cost(90, 5)]}
    assert distilled([cost for row in costs.values() for cost in row]) == 70
    made = overheads(costs)
    assert made["a"]["overhead"] == pytest.approx(100 / 70)
    assert made["b"]["overhead"] == pytest.approx(120 / 70)
    assert made["c"]["overhead"] == pytest.approx(90 / 70)
    assert all(row["low"] == row["high"] == row["overhead"] for row in made.values())


def test_medians_over_rounds_come_first():
    """Medians: totals 100 and 200, distilled 90 and 150.  The 10 of a lucky round is no cost."""
    costs = {"a": [Cost(100, 10), Cost(100, 10), Cost(20, 10)],
             "b": [Cost(200, 50), Cost(210, 60), Cost(190, 40)]}
    made = overheads(costs)
    assert made["a"]["overhead"] == pytest.approx(100 / 90)
    assert made["b"]["overhead"] == pytest.approx(200 / 90)
    assert made["b"]["low"] <= 200 / 90 < made["b"]["high"]


def document(mutators=1, stall_ms=0.0, pause_ms=0.0, fault_ms=0.0):
    return {"ops": 1000, "seconds": 2.0,
            "cost": {"mutators": mutators, "cpu_ms": 3000.0, "collector_cpu_ms": 1000.0,
                     "pause_ms": pause_ms, "fault_ms": fault_ms, "stall_ms": stall_ms}}


def test_wall_cost_is_time_of_mutators():
    assert wall_cost(document(fault_ms=100, pause_ms=50)) == Cost(2e6, 150e3)
    # Two mutators: 4 s of their time; a pause costs both of them.
    assert wall_cost(document(2, fault_ms=100, pause_ms=50)) == Cost(4e6, 200e3)
    # A stall and a pause may be the same time: the larger counts.
    assert wall_cost(document(2, stall_ms=300, pause_ms=50)) == Cost(4e6, 300e3)
    # Never more than there was.
    assert wall_cost(document(stall_ms=9000)) == Cost(2e6, 2e6)


def test_cpu_cost_is_of_the_process_and_the_threads_that_collect():
    assert cpu_cost(document(fault_ms=100)) == Cost(3e6, 1e6)


def rows(**changes):
    row = {"verified": True, "wall_ns_per_op": 100.0, "wall_certain": 20.0, "cpu_ns_per_op": 80.0,
           "cpu_certain": 30.0, "pause_max_us": 5.0, "safepoint_p99_us": None, "stall_ms": 0.0,
           "fault_ms": 1.0}
    return [{"round": 1, "case": case, **row, **changes.get(case, {})} for case in ("a", "b")]


CASES = {"a": ("move", 1 << 20), "b": ("copy", 1 << 20)}


def test_the_document():
    made = bench_lbo.summarize(rows(), CASES, {})
    assert made["overhead"]["wall"]["a"]["overhead"] == pytest.approx(100 / 80)
    assert made["overhead"]["cpu"]["a"]["overhead"] == pytest.approx(80 / 50)
    assert made["metrics"]["a: wall ns per op"]["values"] == [100.0] and made["verified"]


def test_a_heap_that_was_too_small_is_left_out():
    some = rows(b={"wall_ns_per_op": 1.0})
    made = bench_lbo.summarize(some, CASES, {"b": "exhausted"})
    assert made["rounds"] == 1 and set(made["overhead"]["wall"]) == {"a"}
    assert made["cases"][1]["exhausted"] == "exhausted"


def test_a_check_that_failed_fails():
    assert not bench_lbo.summarize(rows(b={"verified": False}), CASES, {})["verified"]


def test_a_real_run(capsys):
    status = cli.main(["bench", "lbo", "--live", "2MiB", "--minimum", "2304KiB", "--heaps",
                       "1.01,3", "--backends", "stw,copy", "--rounds", "1", "--seconds", "0.3",
                       "--json", "-"])
    output = capsys.readouterr()
    assert status == 0, output.err
    made = json.loads(output.out)
    assert [case["capacity"] for case in made["cases"]][2:] == [3 * 2304 << 10] * 2
    ran = {case["case"] for case in made["cases"] if not case["exhausted"]}
    for clock in ("wall", "cpu"):
        assert set(made["overhead"][clock]) == ran >= {"stw 3x", "copy 3x"}
        assert all(row["overhead"] >= 1 for row in made["overhead"][clock].values())
    assert "wall overhead" in output.err and "noise floor" in output.err


def test_the_minimum_is_found_first(capsys, monkeypatch):
    monkeypatch.setattr(bench_lbo, "search",
                        lambda config, **_options: {"minimum_bytes": 4 << 20})
    monkeypatch.setattr(bench_lbo.Overheads, "summarize",
                        lambda self: {"rounds": 0, "metrics": {}, "found": self.cases()})
    monkeypatch.setattr(bench_lbo, "take_turns", lambda *_arguments: None)
    assert cli.main(["bench", "lbo", "--live", "2MiB", "--heaps", "1.5,2", "--backends", "move",
                     "--seconds", "0.01", "--json", "-"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["config"]["minimum"] == 4 << 20
    assert made["found"] == {"move 1.5x": ["move", 6 << 20], "move 2x": ["move", 8 << 20]}


@pytest.mark.parametrize("command", [
    ["--heaps", "2"], ["--heaps", "0.5,2"], ["--heaps", "a,b"], ["--backends", "teleport"],
    ["--minimum", "much"], ["--rounds", "0"], ["--seconds", "-1"],
])
def test_bad_usage_is_one_line_and_status_2(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "lbo", *command])
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and command[0] in output.err


@pytest.mark.parametrize("command", [["dreams"], ["--live", "1KiB"], ["--json", "/nowhere/x"]])
def test_what_cannot_be_run_is_refused_before_anything_runs(command, capsys):
    assert cli.main(["bench", "lbo", *command]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
