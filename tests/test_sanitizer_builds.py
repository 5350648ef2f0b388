"""A sanitizer build finds what is planted, in children too; `make sanitize` fails on any report."""
from __future__ import annotations

import sys

import pytest
import sanitize
from support import run_python

from gcheap.core._testing_sanitizer import sanitizer

PLANTED = {
    "data race": ("thread", "data race", """
        from threading import Thread
        from gcheap.core._testing_sanitizer import race
        threads = [Thread(target=race) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """),
    "overrun": ("address", "heap-buffer-overflow", """
        from gcheap.core._testing_sanitizer import overrun
        overrun()
    """),
    "shift": ("address", "ILL on unknown address", """
        from gcheap.core._testing_sanitizer import shift
        shift()
    """),
}


def test_children_run_the_same_build():
    done = run_python("from gcheap.core._testing_sanitizer import sanitizer; print(sanitizer())")
    assert (done.stdout, done.stderr) == (f"{sanitizer()}\n", "")


@pytest.mark.parametrize(("kind", "said", "script"), PLANTED.values(), ids=PLANTED)
def test_what_is_planted_is_reported(kind, said, script, tmp_path):
    if sanitizer() != kind:
        pytest.skip(f"needs the {kind} sanitizer: make sanitize")
    done = run_python(script, env=sanitize.options_for(kind, tmp_path))
    reports = sanitize.reports_in(tmp_path)
    assert done.returncode != 0
    assert len(reports) == 1 and said in reports[0]


@pytest.mark.parametrize(("status", "report", "verdict"), [
    (0, None, []),
    (1, None, ["pytest ended with status 1"]),
    (0, "WARNING: ThreadSanitizer: data race", ["1 sanitizer report"]),
])
def test_a_run_fails_by_its_status_or_by_a_report(status, report, verdict, tmp_path):
    """The program under test may end well in spite of a report: a child's status is easily lost."""
    if report:
        (tmp_path / "report.1").write_text(report)
    chunk = sanitize.Chunk("x", status, sanitize.Counts(5, 0, 0), sanitize.reports_in(tmp_path), 1)
    assert chunk.faults() == verdict


def test_a_run_without_tests_is_a_failure():
    assert sanitize.Chunk("x", 0, sanitize.Counts(), [], 1).faults() == ["no test ran"]
    assert sanitize.Chunk("x", 5, sanitize.Counts(), [], 1).faults() == [
        "pytest ended with status 5"]
    of_a_file = sanitize.Chunk("x", 5, sanitize.Counts(), [], 1, 1, may_be_empty=True)
    assert of_a_file.faults() == []


def test_files_that_passed_are_not_run_again(tmp_path, monkeypatch):
    """... with the same modules, arguments and seed; those that failed, and all others, are."""
    variant = sanitize.Variant("tsan")
    variant.home = tmp_path
    ran = []

    def run(name, arguments, seed, may_be_empty):
        ran.append(name)
        (tmp_path / "runs" / name).mkdir(parents=True, exist_ok=True)
        return sanitize.Chunk(name, int(name == "bad"), sanitize.Counts(3), [], 1)

    monkeypatch.setattr(variant, "run", run)
    monkeypatch.setattr(variant, "say", lambda chunk: None)
    monkeypatch.setattr(variant, "chunks", lambda *ignored: {"good": [], "bad": []})
    for seed, resume, wanted in ((1, False, ["bad", "good"]), (1, True, ["bad"]),
                                 (2, True, ["bad", "good"]), (2, False, ["bad", "good"])):
        ran.clear()
        done, = sanitize.run_all([variant], [], seed, whole=True, resume=resume)
        assert (sorted(ran), [chunk.counts.passed for chunk in done]) == (wanted, [3, 3])
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "new.so").write_text("built anew")
    sanitize.run_all([variant], [], 2, whole=True, resume=True)
    assert sorted(ran[2:]) == ["bad", "good"]


def test_counts_are_those_of_pytest(tmp_path):
    program = tmp_path / "test_some.py"
    program.write_text("import pytest\ndef test_a(): pass\ndef test_b(): assert 0\n"
                       "def test_c(): pytest.skip('x')\n@pytest.fixture\ndef f(): 1/0\n"
                       "def test_d(f): pass\n")
    result = tmp_path / "result.xml"
    sanitize.subprocess.run([sys.executable, "-m", "pytest", "-q", str(program), "--rootdir",
                             str(tmp_path), f"--junit-xml={result}"], capture_output=True)
    assert sanitize.counts_of(result) == sanitize.Counts(passed=1, failed=2, skipped=1)
    assert sanitize.counts_of(tmp_path / "none.xml") == sanitize.Counts()
