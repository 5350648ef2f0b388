"""The command line: bad usage in one line, a real run's document, Ctrl-C, files whole or not."""
import json
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support import HOME, PATIENCE, run_python

import gcheap
from gcheap import cli
from gcheap.errors import HeapExhausted
from gcheap.options import least_capacity
from gcheap.tools import arguments, stress

SMALL = ("--seconds", "1", "--live", "8MiB")
MAIN = "import sys; from gcheap.cli import main; sys.exit(main(sys.argv[1:]))"


def gcheap_command(*arguments, **kwargs):
    return run_python(MAIN, arguments=arguments, **kwargs)


@pytest.fixture
def no_run(monkeypatch):
    """Runs are not made but noted; their document is the one given by `no_run.document`."""
    noted = SimpleNamespace(configs=[], document=None)

    def run(config, progress=None):
        noted.configs.append(config)
        if isinstance(noted.document, BaseException):
            raise noted.document
        return {"workload": config.workload} | noted.document

    monkeypatch.setattr(stress, "run_stress", run)
    monkeypatch.setattr(stress.tables, "show", lambda document, console: None)
    for name in [name for name in os.environ if name.startswith("GCHEAP_")]:
        monkeypatch.delenv(name)
    noted.document = {"verified": True, "interrupted": False}
    return noted


# ---- usage ---------------------------------------------------------------------------------


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"gcheap {gcheap.__version__}\n"


@pytest.mark.parametrize(("command", "complaint"), [
    (["stress", "--json", ""], "name of a file"),
    (["stress", "--report", ""], "name of a file"),
    (["bench", "uffd", "--plot", ""], "name of a file"),
    ([], "COMMAND"),
    (["nonsense"], "nonsense"),
    (["--frobnicate"], "COMMAND"),
    (["stress", "--frobnicate"], "--frobnicate"),
    (["stress", "--live", "64XiB"], "64XiB"),
    (["stress", "--live", "0"], "--live"),
    (["stress", "--live=-5"], "-5"),
    (["stress", "--capacity", "99999999TiB"], "99999999TiB"),
    (["stress", "--capacity", "min"], "'min'"),
    (["stress", "--seconds", "0"], "'0'"),
    (["stress", "--seconds", "nan"], "'nan'"),
    (["stress", "--seconds", "inf"], "'inf'"),
    (["stress", "--mutators", "0"], "'0'"),
    (["stress", "--mutators", "two"], "'two'"),
    (["stress", "--backend", "teleport"], "teleport"),
    (["stress", "--faults", "politely"], "politely"),
    (["stress", "--unit-pages", "3"], "3"),
    (["stress", "--policy", "often"], "often"),
    (["stress", "--policy", "factor:1"], "factor"),
    (["stress", "--verify", "9"], "9"),
    (["stress", "--seed", "x"], "'x'"),
    (["stress", "--collect-every", "-1"], "--collect-every"),
    (["stress", "--relocate", "never"], "never"),
    (["stress", "--delay-placements-us", "soon"], "soon"),
    (["stress", "--mut", "1"], "--mut"),
    (["bench"], "SUITE"),
    (["bench", "nonsense"], "nonsense"),
    (["bench", "backends", "--rounds", "0"], "'0'"),
    (["bench", "backends", "--live", "huge"], "huge"),
    (["doctor", "--live", "1"], "--live"),
])
def test_bad_usage_is_one_clear_line_and_status_2(command, complaint, capsys, no_run):
    with pytest.raises(SystemExit) as stopped:
        cli.main(command)
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1 and output.err.startswith("gcheap")
    assert complaint in output.err
    assert not no_run.configs


@pytest.mark.parametrize(("command", "complaint"), [
    (["stress", "nonsense"], "churn, trees"),
    (["stress", "churn", "--", "--seconds"], "--seconds"),
    (["stress", "--live", "64MiB", "--capacity", "32MiB"], "capacity"),
    (["stress", "--live", "1KiB"], "live"),
    (["stress", "--mutators", "100000"], "mutators"),
    (["stress", "--seed=-1"], "seed"),
    (["stress", "--json", "/nonexistent/out.json"], "/nonexistent"),
    (["stress", "--json", "/"], "directory"),
    (["doctor", "--json", "/nonexistent/out.json"], "/nonexistent"),
    (["bench", "backends", "--json", "/nonexistent/out.json"], "/nonexistent"),
])
def test_values_that_cannot_be_run_are_refused_before_anything_runs(
        command, complaint, capsys, no_run):
    assert cli.main(command) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1 and complaint in output.err
    assert not no_run.configs


