"""`gcheap bench peers`: what programs print, systems' own logs, the document; small real runs."""
import json
import shutil
from pathlib import Path

import pytest

from gcheap import cli
from gcheap.core._testing import histogram
from gcheap.provenance import stamp
from gcheap.tools import bench_peers
from gcheap.tools.bench_peers import Peers, chosen
from gcheap.tools.peers import programs, runs, systems
from gcheap.tools.peers.programs import Unavailable
from gcheap.tools.suite import document_of

pytestmark = pytest.mark.uninstrumented("other systems do not run with it preloaded", only="thread")

PRINTED = """version 1.2
checksum 77
measuring 1.5
measured 3.5
seconds 2.0
ops 1000
failures 0
bucket 100 989
bucket 5001215 11
gap 1000000 5000000
gap 100000000 2000000
pause 300
pause 700
reach 100
reach 900
stalls 2 4000 5000
faults 30 4 2500 6000
peak_rss 4096
note hello there
"""


# ---- what is printed ----------------------------------------------------------------------------

def test_a_run_is_read():
    found = runs.parse(PRINTED)
    assert (found.version, found.checksum, found.ops, found.notes) == ("1.2", 77, 1000,
                                                                      ["hello there"])
    assert found.was_measured(2.0) and not found.was_measured(1.0)
    row = runs.figures("churn", found, found.pauses)
    assert row["ops_per_s"] == 500 and row["p50_us"] == 0.1 and row["p99_us"] == 5000
    assert row["max_us"] == 5000                # a gap: exact, not its bucket's edge
    assert row["pauses"] == 2 and row["pause_max_us"] == 0.7 and row["pause_total_ms"] == 0.001
    assert row["mmu_1ms"] == row["mmu_5ms"] == 0 and row["mmu_10ms"] == 0.5
    assert row["mmu_50ms"] == pytest.approx(0.9)
    assert row["reach_p99_us"] == row["reach_max_us"] == 0.9
    assert (row["stalls"], row["stall_max_us"], row["stall_total_ms"]) == (2, 4, 0.005)
    assert (row["faults"], row["fault_waits"], row["fault_p99_us"], row["fault_max_us"]) == (
        30, 4, 2.5, 6)
    assert row["peak_rss_bytes"] == 4096


def test_what_a_system_does_not_tell_is_null():
    row = runs.figures("churn", runs.parse(PRINTED), None)
    assert row["pauses"] is row["pause_max_us"] is row["pause_total_ms"] is None
    row = runs.figures("churn", runs.parse(PRINTED), [])
    assert row["pauses"] == 0 and row["pause_max_us"] is None
    silent = "".join(line for line in PRINTED.splitlines(True)
                     if not line.startswith(("reach", "stalls", "faults")))
    row = runs.figures("churn", runs.parse(silent), [])
    assert all(row[name] is None for name in ("reach_max_us", "stalls", "stall_max_us", "faults",
                                              "fault_waits", "fault_max_us"))
    row = runs.figures("churn", runs.parse(silent + "stalls 0 0 0\nfaults 0 0 0 0\n"), [])
    assert row["stalls"] == row["faults"] == 0      # told, and there was none
    assert row["stall_max_us"] is row["fault_max_us"] is None


def test_a_full_collection_is_read():
    found = runs.parse("live 4000000\ncollection 2000000000\ncollection 1000000000\n"
                       "collection 4000000000\n")
    assert runs.figures("full", found, None)["compacted_bytes_per_s"] == 2_000_000
    assert runs.figures("full", found, None)["pause_max_us"] is None
    assert runs.figures("full", found, [3000, 7000])["pause_max_us"] == 7


def test_pauses_of_forced_collections_are_told_from_those_between():
    found = runs.parse("measuring 1.5\nmeasured 2\nmeasuring 5\nmeasured 6\n"
                       "settings backend=move\n")
    assert [found.was_measured(at) for at in (1, 1.7, 3, 5.5, 7)] == [
        False, True, False, True, False]
    assert found.settings == "backend=move"


def test_every_system_says_how_it_is_compiled_and_run():
    flags = {system.name: (system.compiled(), system.describe(1 << 20, 4 << 20))
             for system in systems.all_systems() if not isinstance(system, systems.Missing)}
    assert flags["gcheap"] == (
        "cc -O2 -DGCHEAP", f"capacity={4 << 20} policy=fixed stall_warning_ms=0")
    assert flags["OCaml"] == ("ocamlopt -unsafe -inline 200", "space_overhead=300")
    assert flags["Go"] == ("go build", "GOGC=300 GODEBUG=gctrace=1")
    jvm = systems.Jvm(Path("/j/java"), 25, "ZGC")
    assert jvm.describe(1 << 20, 16 << 20) == (
        "-XX:+UseZGC -Xms16384k -Xmx16384k -Xlog:gc,gc+phases,safepoint")


