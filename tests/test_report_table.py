"""The tables of a run are a pure function of its document; files appear whole or not at all."""
import copy
import io
import json
import os
import stat

import pytest
from rich.console import Console

from gcheap.tools import output, tables

DOCUMENT = {
    "version": "0.1", "machine": {"cpus": 2, "kernel": "6.18", "page_size": 4096},
    "config": {"live": 64 << 20, "capacity": 128 << 20, "mutators": 2, "seed": 7},
    "workload": "churn", "seconds": 20.0, "ops": 6_000_000, "ops_per_s": 300_000.0,
    "alloc_bytes_per_s": 150_000_000.0, "cycles": 41,
    "cycle_ms": {"p50": 52.5, "p99": 81.0, "max": 90.25},
    "relocate_ms": {"p50": 31.0, "p99": 44.0, "max": 47.0},
    "pauses": {"count": 82, "p50_us": 812.0, "p99_us": 20100.0, "max_us": 22000.0, "by_phase": {
        "mark_end": {"count": 41, "p50_us": 18000.0, "p99_us": 20100.0, "max_us": 22000.0},
        "relocate_start": {"count": 41, "p50_us": 66.6, "p99_us": 91.5, "max_us": 97.0}}},
    "time_to_safepoint_us": {"p50": 3.25, "p99": 40.0, "max": 55.5},
    "op_latency_us": {"p50": 2.125, "p99": 9.5, "p99_9": 33.0, "p99_99": 880.0, "max": 23456.0},
    "noise_floor_us": {"p50": 0.04, "p99": 0.06, "p99_9": 1.5, "p99_99": 17.0, "max": 4321.0,
                       "seconds": 0.25},
    "mmu": {"1ms": 0.0, "5ms": 0.125, "10ms": 0.5, "50ms": 0.935},
    "faults": {"count": 1234, "pages": 4936, "p50_us": 19.0, "p99_us": 61.0, "max_us": 300.0,
               "waits": 27},
    "stalls": {"count": 3, "p50_ms": 3.0, "p99_ms": 7.75, "total_ms": 12.5, "max_ms": 7.75},
    "cost": {"fault_ms": 41.0},
    "relocate_ops": 77, "bytes": {
        "moved": 3 << 30, "copied": 5 << 20, "zeroed": 4096, "recycled": 2 << 30},
    "ioctls": {
        "move": {"calls": 1000, "pages": 64_000, "refused": {"EBUSY": 9, "EAGAIN": 4}},
        "copy": {"calls": 0, "pages": 0, "refused": {}},
        "zeropage": {"calls": 17, "pages": 17, "refused": {}}},
    "peak_rss_bytes": 300 << 20, "peak_heap_resident_bytes": 140 << 20,
    "live_bytes": 63 << 20, "backend": "move", "fault_mode": "sigbus",
    "why": "the kernel has UFFDIO_MOVE", "verified": True,
}


def rendered(document):
    stream = io.StringIO()
    tables.show(document, Console(file=stream, width=80, highlight=False))
    return stream.getvalue()


def row(text, name):
    """The cells of the first row whose first column is `name`."""
    for line in text.splitlines():
        if line.strip().startswith(name):
            return line.strip()[len(name):].split("  ")
    raise AssertionError(f"no row {name!r} in\n{text}")


def cells(text, name):
    return [cell.strip() for cell in row(text, name) if cell.strip()]


def test_every_figure_appears_in_its_row():
    text = rendered(DOCUMENT)
    assert cells(text, "cycle") == ["41", "52.5 ms", "81 ms", "–", "–", "90.2 ms"]
    assert cells(text, "pause: mark end")[:3] == ["41", "18 ms", "20.1 ms"]
    assert cells(text, "pause: relocate start") == ["41", "66.6 µs", "91.5 µs", "–", "–", "97 µs"]
    assert cells(text, "time to safepoint") == ["–", "3.25 µs", "40 µs", "–", "–", "55.5 µs"]
    assert cells(text, "operation") == [
        "6,000,000", "2.12 µs", "9.50 µs", "33 µs", "880 µs", "23.5 ms"]
    assert cells(text, "noise floor")[1:] == ["40 ns", "60 ns", "1.50 µs", "17 µs", "4.32 ms"]
    assert cells(text, "worst mutator") == ["0.0 %", "12.5 %", "50.0 %", "93.5 %"]
    assert cells(text, "faults") == ["1,234", "19 µs", "61 µs", "300 µs", "41 ms"]
    assert cells(text, "allocation stalls") == ["3", "3 ms", "7.75 ms", "7.75 ms", "12.5 ms"]
    assert "faults: 4.0 pages built by each; 27 of them waited for another" in text
    assert "noise floor: one thread, 250 ms before there was a heap; its longest" in text
    assert cells(text, "UFFDIO_MOVE") == ["1,000", "64,000", "64.0", "EAGAIN 4, EBUSY 9"]
    assert cells(text, "UFFDIO_COPY") == ["0", "0", "–", "none"]
    assert "backend move, fault mode sigbus: the kernel has UFFDIO_MOVE" in text
    assert "verified: every check passed" in text


