"""What `gcheap bench pauses` makes of its turns (records are given), and one real run."""
import io
import json

import numpy as np
import pytest
from rich.console import Console
from support import kernel_offers

from gcheap import cli
from gcheap.errors import HeapClosed, HeapExhausted, OptionError
from gcheap.face.reports import CYCLE_FIELDS, PAUSE_FIELDS
from gcheap.provenance import stamp
from gcheap.tools import bench_pauses
from gcheap.tools.suite import document_of
from gcheap.workloads.turns import Turn, TurnTaker

CONFIG = {"workload": "churn", "live": [64 << 20, 1 << 30], "cycles": 2, "mutators": 1,
          "handles": 1000, "backend": "move", "faults": "sigbus", "unit_pages": 16,
          "policy": "fixed", "seed": 1, "warm_up_turns": 2, "interleaved": True}
KEYS = {"count", "wall_p50_us", "wall_p99_us", "cpu_p50_us", "cpu_p99_us"}
PAUSES = ["mark_start", "mark_end", "relocate_start"]


def measured(live, work_ns, cpu_ns):
    """Two turns of one size whose three pauses took so long, and 100 ns to a safepoint."""
    one = bench_pauses.Measured(live)
    none, two = (np.zeros(0, "u8"), np.zeros(0, "u8"), 0), (np.array([9000]), np.array([2]), 9000)
    one.before = {"fault": none, "stall": none}
    one.after = {"fault": two, "stall": none}
    for cycle in (1, 2):
        one.turns.append(Turn(cycle * 1000, cycle * 1000 + 500, cycle))
        one.pauses.append(np.array(
            [(cycle, phase, 0, 100, work_ns, cpu_ns, 1) for phase in PAUSES], PAUSE_FIELDS))
        one.cycles.append(np.zeros(1, CYCLE_FIELDS))
    one.verified = True
    return one


def document(*sizes, **options):
    return document_of("pauses", CONFIG, bench_pauses.summarize(list(sizes)), stamp(), **options)


SMALL, EQUAL = measured(64 << 20, 20_000, 10_000), measured(1 << 30, 30_000, 15_000)
SLOW, BUSY = measured(1 << 30, 32_000, 10_000), measured(1 << 30, 20_000, 16_000)


def test_every_pause_has_its_percentiles():
    made = document(SMALL, EQUAL)
    assert [row["live_bytes"] for row in made["runs"]] == [64 << 20, 1 << 30]
    row = made["runs"][0]
    assert row["cycles"] == 2 and row["verified"]
    assert list(row["phases"]) == [*PAUSES, "time_to_safepoint", "fault", "allocation_stall",
                                   *bench_pauses.CONCURRENT]
    assert all(set(phase) == KEYS for phase in row["phases"].values())
    assert row["phases"]["mark_end"] == {"count": 2, "wall_p50_us": 20.0, "wall_p99_us": 20.0,
                                         "cpu_p50_us": 10.0, "cpu_p99_us": 10.0}
    reach = row["phases"]["time_to_safepoint"]
    assert reach["count"] == 6 and reach["wall_p50_us"] == 0.1 and reach["cpu_p99_us"] is None
    assert {"version", "benchmark", "machine", "provenance", "config"} <= set(made)
    assert made["rounds"] == 2
    assert made["metrics"]["1 GiB: mark end, CPU"]["values"] == [15.0, 15.0]
    assert made["metrics"]["64 MiB: time to safepoint"]["values"] == [0.1, 0.1]
    json.dumps(made, allow_nan=False)


@pytest.mark.parametrize(("large", "holds"), [(EQUAL, True), (SLOW, False), (BUSY, False)])
def test_flat_is_both_the_median_and_the_cpu_time(large, holds):
    made = document(SMALL, large)
    assert set(made["flat"]) == set(PAUSES) == set(made["pauses"])
    assert {row["holds"] for row in made["flat"].values()} == {holds}
    stream = io.StringIO()
    bench_pauses.show(made, Console(file=stream, width=100, highlight=False))
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert sum("NOT flat" in line for line in lines) == (0 if holds else 3)
    assert sum(": flat: " in line for line in lines) == (3 if holds else 0)


def test_the_table_puts_the_largest_beside_the_smallest():
    stream = io.StringIO()
    bench_pauses.show(document(SMALL, EQUAL), Console(file=stream, width=100, highlight=False))
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert "pause: mark end 20 µs 30 µs 1.50 20 µs 30 µs 1.50" in lines
    assert "pause: mark end 10 µs 15 µs 1.50 10 µs 15 µs 1.50" in lines
    assert "fault 9 µs 9 µs 1.00 9 µs 9 µs 1.00" in lines
    assert "allocation stall – – – – – –" in lines
    assert "time to safepoint 100 ns 100 ns 1.00 100 ns 100 ns 1.00" in lines