def test_other_output_is_no_result():
    with pytest.raises(ValueError, match="Segmentation"):
        runs.parse("version 1\nSegmentation fault\n")
    with pytest.raises(ValueError, match="stalls 1"):
        runs.parse("stalls 1\n")


# ---- systems' own accounts ----------------------------------------------------------------------

LOG = """[1.000s] GC(0) Pause Young (Normal) (G1 Evacuation Pause) 17M->17M(64M) 88.457ms
[2.000s] GC(1) y: Pause Mark Start 0.012ms
[2.100s] GC(1) O: Concurrent Mark 348.772ms
[2.200s] GC(2) Pause Young (Normal) (G1 Evacuation Pause)
[2.300s] Safepoint "G1CollectForAllocation", Time since last: 900 ns, Reaching safepoint: 4321 ns, \
At safepoint: 17 ns, Total: 4338 ns
[3.000s] GC(2) Allocation Stall (main) 110.250ms
[3.600s] GC(3) Allocation Stall (main) 220.250ms
[3.700s] Safepoint "Cleanup", Time since last: 1 ns, Reaching safepoint: 9 ns, Total: 26 ns
[3.100s] GC(3) Pause Full (System.gc()) 17M->17M(64M) 5.500ms
[9.000s] GC(4) Pause Mark End 1.000ms
"""


def test_pauses_of_a_java_log_within_the_measurement(tmp_path):
    log = tmp_path / "log"
    log.write_text(LOG)
    found = runs.parse(PRINTED)
    jvm = systems.Jvm(Path("/usr/bin/java"), 25, "ZGC")
    assert jvm.pauses(found, log) == [12_000, 5_500_000]
    assert found.reaches == [4321] and found.stalls == (1, 110_250_000, 110_250_000)
    told = runs.parse("seconds 1\n")
    systems.Jvm(Path("/usr/bin/java"), 25, "Serial").pauses(told, log)
    assert told.stalls is None                  # not its to tell
    assert jvm.pauses(found, tmp_path / "none") == []


def test_flags_of_java():
    flags = systems.Jvm(Path("/j/java"), 21, "ZGC").flags(1 << 20, 96 << 20)
    assert flags == ["-XX:+UseZGC", "-XX:+ZGenerational", "-Xms98304k", "-Xmx98304k"]
    assert systems.Jvm(Path("/j/java"), 25, "ZGC").flags(1 << 20, 1 << 20) == [
        "-XX:+UseZGC", "-Xms8192k", "-Xmx8192k"]
    assert "-XX:+UseSerialGC" in systems.Jvm(Path("/j"), 17, "Serial").flags(1, 1 << 24)


def test_pauses_of_gctrace():
    found = runs.parse(PRINTED)
    found.errors = (
        "gc 1 @0.062s 18%: 0.010+77+0.21 ms clock, 0.020+2.5/31/0.47+0.43 ms cpu, 8->15->15 MB\n"
        "gc 2 @2.427s 10%: 0.021+180+0.060 ms clock, 0.042+0.61/76/75+0.12 ms cpu, 26->29 MB\n")
    assert systems.GoProgram().pauses(found, None) == [21_000, 60_000]


# ---- the programs -------------------------------------------------------------------------------

def test_the_sources_are_installed():
    assert {"peer.c", "record.h", "Peer.java", "peer.go", "peer.ml", "clock.c", "peer.py"} <= {
        path.name for path in programs.sources().iterdir()}


def test_a_command_that_is_not_there():
    with pytest.raises(Unavailable, match="no no-such-thing"):
        programs.need("no-such-thing")
    with pytest.raises(Unavailable, match="No such file"):
        programs.build(["/no/such/compiler"])


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_a_program_that_does_not_compile(tmp_path):
    (tmp_path / "wrong.c").write_text("int main(void) { return nothing; }")
    with pytest.raises(Unavailable, match="cc: .*error.*nothing"):
        programs.build(["cc", str(tmp_path / "wrong.c"), "-o", str(tmp_path / "wrong")])


class Script(systems.System):
    """A program of one line of shell."""

    def __init__(self, script):
        super().__init__("script", "no")
        self.script = script

    def command(self, live, capacity, log):
        return ["sh", "-c", self.script, "sh"]