def test_the_tables_come_in_the_documented_order():
    text = rendered(DOCUMENT)
    order = ["cycle", "pause: mark", "time to safepoint", "operation", "MMU", "faults",
             "allocation stalls", "bytes", "ioctls", "allocation rate", "peak RSS", "backend move"]
    places = [text.index(word) for word in order]
    assert places == sorted(places)


def test_a_run_without_samples_shows_dashes():
    document = copy.deepcopy(DOCUMENT)
    document["cycles"] = document["faults"]["count"] = document["faults"]["pages"] = 0
    document["cost"]["fault_ms"] = 0.0
    document["pauses"]["by_phase"] = {}
    for key in ("cycle_ms", "relocate_ms", "time_to_safepoint_us", "op_latency_us", "mmu"):
        document[key] = dict.fromkeys(document[key])
    for key in ("p50_us", "p99_us", "max_us"):
        document["pauses"][key] = document["faults"][key] = None
    text = rendered(document)
    assert cells(text, "cycle") == ["0"] + ["–"] * 5
    assert cells(text, "faults") == ["0", "–", "–", "–", "0 ns"]
    assert "faults: " not in text
    assert cells(text, "worst mutator") == ["–"] * 4


def test_a_failed_verification_stands_out():
    assert "NOT verified" in rendered({**DOCUMENT, "verified": False})


def test_what_only_the_workload_knows_is_told():
    facts = {"rows_a_mutator": 12345, "interval_us": 68.66, "service_us": {"p50": 2.5, "max": None}}
    text = rendered(DOCUMENT | {"facts": facts})
    assert "rows a mutator 12,345, interval us 68.7, service us p50 2.50, service us max –" in text


def test_no_line_ends_within_a_fact():
    facts = {f"waits_{n}": {"p99_9": 1234567 + n, "some_thing": 0.5} for n in range(20)}
    lines = tables.facts_line({"facts": facts}, 80).plain.splitlines()
    assert len(lines) > 10 and all(len(line) <= 80 for line in lines)
    told = [fact for line in lines for fact in line.rstrip(",").split(", ")]
    assert told == [fact for n in range(20)
                    for fact in (f"waits {n} p99.9 {1234567 + n:,}", f"waits {n} some thing 0.50")]


def test_rendering_leaves_the_document_alone_and_survives_json():
    document = copy.deepcopy(DOCUMENT)
    text = rendered(document)
    assert document == DOCUMENT
    assert rendered(json.loads(output.dump_json(document))) == text


@pytest.mark.parametrize(("nanoseconds", "text"), [
    (None, "–"), (0, "0 ns"), (999, "999 ns"), (1500, "1.50 µs"), (12_340, "12.3 µs"),
    (999_000, "999 µs"), (2_000_000, "2 ms"), (1.5e9, "1.50 s"), (123e9, "123 s"),
    (999.7, "1 µs"), (999_960, "1 ms"),
])
def test_durations_take_the_unit_that_fits(nanoseconds, text):
    assert tables.duration(nanoseconds) == text


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path):
    target = tmp_path / "out.json"
    target.write_text("old")
    target.chmod(0o640)
    output.write_whole(str(target), "new")
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "out.json"
    target.write_text("old")

    def refuse(source, destination):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(output.OutputError, match="No space left on device"):
        output.write_whole(str(target), "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_link_is_followed_and_a_pipe_is_written_to_not_replaced(tmp_path):
    target, link = tmp_path / "out.json", tmp_path / "link.json"
    link.symlink_to(target)
    output.write_whole(str(link), "text")
    assert link.is_symlink() and target.read_text() == "text"

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        output.write_whole(str(fifo), "through")
        assert os.read(reader, 100) == b"through"
        assert stat.S_ISFIFO(os.stat(fifo).st_mode)
    finally:
        os.close(reader)


def test_a_path_that_cannot_be_written_is_refused_before_the_run(tmp_path):
    with pytest.raises(output.OutputError, match="it is a directory"):
        output.check_target(str(tmp_path))
    with pytest.raises(output.OutputError, match="there is no directory"):
        output.check_target(str(tmp_path / "missing" / "out.json"))
    output.check_target(str(tmp_path / "out.json"))
    output.check_target("-")


def test_json_refuses_what_json_has_no_word_for():
    with pytest.raises(ValueError):
        output.dump_json({"p50": float("nan")})


