"""What `gcheap bench marking` makes of its rounds (times are given), and one real run."""
import io
import json

import pytest
from rich.console import Console

from gcheap import cli
from gcheap.provenance import stamp
from gcheap.tools import bench_marking
from gcheap.tools.suite import document_of
from gcheap.workloads.turns import TurnTaker

CONFIG = {"workload": "churn", "live": 64 << 20, "threads": 2, "rounds": 3, "mutators": 1,
          "policy": "fixed", "seed": 1, "warm_up_rounds": 2, "backend": "move", "unit_pages": 16}
OUTCOME = {"backend": "move", "marker_bytes": 1000, "verified": True}
MS = 1_000_000


def made_of(rounds, outcome, interrupted=False):
    return document_of("marking", CONFIG, bench_marking.summarize(rounds, outcome), stamp(1),
                       interrupted)


def test_ratios_are_formed_inside_a_round():
    rounds = [{"idle": (8 * MS, 4 * MS), "busy": (9 * MS, 9 * MS)},
              {"idle": (80 * MS, 50 * MS), "busy": (10 * MS, 8 * MS)},
              {"idle": (6 * MS, 4 * MS), "busy": (9 * MS, 10 * MS)}]
    made = made_of(rounds, OUTCOME)
    assert made["rounds"] == 3 and made["verified"] and made["marker_bytes"] == 1000
    idle, busy = made["mutators"]["idle"], made["mutators"]["busy"]
    assert idle["one_ms"]["median"] == 8 and idle["several_ms"]["median"] == 4
    assert idle["speedup"]["median"] == 1.6 and busy["speedup"]["median"] == 1.0
    json.dumps(made, allow_nan=False)
    stream = io.StringIO()
    bench_marking.show(made, Console(file=stream, width=100, highlight=False))
    text = " ".join(stream.getvalue().split())
    assert "2 threads" in text and "idle 8" in text and "1.60" in text


def test_a_run_that_was_interrupted_early_has_a_document():
    made = made_of([], {}, interrupted=True)
    assert made["interrupted"] and not made["verified"]
    assert made["mutators"]["idle"]["speedup"]["median"] is None
    json.dumps(made, allow_nan=False)


@pytest.mark.parametrize("command", [
    ["--threads", "0"], ["--threads", "65"], ["--rounds", "0"], ["--live", "lots"],
    ["--backend", "teleport"],
])
def test_bad_usage_is_one_line_and_status_2(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "marking", *command])
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and command[0] in output.err


def test_what_cannot_be_written_is_refused_before_anything_runs(capsys):
    assert cli.main(["bench", "marking", "--json", "/nonexistent/out.json"]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and "/nonexistent" in output.err


def test_an_idle_turn_allocates_nothing_while_its_cycle_runs():
    taker = TurnTaker(2 << 20, mutators=2, handles=10, seed=1, mark_threads=2)
    try:
        taker.populate()
        taker.turn(idle=True)
        taker.turn(idle=True)
        assert taker.heap.cycles()["black_bytes"][-1] == 0
        assert taker.audit()
    finally:
        taker.close()


def test_a_real_run_takes_turns(capsys):
    status = cli.main(["bench", "marking", "--live", "4MiB", "--rounds", "2", "--mutators", "2",
                       "--json", "-"])
    output = capsys.readouterr()
    assert status == 0, output.err
    made = json.loads(output.out)
    assert made["rounds"] == 2 and made["verified"] and made["config"]["threads"] == 2
    for row in made["mutators"].values():
        assert row["one_ms"]["rounds"] == 2 and row["one_ms"]["low"] > 0
        assert row["several_ms"]["low"] > 0 and row["speedup"]["low"] > 0
    assert "times shorter" in output.err
