"""`gcheap bench alloc` and `gcheap bench roots`: small real runs, arithmetic, what is refused."""
import json

import pytest

import gcheap
from gcheap import cli
from gcheap.tools import bench_roots
from gcheap.tools.bench_roots import Case
from gcheap.workloads._roots import KINDS, Roots


def test_allocation_by_size_and_threads(capsys, monkeypatch):
    for name, value in {"CAPACITY": 32 << 20, "BARE_BYTES": 4 << 20, "SUSTAINED_BYTES": 160 << 20,
                        "COUNT": 50_000}.items():
        monkeypatch.setattr(f"gcheap.tools.bench_alloc.{name}", value)
    status = cli.main(["bench", "alloc", "--sizes", "512,2048", "--threads", "1,2", "--rounds",
                       "2", "--json", "-"])
    output = capsys.readouterr()
    assert status == 0, output.err
    document = json.loads(output.out)
    assert document["rounds"] == 2 and len(document["cases"]) == 2 * 2 * 2 + 5
    for case in document["cases"]:
        row = document["metrics"][f"{case['case']}: ns per operation"]
        assert len(row["values"]) == 2 and row["low"] > 0
    cycles = {row["case"]: row["cycles"] for row in document["runs"]}
    assert cycles["bare 512 B"] == cycles["bare 2048 B, 2 threads"] == 0
    assert cycles["sustained 512 B"] > 0
    assert "a safepoint poll" in output.err and "MB/s of all" in output.err


@pytest.mark.parametrize("kind", KINDS)
def test_roots_survive_cycles(kind, combination):
    with gcheap.Heap("8MiB", policy="fixed", **combination) as heap, heap.attach() as m:
        shape = heap.shape("Object", raw=[("filler", "V24")])
        roots = Roots(m, kind, shape.id, 1000, 5000)
        for _ in range(3):
            for _ in range(1000):
                m.new(shape)
            heap.collect()
        assert roots.check() == (5000, 0)
        stats = heap.stats()
        assert (stats.handles, stats.weak_refs) == (
            5000 if kind == "handles" else 0, 5000 if kind == "weak" else 0)
        roots.release()
        assert heap.stats().handles == heap.stats().weak_refs == 0


def test_roots_that_do_not_fit():
    with gcheap.Heap("4MiB") as heap, heap.attach() as m:
        shape = heap.shape("Object", raw=[("filler", "V24")])
        with pytest.raises(MemoryError, match="shadow"):
            Roots(m, "shadow", shape.id, 10, 1 << 21)
        with pytest.raises(MemoryError, match="no room"):
            Roots(m, "handles", shape.id, 1 << 20, 10)


def test_a_run_over_all_kinds(capsys):
    status = cli.main(["bench", "roots", "--counts", "100,20000", "--rounds", "2", "--backend",
                       "stw", "--json", "-"])
    output = capsys.readouterr()
    assert status == 0, output.err
    document = json.loads(output.out)
    assert document["rounds"] == 2 and document["verified"]
    for kind in KINDS:
        assert len(document["metrics"][f"{kind}: full, ns a root"]["values"]) == 2
        assert f"{kind}: mark start, ns a root" not in document["metrics"]
    assert set(document["roots_astray"].values()) == {0}
    assert "noise floor" in output.err and "time to safepoint" in output.err


def test_ns_a_root_is_the_slope():
    counts = {"10 handles": 10, "20 handles": 20, "40 handles": 40}
    turn = {name: {"full_us": 5 + 0.003 * count} for name, count in counts.items()}
    assert bench_roots.slope(counts, turn, "full_us") == pytest.approx(3)
    assert bench_roots.slope(counts, turn, "mark_start_us") is None


def test_a_root_astray_is_said_and_fails():
    cases = {str(case): case for case in (Case("handles", 1), Case("handles", 2))}
    rows = [{"round": 1, "case": name, "pauses_us": 1.0, "stall_us": 0, "fault_waits": 0}
            for name in cases]
    made = bench_roots.summarize(rows, cases, {"1 handles": 0, "2 handles": 1})
    assert not made["verified"] and made["rounds"] == 1
    assert made["metrics"]["handles: pauses, ns a root"]["values"] == pytest.approx([0])


@pytest.mark.parametrize("command", [
    ["alloc", "--sizes", "12"], ["alloc", "--sizes", "20"], ["alloc", "--sizes", "16,8192"],
    ["alloc", "--threads", "0"], ["alloc", "--threads", "many"], ["alloc", "--rounds", "0"],
    ["roots", "--counts", "1000"], ["roots", "--counts", "1,5000000"], ["roots", "--counts", "x"],
    ["roots", "--kinds", "feathers"], ["roots", "--backend", "teleport"],
])
def test_bad_usage_is_one_line_and_status_2(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", *command])
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and command[1] in output.err


def test_heaps_that_do_not_fit_are_refused():
    with pytest.raises(gcheap.GcheapError, match="give fewer"):
        bench_roots.check_memory([Case("handles", 1000)], 1 << 20)
    bench_roots.check_memory([Case("handles", 1000)], 1 << 40)
