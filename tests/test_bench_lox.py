"""`gcheap bench lox`: what it makes of its rows (given), what it refuses, and one real run."""
import io
import json
import shutil
import subprocess
import sys

import pytest
from rich.console import Console

from gcheap import cli
from gcheap.errors import OptionError
from gcheap.tools import bench_lox, suite
from gcheap.tools.bench_lox import LANGUAGES, SIZES, SUFFIXES, sized, source_of

CONFIG = {"sizes": {"fib": 20}, "rounds": 3, "capacity": 1 << 28, "backend": "move",
          "faults": "sigbus", "verify": 0, "skipped": {},
          "languages": {name: {"version": f"{name} 1", "command": [name]} for name in LANGUAGES}}
TINY = {"fib": 10, "method_calls": 60, "properties": 10, "string_equality": 10,
        "instantiation": 10, "binary_trees": 5, "nqueens": 5}
NEEDS_LUA = pytest.mark.skipif(shutil.which(bench_lox.LUA) is None,
                               reason="lua5.4 is not installed")


def rows(rounds, seconds, pauses=(None,)):
    """Rows of so many rounds: `seconds` by language, after 0.5 s of start of each."""
    made = []
    for number in range(1, rounds + 1):
        for case in bench_lox.cases_of(CONFIG["sizes"], CONFIG["languages"]):
            name, language = case.split(" ")
            took = seconds[language] if name == "fib" else 0
            row = {"round": number, "case": case, "process_seconds": 0.5 + took,
                   "cpu_seconds": took, "peak_rss_bytes": 1000}
            if language == "lox":
                row |= {"seconds": took, "longest_pause_us": pauses[number % len(pauses)],
                        "longest_to_safepoint_us": 7.0, "stall_ms": 1.5, "fault_waits": 2}
            made.append(row)
    return made


def document(found):
    began = {"version": "1", "machine": {"architecture": "x86_64", "cpus": 2, "kernel": "6.18",
                                         "cpu_model": None}, "provenance": {}}
    return suite.document_of("lox", CONFIG, bench_lox.summarize(found, CONFIG), began)


def test_times_are_without_the_start_of_the_language():
    row, = document(rows(3, {"lox": 1.0, "lua": 2.0, "python": 4.0}, (20.0, 50.0)))["programs"]
    assert {name: row["seconds"][name]["median"] for name in LANGUAGES} == pytest.approx(
        {"lox": 1.0, "lua": 2.0, "python": 4.0})
    assert row["lox_over"]["lua"]["ratio"] == pytest.approx(0.5)
    assert row["lox_over"]["python"]["ratio"] == pytest.approx(0.25)
    assert row["longest_pause_us"] == 50.0


def test_only_whole_rounds_count():
    found = rows(3, {"lox": 1.0, "lua": 2.0, "python": 4.0})
    assert document(found[:-1])["rounds"] == 2
    assert document([])["rounds"] == 0


def test_the_table_has_times_ratios_and_pauses():
    made = document(rows(3, {"lox": 1.0, "lua": 2.0, "python": 4.0}, (20.0,)))
    json.dumps(made, allow_nan=False)
    stream = io.StringIO()
    bench_lox.show(made, Console(file=stream, width=120, highlight=False))
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert "fib 1.000 2.000 4.000 0.50 0.25 20 µs" in lines
    assert "20 1.000–1.000 2.000–2.000 4.000–4.000 0.50–0.50 0.25–0.25" in lines
    assert any("Linux 6.18" in line and "x86_64" in line for line in lines)
    assert "Lua: lua 1, an empty program takes 500 ms; lua" in lines
    assert ("of all runs of Lox: longest time to safepoint 7 µs, stalled 9 ms in all, "
            "12 fault waits") in lines


def test_languages_take_turns():
    assert bench_lox.cases_of({"fib": 1}, LANGUAGES) == [
        "start lox", "start lua", "start python", "fib lox", "fib lua", "fib python"]


