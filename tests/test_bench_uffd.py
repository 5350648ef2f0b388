"""`gcheap bench uffd`: how its document is formed, its tables and its plot from made-up rounds,
the loops that it times (what they do to memory, never how long they take), and a real run."""
from __future__ import annotations

import io
import json
import os
import signal
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console
from support import kernel_offers, run_python

from gcheap.errors import GcheapError
from gcheap.provenance import stamp
from gcheap.tools import bench_uffd, plots
from gcheap.tools.bench_uffd import Found, Sample
from gcheap.tools.suite import document_of

PAGES = 512


def config(**changes):
    return {"rounds": 3, "pages": PAGES, "batches": [1, 16], "pages_per_fault": [1, 4],
            "claim_batches": [16], "threads": [0, 1], "huge_count": 8, "huge_bytes": 2 << 20,
            } | changes


def made_up(value=lambda turn, sample: 100.0 * turn, turns=3, **changes):
    """Found: every sample of a round has the value that `value(turn, sample)` gives it."""
    rounds = [{sample: value(turn, sample) for sample in bench_uffd.plan(config(**changes))}
              for turn in range(1, turns + 1)]
    return Found(rounds, [0.9] * turns)


def summarized(found, config):
    return document_of("uffd", config, bench_uffd.summarize(found, config), stamp())


def lines(document):
    stream = io.StringIO()
    bench_uffd.show(document, Console(file=stream, width=80, highlight=False))
    assert max(map(len, stream.getvalue().splitlines())) <= 80
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


# ---- the plan and the document ---------------------------------------------------------------

def test_a_round_holds_every_sample_once_and_claims_in_turns():
    samples = list(bench_uffd.plan(config()))
    assert len(samples) == len(set(samples))
    for threads in (0, 1):
        taken = [sample for sample in samples if sample.threads == threads]
        assert {sample.name for sample in taken if sample.kind == "cost"} == set(
            bench_uffd.OPERATIONS)
        assert [sample.batch for sample in taken if sample.name == "fault"
                and sample.kind == "cost"] == [1]
        claims = [sample.name for sample in taken if sample.kind in bench_uffd.CLAIMS]
        assert claims == ["copy", "move"] * 2


def test_nothing_is_planned_that_the_machine_lacks():
    samples = list(bench_uffd.plan(config(threads=[0], huge_bytes=None)))
    assert {sample.threads for sample in samples} == {0}
    assert "huge" not in {sample.kind for sample in samples}


def test_the_document_is_made_of_medians():
    document = summarized(made_up(), config())
    assert document["rounds"] == 3 and not document["interrupted"]
    row = next(row for row in document["costs"]
               if (row["operation"], row["batch"], row["threads"]) == ("move", 16, 1))
    assert row["ns_per_page"] == {"median": 200, "low": 100, "high": 300, "rounds": 3}
    assert {row["served_by"] for row in document["faults"]} == {"sigbus", "reader"}
    assert document["huge_pages"][0] == {
        "operation": "move", "bytes": 2 << 20, "threads": 0,
        "ns": {"median": 200, "low": 100, "high": 300, "rounds": 3}}
    assert document["other_thread_ran"]["median"] == 0.9
    assert document["interval"]["coverage"] == 0.75
    assert {"machine", "provenance", "version", "published"} <= set(document)
    assert document["metrics"]["cost: move, 16 pages a call, beside a running thread"] == {
        "unit": "ns", "better": "less", "values": [100, 200, 300], "median": 200, "low": 100,
        "high": 300, "rounds": 3}
    assert len(document["metrics"]) == len(document["samples"])
    assert all(len(row["ns"]) == 3 for row in document["samples"])
    json.dumps(document, allow_nan=False)


def test_ratios_are_formed_inside_a_round():
    copies = {1: 50.0, 2: 400.0, 3: 90.0}

    def value(turn, sample):
        return copies[turn] if sample.name == "copy" else 100.0 * turn

    document = summarized(made_up(value), config())
    assert {(row["claim"], row["batch"], row["threads"]) for row in document["claims"]} == {
        (claim, 16, threads) for claim in ("allocated", "recycled") for threads in (0, 1)}
    for row in document["claims"]:
        # 0.5, 2, 0.3: their median is not the ratio of the medians, 0.45.
        assert row["copy_over_move"] == {
            "median": 0.5, "low": 0.3, "high": 2.0, "rounds": 3}


