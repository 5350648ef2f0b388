"""What suites share: turns, whole rounds, metrics, and how a suite ends."""
import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from gcheap.errors import HeapExhausted
from gcheap.tools.suite import (
    metric,
    metrics_of,
    noise_floor,
    noise_line,
    run_suite,
    take_turns,
    whole_rounds,
)


def test_cases_take_turns():
    rows, order = [], []

    def take(case):
        order.append(case)
        return {"ns": len(order), "progress": "done"}

    stream = io.StringIO()
    take_turns(2, ["a", "b"], take, rows, Console(file=stream))
    assert order == ["a", "b", "a", "b"]
    assert rows[2] == {"round": 2, "case": "a", "ns": 3}
    assert stream.getvalue().splitlines()[0] == "round 1/2  a: done"
    turns = whole_rounds(rows[:3], ["a", "b"])
    assert len(turns) == 1
    assert metrics_of(turns, ["a", "b"], {"ns": ("ns", "less")}) == {
        "a: ns": metric("ns", "less", [1]), "b: ns": metric("ns", "less", [2])}


def test_a_value_that_was_not_measured_is_left_out():
    assert metric("ns", None, [None, 3, None])["values"] == [3]
    assert metric("ns", None, [None])["median"] is None


def carried_out(tmp_path, measure, **found):
    args = SimpleNamespace(json=str(tmp_path / "out.json"))
    shown = []
    status = run_suite("suite", args, {"seed": 5}, measure,
                       lambda: {"rounds": 1, "metrics": {}} | found,
                       lambda document, console: shown.append(document))
    path = tmp_path / "out.json"
    return status, shown, json.loads(path.read_text()) if path.exists() else None


def test_a_suite_that_ends_well(tmp_path):
    status, shown, document = carried_out(tmp_path, lambda console: None)
    assert status == 0 and shown == [document] and not document["interrupted"]
    assert {"version", "machine", "provenance", "benchmark", "config", "interval",
            "metrics"} <= set(document)
    assert document["provenance"]["seed"] == 5 and document["benchmark"] == "suite"


def test_a_suite_whose_data_was_damaged(tmp_path):
    assert carried_out(tmp_path, lambda console: None, verified=False)[0] == 1


def test_a_suite_that_is_interrupted(tmp_path):
    def measure(console):
        raise KeyboardInterrupt

    status, shown, document = carried_out(tmp_path, measure)
    assert status == 130 and shown and document["interrupted"]
    status, shown, document = carried_out(tmp_path, measure, rounds=0)
    assert status == 130 and not shown and document["rounds"] == 0


def test_a_suite_that_fails_leaves_no_file(tmp_path):
    def measure(console):
        raise HeapExhausted("no room")

    with pytest.raises(HeapExhausted):
        carried_out(tmp_path, measure)
    assert not list(tmp_path.iterdir())


def test_the_noise_floor_is_told():
    document = {"noise_floor_us": noise_floor(0.02)}
    assert "touches no heap" in str(noise_line(document))
    assert "not measured" in str(noise_line({}))