SIZES = (1 << 20, 1 << 21, 10, 0.1, 1)


@pytest.mark.parametrize(("script", "why"), [
    ("echo 'java.lang.OutOfMemoryError: Java heap space' >&2; exit 1", "out of memory"),
    ("echo failures 7; exit 1", "its data was damaged: 7"),
    ("echo first >&2; echo last words >&2; exit 3", "status 3: last words"),
    ("echo hello", "printed something else"), ("kill -KILL $$", "status -9"),
])
def test_a_run_that_fails_says_why(script, why, tmp_path):
    with pytest.raises(Unavailable, match=why) as failed:
        runs.run(Script(f"echo version 7; {script}"), "churn", SIZES, tmp_path, 60)
    assert failed.value.version == (None if "something" in why else "7")


def test_a_run_that_never_ends_is_ended(tmp_path):
    with pytest.raises(Unavailable, match="took more than"):
        runs.run(Script("exec sleep 600"), "churn", SIZES, tmp_path, 0.1)


def test_python_records_in_the_buckets_of_the_core(tmp_path):
    """Edges and counts of peer.py against the core's histogram, which is tested against others."""
    peer = {}
    source = (programs.sources() / "peer.py").read_text()
    exec(compile(source.replace('__name__ == "__main__"', "False"), "peer.py", "exec"), peer)
    for value in [0, 1, 2047, 2048, 2049, 4095, 4096, 123_456, 10**9, 10**12]:
        (edge, _), = histogram([value])
        assert peer["upper"](peer["slot_of"](value)) == edge


# ---- the document -------------------------------------------------------------------------------

CONFIG = {"live": 1 << 20, "heap": [2.0], "modes": ["churn", "full"], "rounds": 1, "seconds": 1,
          "warm_up": 10, "seed": 1}


def peers(first=77, second=77):
    state = Peers(CONFIG, [Script("one"), Script("two"), Script("three")])
    for system, name in zip(state.systems, ("one", "two", "three"), strict=True):
        system.name = name
        system.describe = lambda live, capacity: f"-flag {capacity // live}"
        system.compiled = lambda: "cc -O9"
    state.missing["three"] = "no compiler"
    state.failed["two, full, 4x"] = "out of memory"
    state.checksums = {"churn": {"one": first, "two": second}}
    row = runs.figures("churn", runs.parse(PRINTED), [300])
    for name in ("one", "two"):
        state.rows.append({"round": 1, "case": f"{name}, churn, 2x", **row})
    state.rows.append({"round": 1, "case": "one, full, 4x", "compacted_bytes_per_s": 3e6,
                       "pause_max_us": 7.0,
                       "peak_rss_bytes": 5 << 20})
    state.settings = {"one, full, 4x": "backend=move"}
    state.versions = {"one": "1.2", "two": "3.4"}
    return state


def test_the_table_has_a_row_for_each_and_says_what_is_missing(capsys):
    from gcheap.tools.consoles import result_console

    document = document_of("peers", CONFIG, peers().summarize(), stamp())
    assert document["verified"] and document["rounds"] == 1
    assert document["metrics"]["one, churn, 2x: ops per s"]["values"] == [500]
    bench_peers.show(json.loads(json.dumps(document)), result_console())
    text = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    row = next(line for line in text if line.startswith("one 500"))
    assert row == "one 500 100 ns 5 ms 5 ms 5 ms 300 ns 90.0 % 4 KiB"
    assert "one 3 7 µs 5 MiB" in text and "two failed" in text
    row = next(line for line in text if line.startswith("two, churn, 2x"))
    assert row == "two, churn, 2x 900 ns 900 ns 2 4 µs 30 4 2.50 µs 6 µs"
    assert "two, full, 4x: out of memory" in text
    assert "three: not measured: no compiler" in text
    # Each system at each size of its heap has its flags, and what its program found out.
    at = text.index("one: version 1.2, moves: no, compiled by: cc -O9")
    assert text[at + 1:at + 3] == ["2x: -flag 2", "4x: -flag 4 backend=move"]
    assert {case["case"]: case["flags"] for case in document["cases"]} == {
        "one, churn, 2x": "-flag 2", "two, churn, 2x": "-flag 2",
        "one, full, 4x": "-flag 4 backend=move", "two, full, 4x": "-flag 4"}
    assert document["systems"][0]["compiled"] == "cc -O9"
    notes = " ".join(text)
    assert "Threads that collect" in notes and "Warm-up of a JIT" in notes and "-unsafe" in notes
    assert "churn: checksum 77 in all 2 systems" in text
    assert "CPython has no limit" in " ".join(text)