def test_no_round_at_all():
    document = summarized(Found(), config())
    assert document["rounds"] == 0 and document["metrics"] == {}
    assert document["costs"] == document["claims"] == []
    json.dumps(document, allow_nan=False)


def test_the_tables():
    found = made_up(lambda turn, sample: 1234.0 if sample.name == "copy" else 1000.0)
    found.skipped["cost: populate"] = "madvise: Invalid argument"
    text = lines(summarized(found, config()))
    assert "copy 1,230 1,230" in text
    assert "fault 1,000 –" in text
    assert "sigbus 4 1 µs 1 µs–1 µs 1 µs 1 µs–1 µs" in text
    assert "MOVE, one huge page 1 µs 1 µs–1 µs 1 µs 1 µs–1 µs" in text
    assert "allocated 16 0 1,230 1,000 1.23 1.23–1.23" in text
    assert "recycled 16 1 1,230 1,000 1.23 1.23–1.23" in text
    assert any("COPY about 20 % faster" in line for line in text)
    assert any("MOVE over 40 % faster" in line for line in text)
    assert "not measured: cost: populate: madvise: Invalid argument" in text
    assert "the running thread had its CPU 90.0 % of the time (90.0 %–90.0 %)" in text
    assert text[-1].endswith("75 % coverage at 3 rounds")


def test_a_kernel_without_move_gives_the_rest():
    found = made_up()
    for values in found.rounds:
        for sample in [sample for sample in values if sample.name == "move"]:
            del values[sample]
    document = summarized(found, config())
    assert document["claims"] == []
    assert any(line.startswith("copy 200") for line in lines(document))


def test_what_a_kernel_refuses_is_skipped_with_its_reason():
    class Refusing:
        renewed = 0

        def take(self, sample):
            if sample.name == "populate":
                raise OSError(22, "madvise: Invalid argument")

        def renew(self):
            self.renewed += 1

        def beside(self, threads):
            return threading.Lock()             # a context manager that does nothing

    bench, skipped = Refusing(), {}
    working = bench_uffd.find_working(bench, list(bench_uffd.plan(config())), skipped)
    assert skipped == {"cost: populate": "madvise: Invalid argument"}
    assert bench.renewed == 1
    assert "populate" not in {sample.name for sample in working}
    assert {"move", "copy"} <= {sample.name for sample in working}


def test_options():
    args = SimpleNamespace(rounds=None, pages=None, quick=True)
    assert (bench_uffd.config_of(args)["rounds"], bench_uffd.config_of(args)["pages"]) == (2, 512)
    args.quick = False
    assert bench_uffd.config_of(args)["pages"] == bench_uffd.DEFAULT_PAGES
    args.pages = 1000
    with pytest.raises(GcheapError, match="multiple of 512"):
        bench_uffd.config_of(args)


# ---- the plot --------------------------------------------------------------------------------

def test_a_plot_needs_a_name_that_says_its_format(tmp_path):
    with pytest.raises(GcheapError, match=r"\.png or \.svg"):
        plots.check(str(tmp_path / "plot.pdf"))
    with pytest.raises(GcheapError, match="no directory"):
        plots.check(str(tmp_path / "nowhere" / "plot.png"))


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("b.svg", b"<?xml"),
                                             ("c.PNG", b"\x89PNG")])
@pytest.mark.parametrize("changes", [{}, {"threads": [0], "huge_bytes": None}])
def test_a_plot_is_drawn_whole(tmp_path, name, start, changes):
    pytest.importorskip("matplotlib")
    document = summarized(made_up(**changes), config(**changes))
    target = tmp_path / name
    plots.check(str(target))
    plots.draw_uffd(document, str(target))
    assert target.read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_plot_of_a_kernel_without_move(tmp_path):
    pytest.importorskip("matplotlib")
    found = made_up()
    for values in found.rounds:
        for sample in [s for s in values if s.name == "move" or s.kind == "fault"]:
            del values[sample]
    plots.draw_uffd(summarized(found, config()), str(tmp_path / "plot.svg"))
    assert (tmp_path / "plot.svg").stat().st_size > 0


