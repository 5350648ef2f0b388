"""What a document says about where its figures come from."""
import json
import sys
from pathlib import Path

import gcheap
from gcheap.kernel_files import fields, kilobytes, selected, text
from gcheap.provenance import describe, machine, stamp


def laid_out(root: Path, **files):
    for path, content in files.items():
        target = root / path.replace("__", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    return root


def test_a_stamp_is_plain_data_and_names_everything():
    made = json.loads(json.dumps(stamp(7), allow_nan=False))
    assert made["version"] == gcheap.__version__
    assert set(made["machine"]) == {"cpus", "processors", "cpu_model", "architecture",
                                    "memory_bytes", "page_size", "kernel", "governor", "thp",
                                    "clock_source"}
    told = made["provenance"]
    assert set(told) == {"date", "command", "environment", "seed", "python", "load_average",
                         "available_bytes", "build"}
    assert told["seed"] == 7 and len(told["load_average"]) == 3
    assert told["available_bytes"] < made["machine"]["memory_bytes"]


def test_the_build_is_the_one_that_runs():
    build = stamp()["provenance"]["build"]
    assert build["variant"] in ("release", "debug", "tsan", "asan")
    assert any(part.startswith("-O") for part in build["command"]) and build["compiler"]
    assert {"commit", "modified", "failpoints", "cython"} <= set(build)


def test_the_command_and_the_variables_that_mattered(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/gcheap", "stress", "--live", "1MiB"])
    monkeypatch.setenv("GCHEAP_BACKEND", "copy")
    told = stamp()["provenance"]
    assert told["command"] == ["gcheap", "stress", "--live", "1MiB"]
    assert told["environment"]["GCHEAP_BACKEND"] == "copy"
    assert all(name.startswith("GCHEAP_") for name in told["environment"])


def test_settings_of_the_machine_are_read(tmp_path):
    root = laid_out(tmp_path, **{
        "proc__cpuinfo": "processor : 0\nmodel name\t: A CPU\n\nmodel name\t: Another\n",
        "sys__devices__system__cpu__cpu0__cpufreq__scaling_governor": "performance\n",
        "sys__kernel__mm__transparent_hugepage__enabled": "always [madvise] never\n"})
    made = machine(root)
    assert (made["cpu_model"], made["governor"], made["thp"]) == ("A CPU", "performance", "madvise")
    bare = machine(tmp_path / "nothing")
    assert bare["cpu_model"] is bare["governor"] is bare["thp"] is None
    assert "A CPU, " in describe({"machine": made}) and "None" not in describe({"machine": bare})
    assert describe({"machine": made, "provenance": {"seed": 0}}).endswith(", seed 0")


def test_files_of_the_kernel(tmp_path):
    assert text(tmp_path, "/nowhere") is None
    assert fields("A: 1\nB:\t2 kB\nA: 3") == {"A": "1", "B": "2 kB"} and fields(None) == {}
    assert selected("always") == "always" and selected(None) is None
    assert kilobytes("2 kB") == 2048 and kilobytes("many") is kilobytes(None) is None


def test_moments_of_a_heap_are_on_the_clock_that_programs_can_read():
    """So that they can be laid over whatever else a program notes."""
    with gcheap.Heap("4MiB") as heap:
        before = gcheap.clock_ns()
        heap.collect()
        after = gcheap.clock_ns()
        assert all(before <= at <= after for at in heap.pauses()["start_ns"].tolist())