def test_checksums_that_differ_fail(capsys):
    made = peers(second=78).summarize()
    assert not made["verified"] and made["checksums_agree"] == {"churn": False}
    damaged = peers()
    damaged.failed["one, full, 4x"] = "its data was damaged: 3 checks failed"
    assert not damaged.summarize()["verified"]


def test_systems_are_chosen_by_the_beginning_of_their_names():
    assert [system.name for system in chosen("CPython,gcheap")] == ["gcheap", "CPython"]
    assert len(chosen(None)) >= 11
    names = " ".join(system.name for system in chosen(None))
    for name in ("ZGC", "Shenandoah", "G1", "Parallel", "Serial", "bdwgc", "Go", "OCaml", "PyPy"):
        assert name in names


# ---- small real runs ----------------------------------------------------------------------------

@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_gcheap_c_and_python_agree(capsys):
    """Whatever else is installed, these three are; checksums tell that they did the same."""
    status = cli.main(["bench", "peers", "--live", "1MiB", "--rounds", "1", "--seconds", "0.05",
                       "--warm-up", "300", "--systems", "gcheap,pool,CPython", "--json", "-"])
    output = capsys.readouterr()
    assert status == 0, output.err
    document = json.loads(output.out)
    if document["systems"][0]["missing"]:       # no libpython to link with, or no headers
        pytest.skip(document["systems"][0]["missing"])
    assert document["checksums_agree"] == {"churn": True, "trees": True, "full": True}
    assert set(document["checksums"]["churn"]) == {"gcheap", "CPython", "pool, no GC"}
    assert not any(case["failed"] for case in document["cases"]) and document["rounds"] == 1
    metrics = document["metrics"]
    assert metrics["gcheap, trees, 2x: ops per s"]["median"] > 0
    assert metrics["gcheap, full, 4x: compacted bytes per s"]["median"] > 0
    assert metrics["gcheap, full, 4x: pause max us"]["median"] > 0
    flags = {case["case"]: case["flags"] for case in document["cases"]}
    assert "backend=" in flags["gcheap, churn, 2x"] and "faults=" in flags["gcheap, full, 4x"]
    # Waits of gcheap's own: told, however few there were; nothing of the others.
    for run in document["runs"]:
        if not run["case"].endswith("full, 4x"):
            counts = [run[name] for name in ("stalls", "faults", "fault_waits")]
            if run["case"].startswith("gcheap"):
                assert counts[2] <= counts[1] and min(counts) >= 0
            else:
                assert counts == [None] * 3
    assert metrics["CPython, churn, 2x: peak rss bytes"]["median"] > 1 << 20


ONE_JVM = next((f"Serial {major}" for major, _ in systems.java_machines()), "Serial")


@pytest.mark.parametrize("name", ["bdwgc", "Go", "OCaml", "PyPy", ONE_JVM])
def test_a_peer_that_is_installed_agrees(name, capsys):
    status = cli.main(["bench", "peers", "--live", "1MiB", "--rounds", "1", "--seconds", "0.05",
                       "--warm-up", "300", "--heap", "16", "--modes", "churn,full", "--systems",
                       f"pool,{name}", "--json", "-"])
    output = capsys.readouterr()
    assert status == 0, output.err
    document = json.loads(output.out)
    here = [system for system in document["systems"][:-1] if not system["missing"]]
    if not here:
        pytest.skip(document["systems"][0]["missing"])
    assert not any(case["failed"] for case in document["cases"])
    assert len(document["checksums"]["churn"]) == len(here) + 1
    told = [f"{system['name']}, full, 4x: pause max us" in document["metrics"] for system in here]
    assert all(told) == (name != "OCaml"), document["metrics"]


@pytest.mark.parametrize("command", [
    ["--heap", "1"], ["--heap", "two"], ["--modes", "sleep"], ["--live", "5"], ["--live", "8EiB"],
    ["--rounds", "0"], ["--warm-up", "-1"], ["--seconds", "nan"],
])
def test_bad_usage_is_one_line_and_status_2(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "peers", *command])
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and command[0] in output.err


@pytest.mark.parametrize(("command", "complaint"), [
    (["--systems", "Smalltalk"], "smalltalk"), (["--systems", ""], "expected some"),
    (["--seed=-1"], "--seed"), (["--live", "1TiB"], "give less"),
    (["--json", "/nowhere/x.json"], "/nowhere"),
])
def test_what_cannot_be_run_is_refused_before_anything_runs(command, complaint, capsys):
    assert cli.main(["bench", "peers", *command]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and complaint in output.err