def test_without_matplotlib_one_line_says_how_to_install_it(tmp_path):
    done = run_python("""
        import sys
        sys.modules["matplotlib"] = None
        from gcheap.cli import main
        sys.exit(main(["bench", "uffd", "--quick", "--plot", sys.argv[1]]))
    """, arguments=(str(tmp_path / "plot.png"),))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "pip install 'gcheap[plot]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


# ---- the timed loops -------------------------------------------------------------------------

@pytest.fixture
def move():
    reason = kernel_offers("move")
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def scratch(move):
    from gcheap.tools._uffd_costs import Scratch
    memory = Scratch(PAGES)
    yield memory
    memory.close()


METHODS = {*bench_uffd.OPERATIONS} | {
    method for pair in bench_uffd.CLAIMS.values() for method in pair}


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("batch", [1, 8, 512])
def test_every_loop_can_follow_every_other(scratch, method, batch):
    for _ in range(2):
        assert getattr(scratch, method)(batch) > 0
        assert scratch.move(64) > 0             # finds or makes pages to move


@pytest.mark.parametrize("pages", bench_uffd.PAGES_PER_FAULT)
def test_a_fault_brings_as_many_pages_as_were_asked_for(scratch, pages):
    before = signal.getsignal(signal.SIGBUS)
    assert scratch.sigbus_faults(pages)[1] == PAGES // pages
    assert signal.getsignal(signal.SIGBUS) == before
    bench = bench_uffd.Bench(config())
    with bench:
        assert bench.faults(Sample("fault", "reader", pages, 0))[1] == PAGES // pages


@pytest.mark.parametrize("batch", [0, 3, 1024])
def test_a_batch_that_does_not_fit_is_refused(scratch, batch):
    with pytest.raises(ValueError, match="batch"):
        scratch.move(batch)


def test_closed_memory_is_refused(scratch):
    scratch.close()
    scratch.close()
    with pytest.raises(ValueError, match="closed"):
        scratch.copy(1)


def test_a_bench_gives_everything_back(move):
    before = (set(os.listdir("/proc/self/fd")), os.sched_getaffinity(0),
              threading.active_count())
    with bench_uffd.Bench(config()) as bench:
        for threads, group in bench_uffd.grouped(list(bench_uffd.plan(config()))):
            with bench.beside(threads):
                for sample in group:
                    if sample.kind != "huge":
                        assert bench.take(sample) > 0
        if len(before[1]) > 1:
            assert len(bench.shares) == 1 and bench.shares[0] > 0
    assert (set(os.listdir("/proc/self/fd")), os.sched_getaffinity(0),
            threading.active_count()) == before


# ---- a real run ------------------------------------------------------------------------------

def test_a_quick_run(move, tmp_path):
    arguments = ["bench", "uffd", "--quick", "--json", "-"]
    if plotting():
        arguments += ["--plot", str(tmp_path / "plot.png")]
    done = run_python(f"""
        import sys
        from gcheap.cli import main
        sys.exit(main({arguments!r}))
    """, timeout=300)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["rounds"] == 2
    threads = document["config"]["threads"]
    assert {(row["operation"], row["batch"], row["threads"]) for row in document["costs"]} >= {
        (name, batch, count) for name in ("move", "copy", "zeropage", "madvise", "mremap",
                                          "memcpy")
        for batch in bench_uffd.BATCHES for count in threads}
    assert all(row["ns_per_page"]["median"] > 0 for row in document["costs"])
    assert {row["pages_per_fault"] for row in document["faults"]} == {1, 4, 16}
    assert {row["claim"] for row in document["claims"]} == {"allocated", "recycled"}
    assert "COPY against MOVE" in done.stderr and "round 2/2" in done.stderr
    if plotting():
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_without_userfaultfd_the_doctor_is_named(monkeypatch):
    from gcheap.tools import _uffd_costs

    def refuse(*args):
        raise OSError(1, "userfaultfd: Operation not permitted")

    monkeypatch.setattr(_uffd_costs, "Scratch", refuse)
    affinity = os.sched_getaffinity(0)
    with pytest.raises(GcheapError, match="gcheap doctor"), bench_uffd.Bench(config()):
        pass
    assert os.sched_getaffinity(0) == affinity


def plotting():
    try:
        import matplotlib
    except ImportError:
        return False
    return bool(matplotlib)
