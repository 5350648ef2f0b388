"""Where results go: no target destroys another, or what is read; "-" is standard output."""
from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys

import pytest
from report_support import changed, measured
from support import PATIENCE

from gcheap import cli
from gcheap.report import page
from gcheap.tools import output, stress
from gcheap.workloads import traces

MAIN = "import sys; from gcheap.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty directory, and no run ever begins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stress, "run_stress",
                        lambda config, progress: pytest.fail("a run was begun"))
    return tmp_path


@pytest.fixture
def run_file(here):
    """The document of a run, by three names; what is in it."""
    content = json.dumps(measured())
    (here / "run.json").write_text(content)
    (here / "soft.json").symlink_to("run.json")
    (here / "hard.json").hardlink_to(here / "run.json")
    return content


def refused(command, capsys):
    """The one line with which it is refused."""
    assert cli.main(command) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize("targets", [
    ("--json", "x", "--report", "x"), ("--json", "x", "--report", "./x"),
    ("--json", "-", "--report", "-"), ("--json", "x.json", "--trace", "x.json"),
    ("--report", "x.json", "--trace", "../x.json"), ("--json", "x", "--log", "gc:file=x"),
    ("--trace", "x.json", "--log", "gc:x.json")], ids=" ".join)
def test_two_results_of_a_run_never_share_a_file(here, targets, capsys):
    targets = [word.replace("../", f"../{here.name}/") for word in targets]
    assert f"{targets[0]} " in (line := refused(["stress", *targets], capsys))
    assert "are the same" in line and os.listdir() == []


def test_outputs_of_a_log_may_share_a_file(here, monkeypatch):
    monkeypatch.setattr(stress, "run_stress", lambda config, progress: measured())
    assert cli.main(["stress", "--log", "gc:x;safepoint:file=./x", "--json", "y"]) == 0


def test_a_device_takes_as_many_as_one_likes():
    targets = [("--json", "/dev/null"), ("--report", "/dev/null"), ("--trace", None)]
    output.check_targets(targets, ["/dev/null"])


@pytest.mark.parametrize("name", ["run.json", "soft.json", "hard.json"])
@pytest.mark.parametrize("command", [
    ("report", "run.json", "-o"), ("compare", "run.json", "run.json", "--json"),
    ("replay-convert", "run.json"), ("stress", "replay", "run.json", "--json"),
    ("minheap", "replay", "run.json", "--json"), ("lox", "run.json", "--json")], ids=" ".join)
def test_what_is_read_is_never_overwritten(here, run_file, command, name, capsys):
    # What follows a program in Lox is the program's.
    command = ("lox", "--json", name, "run.json") if command[0] == "lox" else (*command, name)
    assert "run.json, which is read" in refused(list(command), capsys)
    assert (here / "run.json").read_text() == run_file


@pytest.mark.parametrize("command", [
    ["stress", "--json", "-"], ["stress", "--report", "-"], ["minheap", "churn", "--json", "-"],
    ["bench", "alloc", "--json", "-"]], ids=" ".join)
def test_no_line_of_the_log_stands_among_the_results(here, command, capsys, monkeypatch):
    monkeypatch.setenv("GCHEAP_LOG", "gc:stdout")
    assert "GCHEAP_LOG=gc:stdout" in refused(command, capsys)
    if command[0] == "stress":
        assert "--log gc*:stdout" in refused([*command, "--log", "gc*:stdout"], capsys)


def test_a_minus_sign_is_standard_output(run_file, capsys):
    assert cli.main(["report", "run.json", "-o", "-"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("<!DOCTYPE html>") and said.out.rstrip().endswith("</html>")
    assert said.err == "standard output: the page of 1 run\n"
    with open("ltrace", "w") as calls:
        calls.write("malloc(24) = 0x5581\n")
    assert cli.main(["replay-convert", "ltrace", "-"]) == 0
    assert capsys.readouterr().out == f"{traces.HEADING}\na 1 24\n"
    assert not os.path.exists("-")
    with contextlib.redirect_stdout(io.StringIO()) as caught:
        assert cli.main(["replay-convert", "ltrace", "-"]) == 0
    assert caught.getvalue() == f"{traces.HEADING}\na 1 24\n"


def test_stress_reports_to_standard_output_and_tells_the_rest_elsewhere(
        here, monkeypatch, capsys):
    monkeypatch.setattr(stress, "run_stress", lambda config, progress: measured())
    monkeypatch.setattr(page, "render", lambda runs: f"the page of {runs[0].name}\n")
    assert cli.main(["stress", "--report", "-"]) == 0
    said = capsys.readouterr()
    assert said.out == "the page of churn\n"
    assert "verified: every check passed" in said.err


def test_a_page_that_cannot_be_drawn_is_one_line_and_status_2(here, monkeypatch, capsys):
    empty = changed(measured(), ("ops",), 0)
    monkeypatch.setattr(stress, "run_stress", lambda config, progress: empty)
    assert cli.main(["stress", "--report", "out.html", "--json", "out.json"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "out.html" in line]
    assert len(lines) == 1
    assert lines[0].startswith("gcheap: cannot write out.html: churn: an empty run")
    assert os.listdir() == ["out.json"] and json.loads((here / "out.json").read_text()) == empty


def test_more_runs_than_a_page_shows_are_refused_before_the_first(here, capsys):
    assert "9 runs; a page shows 1 to 8" in refused(
        ["stress", *["churn"] * 9, "--report", "x.html"], capsys)


@pytest.mark.uninstrumented("a shell does not run with it preloaded", only="thread")
@pytest.mark.parametrize(("streams", "words"), [
    (">&-", "it is closed"), ("> /dev/full", "No space left on device")])
def test_standard_output_that_takes_nothing_is_one_line(run_file, streams, words):
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "{MAIN}" stats run.json {streams}'],
        capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr == f"gcheap: cannot write to standard output: {words}\n"
