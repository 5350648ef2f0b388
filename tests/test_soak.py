"""The driver of the long runs: its runs are legal, replayable and judged; its summary is whole."""
from __future__ import annotations

import json
import subprocess
import sys

import pytest
import soak
from sanitize import TESTS, Chunk, Counts
from support import COMBINATIONS, PATIENCE

from gcheap.cli import build_parser
from gcheap.stress import StressConfig
from gcheap.tools.arguments import heap_options
from gcheap.tools.stress import HEAP_OPTIONS
from gcheap.workloads import WORKLOADS


def drawn(count, seed=1):
    source = soak.runs(seed)
    return [next(source) for _ in range(count)]


def test_the_runs_have_every_workload_under_every_combination(monkeypatch):
    monkeypatch.setattr(soak, "kernel_offers", lambda backend: None)
    first = drawn(len(WORKLOADS) * len(COMBINATIONS))
    assert {(r.workload, r.backend, r.faults) for r in first} == {
        (workload, *pair) for workload in WORKLOADS for pair in COMBINATIONS}


def test_a_backend_that_is_not_here_is_left_out(monkeypatch):
    monkeypatch.setattr(soak, "kernel_offers", lambda backend: None if backend == "stw" else "no")
    assert {(r.backend, r.faults) for r in drawn(30)} == {("stw", "sigbus")}


def test_the_table_has_each_of_its_cases_once(monkeypatch):
    monkeypatch.setattr(soak, "kernel_offers", lambda backend: None)
    table = list(soak.table_runs(7))
    assert [run.seed for run in table] == list(range(7, 7 + len(table)))
    assert len(table) == 3 * len(COMBINATIONS) * 4 == len({
        (r.workload, r.backend, r.faults, r.mutators, r.verify) for r in table})
    for run in table:
        args = build_parser().parse_args(run.arguments())
        assert (args.workloads, args.seconds) == ([run.workload], 60.0)
        assert (args.mutators, args.verify) == (run.mutators, run.verify)


def test_runs_that_come_to_an_end_end_the_soak(monkeypatch):
    monkeypatch.setattr(soak, "execute", lambda run: soak.Result(run, DOCUMENT, ""))
    results = soak.soak_workloads(soak.table_runs(3))
    assert [result.run for result in results] == list(soak.table_runs(3))
    assert f"{len(results)} runs of 60 s" in soak.workloads_section(results)


def test_a_seed_is_a_run_of_its_own_and_can_be_replayed():
    assert [r.seed for r in drawn(50, 7)] == list(range(7, 57))
    assert [r.arguments() for r in drawn(50, 7)] == [r.arguments() for r in drawn(50, 7)]
    assert len({tuple(r.arguments()) for r in drawn(50, 7)}) == 50


def test_gcheap_accepts_every_run():
    verified = set()
    for run in drawn(500):
        args = build_parser().parse_args(run.arguments())
        config = StressConfig(
            workload=args.workloads[0], seconds=args.seconds, mutators=args.mutators,
            live=args.live, seed=args.seed, policy=args.policy, **heap_options(args, HEAP_OPTIONS))
        assert (config.backend, config.faults, config.seed) == (run.backend, run.faults, run.seed)
        verified.add(config.verify)
    assert verified == {0, 1, 2, 3, 4}


DOCUMENT = {"verified": True, "interrupted": False, "failure": None, "ops": 5, "cycles": 2,
            "relocate_ops": 1, "faults": {"count": 3}}
RUN = soak.Run("churn", "move", "sigbus", 42)


@pytest.mark.parametrize(("status", "out", "said"), [
    (0, json.dumps(DOCUMENT), ""),
    (1, json.dumps(DOCUMENT | {"verified": False, "failure": "array 3 is lost"}),
     "ended with status 1: array 3 is lost\nfatal"),
    (0, json.dumps(DOCUMENT | {"verified": False}), "ended with status 0\nfatal"),
    (0, json.dumps(DOCUMENT | {"interrupted": True}), "ended with status 0\nfatal"),
    (-6, "", "ended with status -6\nfatal"),
])
def test_only_what_ended_well_and_was_verified_passes(status, out, said):
    assert soak.judge(RUN, status, out, "fatal").said == said