@pytest.mark.parametrize(("text", "complaint"), [
    ("fib", "PROGRAM=N"), ("fib=x", "PROGRAM=N"), ("fib=-1", "PROGRAM=N"), ("fob=3", "fib"),
    ("method_calls=10", "multiple of 6"), ("nqueens=13", "from 1 to 12"),
    ("binary_trees=3", "from 4"), ("fib=99", "to 60"),
])
def test_sizes_that_are_not_accepted(text, complaint):
    with pytest.raises(OptionError, match=complaint):
        bench_lox.parse_size_of(text)


def test_programs_are_chosen():
    assert bench_lox.parse_programs("nqueens,fib") == ["fib", "nqueens"]
    with pytest.raises(OptionError, match="fob"):
        bench_lox.parse_programs("fob")


@pytest.mark.parametrize("command", [
    ["--rounds", "0"], ["--size", "fib"], ["--programs", "x"], ["--capacity", "huge"],
    ["--backend", "teleport"],
])
def test_bad_usage_is_one_line_and_status_2(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "lox", *command])
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and command[0] in output.err


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("language", [pytest.param("lua", marks=NEEDS_LUA), "python"])
def test_programs_check_themselves(name, language, tmp_path):
    command = bench_lox.LUA if language == "lua" else sys.executable
    source = sized(source_of(name, SUFFIXES[language]), TINY[name])
    program = tmp_path / f"program.{SUFFIXES[language]}"
    program.write_text(source)
    done = subprocess.run([command, program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("right\n", "")


def test_a_program_that_is_wrong_fails_the_command(monkeypatch, capsys):
    source = bench_lox.source_of

    def broken(name, suffix):
        return source(name, suffix).replace("n - 2", "n - 1")
    monkeypatch.setattr(bench_lox, "source_of", broken)
    assert cli.main(["bench", "lox", "--programs", "fib", "--size", "fib=8", "--rounds", "1"]) != 0
    output = capsys.readouterr()
    assert output.out == "" and "fib.lox" in output.err and "wrong" in output.err


def test_lua_that_is_missing_is_skipped_and_said(monkeypatch, capsys):
    monkeypatch.setattr(bench_lox.shutil, "which", lambda name: None)
    status = cli.main(["bench", "lox", "--programs", "fib", "--size", "fib=8", "--rounds", "1",
                       "--json", "-"])
    output = capsys.readouterr()
    assert status == 0, output.err
    made = json.loads(output.out)
    assert "Debian's package lua5.4" in made["config"]["skipped"]["lua"]
    assert set(made["programs"][0]["seconds"]) == {"lox", "python"}
    assert "Lua: skipped" in output.err


def test_a_real_run(tmp_path, capsys):
    sizes = [part for name, size in TINY.items() for part in ("--size", f"{name}={size}")]
    target = tmp_path / "lox.json"
    status = cli.main(["bench", "lox", "--rounds", "1", "--json", str(target),
                       "--capacity", "16MiB", *sizes])
    output = capsys.readouterr()
    assert status == 0, output.err
    made = json.loads(target.read_text())
    assert made["benchmark"] == "lox" and made["rounds"] == 1
    assert [row["program"] for row in made["programs"]] == list(SIZES)
    others = set(made["config"]["languages"]) - {"lox"}
    for row in made["programs"]:
        assert row["size"] == TINY[row["program"]] and set(row["lox_over"]) == others
    # Of a program that is over in a moment little more than its beginning is seen, or nothing.
    assert all(row["cpu_seconds"] > 0 and row["peak_rss_bytes"] != 0 for row in made["runs"])
    assert all(row["peak_rss_bytes"] > 1 << 20 for row in made["runs"]
               if row["case"].endswith(" lox"))
    assert "nqueens" in output.out and made["metrics"]["fib lox: seconds"]["median"] > 0