def test_what_a_heap_refuses_during_a_run_is_one_line(capsys, no_run):
    no_run.document = HeapExhausted("the heap is full:\nraise capacity")
    assert cli.main(["stress"]) == 1
    assert capsys.readouterr().err.endswith("gcheap: the heap is full: raise capacity\n")


def test_help_names_every_choice_and_default(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["stress", "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in ("churn, trees", "{auto,move,copy,stw}", "64 MiB", "GCHEAP_BACKEND", "--json"):
        assert part in text


# ---- how values reach a run ----------------------------------------------------------------


def test_options_reach_the_run(no_run):
    assert cli.main([
        "stress", "trees", "--seconds", "2.5", "--mutators", "2", "--live", "16MiB",
        "--capacity", "64MiB", "--backend", "copy", "--faults", "sigbus", "--unit-pages", "4",
        "--verify", "3", "--seed", "9"]) == 0
    config, = no_run.configs
    assert (config.workload, config.seconds, config.mutators) == ("trees", 2.5, 2)
    assert (config.live, config.capacity) == (16 << 20, 64 << 20)
    assert (config.backend, config.faults) == ("copy", "sigbus")
    assert (config.unit_pages, config.verify, config.seed) == (4, 3, 9)


def test_stress_modes_reach_the_run(no_run):
    assert cli.main([
        "stress", "array-holes", "--live", "128KiB", "--capacity", "256KiB", "--collect-every", "5",
        "--relocate", "always", "--delay-placements-us", "30", "--verify", "4"]) == 0
    config, = no_run.configs
    assert (config.workload, config.capacity) == ("array-holes", least_capacity(16))
    assert (config.collect_every, config.relocate) == (5, "always")
    assert (config.delay_placements_us, config.verify) == (30, 4)


def test_the_environment_stands_in_for_options_not_given(no_run, monkeypatch):
    monkeypatch.setenv("GCHEAP_BACKEND", "stw")
    monkeypatch.setenv("GCHEAP_UNIT_PAGES", "8")
    monkeypatch.setenv("GCHEAP_CAPACITY", "1GiB")
    assert cli.main(["stress", "--unit-pages", "2"]) == 0
    config, = no_run.configs
    assert (config.workload, config.backend, config.unit_pages) == ("churn", "stw", 2)
    assert config.capacity == 1 << 30


@pytest.mark.parametrize(("name", "value"), [
    ("GCHEAP_BACKEND", "teleport"), ("GCHEAP_UNIT_PAGES", "x"), ("GCHEAP_NONSENSE", "1")])
def test_a_bad_environment_value_is_refused(no_run, monkeypatch, capsys, name, value):
    monkeypatch.setenv(name, value)
    assert cli.main(["stress"]) == 2
    error = capsys.readouterr().err
    assert name in error and error.count("\n") == 1
    assert not no_run.configs


def test_several_workloads_give_a_list_of_runs(no_run, tmp_path):
    target = tmp_path / "out.json"
    assert cli.main(["stress", "churn", "trees", "--json", str(target)]) == 0
    document = json.loads(target.read_text())
    assert [run["workload"] for run in document["runs"]] == ["churn", "trees"]


def test_a_failed_check_is_status_1_and_still_writes_the_document(no_run, tmp_path):
    no_run.document = {"verified": False, "interrupted": False}
    target = tmp_path / "out.json"
    assert cli.main(["stress", "--json", str(target)]) == 1
    assert json.loads(target.read_text())["verified"] is False


def test_an_interrupted_run_ends_the_series_with_what_there_is(no_run, capsys):
    no_run.document = {"verified": False, "interrupted": True}
    assert cli.main(["stress", "churn", "trees", "--json", "-"]) == 130
    assert len(no_run.configs) == 1
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 1


def test_an_interruption_before_any_result(no_run, capsys):
    no_run.document = KeyboardInterrupt()
    assert cli.main(["stress", "--json", "-"]) == 130
    output = capsys.readouterr()
    assert output.out == "" and "interrupted" in output.err


def test_commands_are_added_by_module():
    parser = cli.build_parser()
    assert isinstance(parser, arguments.Parser)
    for command in ("stress", "doctor", "options"):
        assert parser.parse_args([command]).run
    assert parser.parse_args(["bench", "backends"]).run


# ---- real runs -------------------------------------------------------------------------------


def test_a_real_run_prints_the_document_alone_on_standard_output():
    done = gcheap_command("stress", *SMALL, "--json", "-")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["workload"] == "churn" and document["verified"] is True
    assert document["version"] == gcheap.__version__
    assert document["config"]["live"] == 8 << 20
    assert document["config"]["capacity"] == 16 << 20
    assert set(document["machine"]) >= {"cpus", "kernel", "page_size"}
    assert document["ops"] > 0 and document["cycles"] > 0
    assert set(document["op_latency_us"]) >= {"p50", "p99", "p99_9", "p99_99", "max"}
    assert set(document["mmu"]) == {"1ms", "5ms", "10ms", "50ms"}
    assert all(0 <= share <= 1 for share in document["mmu"].values())
    assert set(document["pauses"]) >= {"count", "p50_us", "p99_us", "max_us", "by_phase"}
    assert set(document["faults"]) >= {"count", "pages", "p50_us", "p99_us", "max_us"}
    assert set(document["stalls"]) >= {"count", "total_ms", "max_ms"}
    assert set(document["bytes"]) >= {"moved", "copied", "zeroed", "recycled"}
    for kind in ("move", "copy", "zeropage"):
        assert set(document["ioctls"][kind]) >= {"calls", "pages", "refused"}
    for key in ("seconds", "ops_per_s", "alloc_bytes_per_s", "relocate_ops", "peak_rss_bytes",
                "peak_heap_resident_bytes", "live_bytes"):
        assert document[key] >= 0
    for key in ("cycle_ms", "relocate_ms", "time_to_safepoint_us"):
        assert set(document[key]) >= {"p50", "p99", "max"}
    # Everything that people read went to standard error, without control characters.
    for part in ("churn: ", "times", "noise floor", "MMU", "UFFDIO_MOVE", "backend ",
                 "verified: every check passed"):
        assert part in done.stderr
    assert "\x1b" not in done.stderr


def test_a_real_run_writes_its_file_and_shows_the_tables(tmp_path):
    target = tmp_path / "out.json"
    done = gcheap_command("stress", "trees", *SMALL, "--backend", "stw", "--json", str(target))
    assert done.returncode == 0, done.stderr
    document = json.loads(target.read_text())
    assert document["workload"] == "trees" and document["backend"] == "stw"
    assert os.listdir(tmp_path) == ["out.json"]
    assert "verified: every check passed" in done.stdout


def test_python_dash_m():
    done = run_python(
        "import runpy, sys; sys.argv = ['gcheap', '--version']; "
        "runpy.run_module('gcheap', run_name='__main__', alter_sys=True)")
    assert done.returncode == 0
    assert done.stdout == f"gcheap {gcheap.__version__}\n"


def test_ctrl_c_shows_the_results_so_far():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GCHEAP_")}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [HOME, environment.get("PYTHONPATH", "")]))
    # A shell starts background jobs with SIGINT ignored, and that is inherited.
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + MAIN
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", script, "stress", "--seconds", "600", "--live", "8MiB",
         "--json", "-"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        # The run is under way once its own progress says so.
        seen = ""
        for line in process.stderr:
            seen += line
            if re.match(r"churn: run .* [1-9][\d,]* ops/s", line):
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, seen + err
    document = json.loads(out)
    assert document["interrupted"] is True and document["ops"] > 0
    assert document["failures"] == 0
    assert "interrupted" in err and "Traceback" not in err


@pytest.mark.uninstrumented("a shell does not run with it preloaded", only="thread")
def test_a_reader_that_has_seen_enough_is_no_error():
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -c "{MAIN}" doctor --json - | head -c 1'],
        env=os.environ | {"PYTHONPATH": HOME}, capture_output=True, text=True,
        timeout=PATIENCE)
    assert done.stdout == "{" and "Traceback" not in done.stderr


def test_output_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "doctor"], env=os.environ | {"PYTHONPATH": HOME},
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr == ("gcheap: cannot write to standard output: No space left on device\n")
