"""What `gcheap bench backends` makes of its runs (documents are given), and one real round."""
import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console
from support import kernel_offers, run_python

from gcheap.provenance import stamp
from gcheap.tools import bench_backends
from gcheap.tools.suite import document_of

CONFIG = {"workload": "churn", "live": 64 << 20, "capacity": 128 << 20, "rounds": 3,
          "seconds": 2.0, "mutators": 1, "faults": "sigbus", "unit_pages": 16, "seed": 1,
          "min_cycles": 3}


def row(turn, name, relocate, resident=1.2):
    return {"round": turn, "case": name, "relocate_ms": relocate, "cycles": 5,
            "seconds": 2.0, "relocate_start_p99_us": 80.0, "noise_p99_us": 0.5,
            "safepoint_p99_us": 7.0, "fault_p99_us": 90.0, "stall_ms": 1.5,
            "resident_over_used": resident, "ops_per_s": 3e5, "verified": True}


ROWS = [
    row(1, "move", 30, 1.1), row(1, "copy", 40, 1.4), row(1, "copy_single", 60, 1.5),
    row(2, "move", 60, 1.2), row(2, "copy", 60, 1.4), row(2, "copy_single", 240, 1.6),
    row(3, "move", 20, 1.3), row(3, "copy", 40, 1.5), row(3, "copy_single", 50, 1.5),
]


def summarized(rows, config, **options):
    return document_of("backends", config, bench_backends.summarize(rows, config), stamp(7),
                       **options)


def test_ratios_are_formed_inside_a_round():
    document = summarized(ROWS, CONFIG)
    # The rounds' ratios are 0.5, 0.25, 0.4: their median is not the ratio of the medians.
    assert document["move_over_copy_single"] == {
        "median": 0.4, "low": 0.25, "high": 0.5, "rounds": 3}
    assert document["move_over_copy_batched"] == {
        "median": 0.75, "low": 0.5, "high": 1.0, "rounds": 3}
    assert document["heap_resident_over_used"]["move"] == {
        "median": 1.2, "low": 1.1, "high": 1.3, "rounds": 3}
    assert document["relocate_ms"]["copy_single"]["median"] == 60
    assert document["interval"]["coverage"] == 0.75
    assert "bootstrap" in document["interval"]["method"]
    assert document["metrics"]["copy: relocate ms"]["values"] == [40, 60, 40]
    assert document["metrics"]["move / copy_single: relocate"]["values"] == [0.5, 0.25, 0.4]
    assert document["rounds"] == 3 and not document["interrupted"]
    assert {"machine", "provenance", "version", "config", "runs"} <= set(document)
    json.dumps(document, allow_nan=False)


def test_a_round_that_was_cut_short_does_not_count():
    document = summarized(ROWS[:5], CONFIG, interrupted=True)
    assert document["rounds"] == 1 and document["interrupted"]
    assert document["move_over_copy_single"]["median"] == 0.5
    assert len(document["runs"]) == 5


def test_no_round_at_all():
    document = summarized([], CONFIG, interrupted=True)
    assert document["rounds"] == 0
    assert document["move_over_copy_single"]["median"] is None


def test_a_run_without_relocation_is_left_out_of_the_ratios():
    rows = [dict(item, relocate_ms=None) if item["case"] == "copy" else item
            for item in ROWS[:3]]
    document = summarized(rows, CONFIG)
    assert document["move_over_copy_batched"]["rounds"] == 0
    assert document["move_over_copy_single"]["rounds"] == 1


def test_the_table_shows_ratios_and_spread():
    stream = io.StringIO()
    document = summarized(ROWS, CONFIG)
    bench_backends.show(document, Console(file=stream, width=120, highlight=False))
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert "move / copy by page 0.40 0.25 0.50" in lines
    assert "move / copy 0.75 0.50 1.00" in lines
    at = lines.index("move 30 ms 80 µs 7 µs 90 µs 1.50 ms 500 ns 1.20")
    assert lines[at + 1].startswith("20 ms–60 ms 80 µs–80 µs 7 µs–7 µs 90 µs–90 µs 1.50 ms–")
    assert lines[at + 1].endswith("500 ns–500 ns 1.10–1.30")
    assert lines[-1].endswith("75 % coverage at 3 rounds") and ", seed 7" in lines[0]


@pytest.fixture
def turns(monkeypatch):
    """Replaces the runs: each makes the number of cycles that its seconds allow."""
    made = []

    def run(config, progress=None):
        made.append((config.backend, config.unit_pages, config.seconds, config.seed))
        assert config.faults == "handler"
        return {"relocate_ms": {"p50": 10.0}, "cycles": int(config.seconds), "verified": True,
                "seconds": config.seconds, "ops_per_s": 1.0, "used_before_max_bytes": 100,
                "peak_heap_resident_bytes": 120, "noise_floor_us": {"p99": 1.0},
                "time_to_safepoint_us": {"p99": 7.0}, "faults": {"p99_us": 90.0},
                "stalls": {"total_ms": 1.5},
                "pauses": {"by_phase": {"relocate_start": {"p99_us": 50.0}}}}

    monkeypatch.setattr(bench_backends, "run_stress", run)
    return made


def test_configurations_take_turns_with_one_seed(turns):
    args = SimpleNamespace(rounds=2, seconds=4.0, mutators=1, live=8 << 20, faults="handler",
                           unit_pages=16, seed=9)
    rows = []
    bench_backends.measure(args, rows, Console(file=io.StringIO()))
    assert [run[:2] for run in turns] == [("move", 16), ("copy", 16), ("copy", 1)] * 2
    assert {run[3] for run in turns} == {9}
    assert [item["case"] for item in rows] == ["move", "copy", "copy_single"] * 2
    assert [item["round"] for item in rows] == [1, 1, 1, 2, 2, 2]
    assert rows[0]["resident_over_used"] == 1.2


def test_a_run_with_too_few_cycles_is_repeated_longer(turns):
    args = SimpleNamespace(rounds=1, seconds=1.0, mutators=1, live=8 << 20, faults="handler",
                           unit_pages=16, seed=1)
    rows = []
    bench_backends.measure(args, rows, Console(file=io.StringIO()))
    assert [run[2] for run in turns] == [1.0, 2.0, 4.0, 4.0, 4.0]
    assert all(item["cycles"] >= bench_backends.MIN_CYCLES for item in rows)


def test_a_real_round():
    reason = kernel_offers("move")
    if reason:
        pytest.skip(f"no backend move here: {reason}")
    done = run_python("""
        import sys
        from gcheap.cli import main
        sys.exit(main(["bench", "backends", "--live", "8MiB", "--rounds", "1",
                       "--seconds", "1", "--json", "-"]))
    """, timeout=300)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["rounds"] == 1
    for key in ("move_over_copy_single", "move_over_copy_batched"):
        assert document[key]["rounds"] == 1 and document[key]["median"] > 0
    assert set(document["heap_resident_over_used"]) == {"move", "copy", "copy_single"}
    assert all(run["cycles"] >= bench_backends.MIN_CYCLES for run in document["runs"])
    assert "round 1/1" in done.stderr and "move / copy by page" in done.stderr