def test_the_summary_counts_and_says_how_to_run_again():
    good = soak.judge(RUN, 0, json.dumps(DOCUMENT), "")
    bad = soak.judge(soak.Run("churn", "move", "sigbus", 44), -6, "", "gcheap: fatal: lost")
    text = soak.workloads_section([good, good, bad])
    assert "3 runs" in text and "seeds 42 to 44" in text and "1 failed" in text
    assert "| churn | move | sigbus | 3 | 10 | 4 | 2 | 6 | 1 |" in text
    assert f"gcheap {' '.join(bad.run.arguments())}" in text and "gcheap: fatal: lost" in text


def test_a_run_that_hangs_is_a_failure(monkeypatch):
    monkeypatch.setattr(soak, "PATIENCE", 0.01)
    assert "did not end in 0.01 s" in soak.execute(RUN).said


def test_what_ran_until_ctrl_c_is_kept():
    """In a process of its own, with a real signal: no other wakes a thread that waits."""
    done = subprocess.run([sys.executable, "-c", f"""
import signal
import sys
import threading
sys.path.insert(0, {str(TESTS)!r})
import soak

def execute(run):
    if run.seed == 12:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    return soak.Result(run, None, "")

soak.execute = execute
print([result.run.seed for result in soak.soak_workloads(soak.runs(5), 10)])
"""], text=True, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert json.loads(done.stdout)[:8] == list(range(5, 13))


def test_the_parts_run_in_their_order_and_one_that_failed_is_told(monkeypatch, tmp_path):
    asked, bad = [], Chunk("test_b", 1, Counts(1, 2, 0), [], 60.0)
    monkeypatch.setattr(soak, "marked_soak", lambda seed: Chunk("soak", 0, Counts(4), [], 60.0))
    monkeypatch.setattr(soak.Variant, "build", lambda variant: asked.append(variant.name))

    def run_all(variants, arguments, seed, **more):
        asked.append((arguments, seed, more))
        return [[bad if variant.name == "asan" else Chunk("test_b", 0, Counts(3), [], 60.0)]
                for variant in variants]
    monkeypatch.setattr(soak, "run_all", run_all)
    out = tmp_path / "build" / "soak.md"
    arguments = ["--seed", "5", "--resume", "--output", str(out)]
    assert soak.main([*arguments, "--only", "tests", "--only", "tsan"]) == 0
    assert asked == ["tsan", (["-m", "not model"], 5, {"whole": True, "resume": True})]
    assert soak.main([*arguments, "--only", "asan", "--only", "tsan", "--only", "tests"]) == 1
    text = out.read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## tests", "## tsan", "## asan"]
    assert "4 tests passed" in text and "* test_b: pytest ended with status 1" in text


def test_a_real_run_is_counted(monkeypatch):
    monkeypatch.setattr(soak, "SECONDS", 0.2)
    results = soak.soak_workloads(soak.runs(5), 0.001)
    assert results and not any(result.said for result in results)
    assert all(result.totals["ops"] > 0 for result in results)
    assert [r.run.seed for r in results] == list(range(5, 5 + len(results)))


def test_the_summary_names_the_files_that_failed():
    fine = Chunk("test_a", 0, Counts(10, 0, 1), [], 60.0)
    bad = Chunk("test_b", 1, Counts(1, 2, 0), ["WARNING: ThreadSanitizer: data race"], 60.0)
    assert soak.tests_section([fine, bad], 3) == (
        "11 tests passed, 2 failed, 1 skipped, 1 reports, seed 3, 2 minutes.\n\n"
        "* test_b: pytest ended with status 1; 1 sanitizer report")