def test_a_run_that_was_interrupted_early():
    made = document(bench_pauses.Measured(1 << 20), bench_pauses.Measured(1 << 21),
                    interrupted=True)
    assert made["interrupted"] and made["flat"] == {} and made["runs"][0]["phases"] == {}
    assert made["rounds"] == 0 and made["metrics"] == {}


@pytest.mark.parametrize(("text", "complaint"), [
    ("64MiB", "two or more"), ("1MiB,1024KiB", "different"), ("1MiB,huge", "huge"),
    ("1MiB,", "--live"), ("8KiB,1MiB", "1 MiB and more"), ("-1,5MiB", "-1"),
])
def test_sizes_that_are_not_accepted(text, complaint):
    with pytest.raises(OptionError, match=complaint):
        bench_pauses.parse_sizes(text)


def test_sizes_are_put_in_order():
    assert bench_pauses.parse_sizes("1GiB,64MiB") == [64 << 20, 1 << 30]


@pytest.mark.parametrize("command", [
    ["--cycles", "0"], ["--mutators", "none"], ["--handles", "-1"], ["--live", "4MiB"],
    ["--backend", "teleport"], ["--faults", "politely"],
])
def test_bad_usage_is_one_line_and_status_2(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "pauses", *command])
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and command[0] in output.err


@pytest.mark.parametrize(("command", "complaint"), [
    (["--json", "/nonexistent/out.json"], "/nonexistent"),
    (["--seed=-1"], "--seed"),
    (["--live", "1MiB,2MiB", "--mutators", "50"], "mutators"),
    (["--live", "1MiB,100TiB"], "memory"),
])
def test_what_cannot_be_run_is_refused_before_anything_runs(command, complaint, capsys):
    assert cli.main(["bench", "pauses", *command]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and complaint in output.err


def test_heaps_that_do_not_fit_together_are_measured_apart():
    sizes = [1 << 30, 4 << 30]
    assert bench_pauses.groups_of(sizes, "move", 8 << 30) == [sizes]
    assert bench_pauses.groups_of(sizes, "move", 7 << 30) == [[1 << 30], [4 << 30]]
    assert bench_pauses.groups_of(sizes, "copy", 11 << 30) == [[1 << 30], [4 << 30]]
    with pytest.raises(OptionError, match="smaller sizes"):
        bench_pauses.groups_of(sizes, "move", 5 << 30)


def test_a_heap_between_its_turns_stands_still(combination):
    taker = TurnTaker(2 << 20, mutators=2, handles=10, seed=1, **combination)
    try:
        taker.populate()
        turns = [taker.turn(), taker.turn()]
        after = taker.heap.stats()
        assert turns[0].end_ns <= turns[1].start_ns and turns[0].cycle < turns[1].cycle
        assert taker.heap.stats().allocated_bytes == after.allocated_bytes
        assert after.mutators == 2 and taker.audit()
    finally:
        taker.close()


def test_what_a_mutator_raises_comes_out_and_everything_ends(monkeypatch):
    taker = TurnTaker(2 << 20, mutators=2, handles=10, seed=1)

    def refuse(_mutator, index):
        if index == 1:
            raise HeapExhausted("no room")

    try:
        taker.populate()
        monkeypatch.setattr(taker, "_run", refuse)
        with pytest.raises(HeapExhausted, match="no room"):
            taker.turn()
    finally:
        taker.close()
    with pytest.raises(HeapClosed):
        taker.heap.stats()


@pytest.mark.parametrize("backend", ["move", "copy", "stw"])
def test_a_real_run_takes_turns(backend, capsys):
    reason = kernel_offers(backend)
    if reason:
        pytest.skip(f"no backend {backend} here: {reason}")
    status = cli.main(["bench", "pauses", "--live", "4MiB,1MiB,2MiB", "--cycles", "3",
                       "--mutators", "2", "--handles", "50", "--backend", backend,
                       "--json", "-"])
    output = capsys.readouterr()
    assert status == 0, output.err
    made = json.loads(output.out)
    runs = made["runs"]
    assert [row["live_bytes"] for row in runs] == [1 << 20, 2 << 20, 4 << 20]
    assert made["config"]["backend"] == backend and made["config"]["interleaved"]
    names = ["full"] if backend == "stw" else PAUSES
    assert made["pauses"] == names and set(made["flat"]) == set(names)
    for row in runs:
        assert row["cycles"] == 3 == len(row["turns"]) and row["verified"]
        assert row["marked_bytes"] > row["live_bytes"] * 0.9
        for phase in names:
            assert row["phases"][phase]["count"] >= 3
            assert row["phases"][phase]["cpu_p99_us"] > 0
    order = sorted((turn["start_ns"], turn["end_ns"], row["live_bytes"])
                   for row in runs for turn in row["turns"])
    assert [live for _, _, live in order] == [1 << 20, 2 << 20, 4 << 20] * 3
    assert all(a[1] <= b[0] for a, b in zip(order, order[1:], strict=False))
    assert "flat: median" in output.err and "the machine's noise floor" in output.err
    assert made["noise_floor_us"]["count"] > 0
