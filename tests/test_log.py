"""The log: lines that GC log viewers read, from real runs under every backend; where they go."""
from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from support import (
    Child,
    MutatorThread,
    interleaved,
    node_shape,
    released_while_forking,
    run_cleanly,
    run_python,
    touch_holes,
)

import gcheap
from gcheap import cli, failpoints
from gcheap.core import _testing_trace
from gcheap.face.heap import core_of
from gcheap.face.records import Records
from gcheap.log.lines import CAUSES, PAUSES, PHASES
from gcheap.log.mmu import WINDOWS_MS, PauseUtilization
from gcheap.log.selection import TAG_SETS, parse_log
from gcheap.workloads.mmu import minimum_utilization

MIB = 1 << 20

# ---- the grammar ---------------------------------------------------------------------------

MS = r"\d+\.\d{3}ms"
SHARE = r"\d+M\(\d+%\)"
CELL = r"(?: +(?:\d+M \(\d+%\)|-))"
CAUSE = "|".join(map(re.escape, CAUSES.values()))
PHASE = "|".join(map(re.escape, PHASES.values()))
LINE = re.compile(
    r"(?:\[(?P<time>[\d.:T+-]+)\])?(?:\[(?P<uptime>\d+\.\d{3})s\])?(?:\[(?P<pid>\d+)\])?"
    r"(?:\[heap (?P<heap>\d+)\])?\[(?P<level>info|debug|warning)\]\[(?P<tags>[a-z,]+) *\] "
    r"(?:GC\((?P<cycle>\d+)\) )?(?P<text>[^\n]*)")
TEXTS = {
    "gc,init": [r"gcheap \S+, heap \d+, process \d+", r"Backend: (move|copy|stw) \([^\n]+\)",
                r"Faults: (sigbus|handler|none)", r"CPUs: \d+, kernel \S+, page \d+K",
                r"Capacity: \d+M, policy \S+", r"Unit: \d+K, TLAB \d+K, batch of \d+ units",
                r"Verify: level \d"],
    "gc,start": [rf"Garbage Collection \(({CAUSE})\)"],
    "gc,phases": [rf"(Concurrent )?({PHASE}) {MS}", rf"({'|'.join(PAUSES.values())}) {MS}",
                  rf"({'|'.join(PAUSES.values())}): \d+ mutators, reached in {MS}, {MS} of CPU"],
    "gc,mmu": ["MMU: " + ", ".join(rf"{window}ms/\d+\.\d%" for window in WINDOWS_MS)],
    "gc,uffd": [r"(MOVE|COPY|ZEROPAGE): \d+ pages in \d+ calls, \d+ refused",
                r"Faults: \d+ \(\d+ pages built, \d+ waited, \d+ holes\), \d+ foreign",
                r"Recycled: \d+M"],
    "gc,stalls": [rf"Stalls: \d+, total {MS}, max {MS}",
                  r"Allocation Stall \([^\n]*\): \d+ bytes, thread \d+"],
    "gc,reloc": [r"Relocated: \d+M slid \(\d+M whole, \d+M wasted\), \d+M allocated meanwhile",
                 r"Relocated: nothing, too little would be won"],
    "gc,heap": [rf"(Soft )?Max Capacity: {SHARE}",
                r" +Mark Start +Mark End +Relocate Start +Relocate End",
                rf" *(Capacity|Free|Used|Live|Reclaimed): {CELL}{{4}}",
                r"Bytes: used \d+->\d+, live \d+, collected \d+, limit \d+"],
    "gc": [rf"Garbage Collection \(({CAUSE})\) {SHARE}->{SHARE}",
           rf"Garbage Collection \(({CAUSE})\) Abandoned \(fork\)",
           rf"Allocation Stall \([^\n]*\) {MS}",
           r"\d+ records lost: the log was too slow for them"],
    "safepoint": [r'Safepoint "\w+", Time since last: \d+ ns, Reaching safepoint: \d+ ns, '
                  r"At safepoint: \d+ ns, Total: \d+ ns"],
}
GCTRACE = re.compile(
    r"gc (?P<cycle>\d+)(?: \(heap \d+\))? @\d+\.\d{3}s \d+%: [\d.]+(?:\+[\d.]+){5} ms clock, "
    r"[\d.]+\+[\d.]+ ms cpu, \d+->\d+->\d+ MB, \d+ MB goal, \d+ faults, \d+ stalls, \d+ P "
    r"\((goal|idle|stall|explicit)\)")


def parse(text: str) -> list[dict[str, str | None]]:
    """Every line of a log; fails at one that the grammar does not have."""
    rows = []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        assert any(re.fullmatch(form, match["text"]) for form in TEXTS[match["tags"]]), line
        rows.append(match.groupdict())
    return rows


def texts(rows, tags: str, cycle: int | None = None) -> list[str]:
    return [row["text"] for row in rows if row["tags"] == tags
            and (cycle is None or row["cycle"] == str(cycle))]


def stall(m) -> None:
    """Fills the heap until it is exhausted, which takes stalls."""
    kept: list = []
    with pytest.raises(gcheap.HeapExhausted):
        while True:
            kept.append(m.new_bytes(bytes(60_000)))


def test_the_grammar_knows_every_tag_set():
    assert set(TEXTS) == set(TAG_SETS)


def test_lines_of_a_real_run_are_those_of_the_records(make_heap, tmp_path):
    path = tmp_path / "gc.log"
    heap = make_heap("4MiB", log=f"all=trace:file={path}", stall_warning_ms=0)
    with heap.attach("\x1b[31mmain") as m:
        if heap.backend != "stw":
            touch_holes(heap, m)
        nodes = interleaved(m, node_shape(heap), 2000)
        heap.census()
        stall(m)
        heap.collect()
        assert len(nodes) == 2000
    pauses, cycles, stats = heap.pauses(), heap.cycles(), heap.stats()
    heap.close()
    text = path.read_text()
    assert all(line.isprintable() for line in text.splitlines())
    rows = parse(text)
    assert {row["tags"] for row in rows} == set(TAG_SETS)
    stamps = [float(row["uptime"]) for row in rows]
    assert stamps == sorted(stamps)

    told = [line for line in texts(rows, "gc,phases")
            if line.startswith("Pause") and ":" not in line]
    wanted = [f"{PAUSES[str(p['phase'])]} {p['work_ns'] / 1e6:.3f}ms" for p in pauses]
    assert sorted(told) == sorted(wanted)
    assert len(texts(rows, "safepoint")) == len(pauses)
    assert len(texts(rows, "gc,start")) == len(cycles)
    summaries = [(row["cycle"], row["text"]) for row in rows
                 if row["tags"] == "gc" and row["cycle"]]
    assert summaries == [
        (str(c["cycle"]), f"Garbage Collection ({CAUSES[str(c['cause'])]}) "
         + "->".join(
             f"{int(c[used]) // MIB}M({max(1, round(100 * int(c[used]) / heap.capacity))}%)"
             for used in ("used_before", "used_after"))) for c in cycles]
    stalls = [line for line in texts(rows, "gc") if line.startswith("Allocation Stall")]
    assert len(stalls) == stats.stalls > 0
    assert all(line.startswith("Allocation Stall (?[31mmain) ") for line in stalls)
    # Counted cycle by cycle, and nothing after the last one.
    faults = sum(int(re.findall(r"\d+", line)[0]) for line in texts(rows, "gc,uffd")
                 if line.startswith("Faults"))
    assert faults == stats.faults
    for name, row in stats.ioctls.items():
        found = [list(map(int, re.findall(r"\d+", line))) for line in texts(rows, "gc,uffd")
                 if line.startswith(name.upper())]
        assert [sum(column) for column in zip(*found, strict=True)] == [
            row.pages, row.calls, sum(row.refused.values())]


def test_phases_come_in_their_order(make_heap, tmp_path):
    path = tmp_path / "gc.log"
    heap = make_heap(log=f"gc*:{path}")
    with heap.attach() as m:
        interleaved(m, node_shape(heap), 3000)
        heap.collect()
    heap.close()
    names = [re.sub(r" [\d.]+ms", "", line)
             for line in texts(parse(path.read_text()), "gc,phases", 1)]
    if heap.backend == "stw":
        assert names == ["Concurrent Reset Relocation Set", "Mark",
                         "Process Non-Strong References", "Select Relocation Set", "Relocate",
                         "Pause Full"]
    else:
        # Mark End may find too much left, any number of times.
        again = r"(Pause Mark End; Concurrent Mark Continue; )*"
        assert re.fullmatch(
            "Concurrent Reset Relocation Set; Pause Mark Start; Concurrent Mark; " + again
            + "Pause Mark End; Concurrent Process Non-Strong References; Concurrent Select "
            "Relocation Set; Concurrent Register To-Space; Pause Relocate Start; Concurrent "
            "Relocate", "; ".join(names))


def test_to_space_that_cannot_be_registered_is_relocated_in_the_pause(
        make_concurrent_heap, tmp_path):
    path = tmp_path / "gc.log"
    heap = make_concurrent_heap(log=f"gc*:{path}")
    with heap.attach() as m, failpoints.fail("uffd.register", 12, times=1):
        interleaved(m, node_shape(heap), 3000)
        heap.collect()
    heap.close()
    assert [line.split(" ")[0] for line in texts(parse(path.read_text()), "gc,phases")[-2:]] == [
        "Relocate", "Pause"]


# ---- where it goes ---------------------------------------------------------------------------

SCRIPT = """
    import os, sys, gcheap
    heap = gcheap.Heap("4MiB")
    with heap.attach("main") as m:
        Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
        kept = [m.new(Node, key=i) for i in range(3000)]
        heap.collect()
"""


def test_the_first_heap_of_a_process_has_lines_like_hotspots():
    done = run_python(SCRIPT, env={"GCHEAP_LOG": "gc*"})
    assert (done.returncode, done.stdout) == (0, "")
    for line in done.stderr.splitlines():
        # The tags are as wide as HotSpot has them once it has said [gc,phases   ].
        assert re.match(r"\[\d+\.\d{3}s\]\[info\]\[(?=.{12}\] )[a-z,]+ *\] ", line)
    assert re.search(r"\[gc,phases   \] GC\(1\) (Pause Mark Start|Pause Full) \d+\.\d{3}ms\n",
                     done.stderr)
    # Nobody closed it: the end of the interpreter did.
    assert parse(done.stderr)[-1]["text"].startswith("Garbage Collection (System.gc()) 0M(")


def test_one_line_a_cycle_in_gos_manner():
    done = run_python(SCRIPT, env={"GCHEAP_TRACE": "1"})
    assert done.returncode == 0
    assert [GCTRACE.fullmatch(line)["cycle"] for line in done.stderr.splitlines()] == ["1"]


def test_by_default_nothing_is_said():
    assert run_cleanly(SCRIPT) == ""


def test_heaps_that_share_a_file_can_be_told_apart(tmp_path):
    path = tmp_path / "both.log"
    path.write_text("what was there before\n")
    made = []
    for _ in range(2):
        with gcheap.Heap("1MiB", log=f"gc*:{path}") as first, \
                gcheap.Heap("1MiB", log=f"gc*:{path};gc+init:file={path}.%h") as second:
            first.collect()
            second.collect()
            made += [core_of(first).number, core_of(second).number]
    rows = parse(path.read_text())
    heaps = {int(row["heap"] or 1) for row in rows}
    assert heaps == set(made)
    for number in made:
        mine = [row for row in rows if int(row["heap"] or 1) == number]
        assert len(texts(mine, "gc,start")) == len(texts(mine, "gc")) == 1
    assert [os.path.exists(f"{path}.{number}") for number in made] == [False, True] * 2


def test_a_forked_child_logs_its_own(tmp_path):
    path, mine = tmp_path / "gc.log", tmp_path / "by-%p.log"
    heap = gcheap.Heap("4MiB", log=f"gc*:{path};gc*::pid,tags,level")
    heap.close()
    heap = gcheap.Heap("4MiB", log=f"gc*:{path};gc*:{mine}")
    with heap.attach() as m:
        kept = interleaved(m, node_shape(heap), 500)
        heap.collect()

        def child():
            heap.collect()
            heap.collect()
            heap.close()

        process = Child(child)
        judged = process.join()
        heap.collect()
        assert len(kept) == 500
    heap.close()
    if not judged:
        pytest.skip("ThreadSanitizer, which ends a child that starts a thread, has ended this one")
    rows = parse(path.read_text())
    number = str(core_of(heap).number)
    rows = [row for row in rows if row["heap"] == number]
    by_child = [row for row in rows if row["pid"] == str(process.pid)]
    by_parent = [row for row in rows if row["pid"] is None]
    assert len(by_child) + len(by_parent) == len(rows)
    assert [row["cycle"] for row in by_child if row["tags"] == "gc"] == ["2", "3"]
    assert [row["cycle"] for row in by_parent if row["tags"] == "gc"] == ["1", "2"]
    assert "Pause Fork" in " ".join(texts(by_parent, "gc,phases"))
    apart = parse((tmp_path / f"by-{process.pid}.log").read_text())
    assert [row["cycle"] for row in apart if row["tags"] == "gc"] == ["2", "3"]


def test_a_cycle_that_a_fork_ends_is_said_to_be_abandoned(tmp_path):
    path = tmp_path / "gc.log"
    with gcheap.Heap("4MiB", log=f"gc*:{path}", backend="auto") as heap, heap.attach() as m:
        if heap.backend == "stw":
            pytest.skip("a cycle of stw is one pause")
        kept = interleaved(m, node_shape(heap), 500)
        with failpoints.pause("mark.concurrent", times=1) as held:
            heap.collect(wait=False)
            held.wait()
            core_of(heap).followers[0].flush()          # it has begun, and the log knows
            with released_while_forking("mark.concurrent"):
                child = Child(os.getpid)
        child.join()
        heap.collect()
        assert len(kept) == 500
    lines = texts(parse(path.read_text()), "gc", 1)
    assert [line.split(") ")[-1] for line in lines][0] == "Abandoned (fork)"
    assert len(lines) == 2


def test_a_heap_that_is_dropped_has_its_last_lines(tmp_path):
    path = tmp_path / "gc.log"
    heap = gcheap.Heap("1MiB", log=f"gc:{path}")
    heap.collect()
    del heap
    assert [row["cycle"] for row in parse(path.read_text())] == ["1"]


def test_what_the_log_has_lost_is_said(tmp_path):
    path = tmp_path / "gc.log"
    with gcheap.Heap("1MiB", log=f"gc*:{path}") as heap:
        records, session = Records(core_of(heap)), core_of(heap).followers[0]
        with session._lock, heap.attach() as m:
            session.flush()
            _testing_trace.record_pauses(m.native(), 16_384 + 17)
        taken = records.take()
        assert ([kind for _, kind, _ in taken], records.lost) == (["pause"] * 16_384, 17)
    rows = parse(path.read_text())
    assert [line for line in texts(rows, "gc") if "lost" in line] == [
        "17 records lost: the log was too slow for them"]
    assert len(texts(rows, "gc,phases")) == 16_384


def test_an_output_that_takes_nothing_holds_no_cycle():
    """A pipe that nobody reads: the log waits, the heap does not."""
    assert run_cleanly("""
        import os, sys, gcheap
        unread, full = os.pipe()
        kept = os.dup(2)
        os.dup2(full, 2)
        heap = gcheap.Heap("1MiB", log="all=trace:stderr")
        for _ in range(200):
            heap.collect()
        assert heap.stats().cycles == 200
        os.dup2(kept, 2)
        print("went on", flush=True)
        os._exit(0)
    """) == "went on\n"


# ---- selectors -------------------------------------------------------------------------------

@pytest.mark.parametrize(("text", "shown"), [
    ("gc", {"gc"}), ("gc*", {t for t in TAG_SETS if t != "safepoint"}), ("all", set(TAG_SETS)),
    ("gc+heap", {"gc,heap"}), ("heap+gc", {"gc,heap"}), ("heap*", {"gc,heap"}),
    ("gc*,gc+init=off,safepoint", {t for t in TAG_SETS if t != "gc,init"}),
    ("gc*=warning", set()), ("off", set()), ("gc*=off", set())])
def test_what_a_selector_selects(text, shown):
    outputs = parse_log(text)
    assert {tags for tags in TAG_SETS for one in outputs if one.shows("info", tags)} == shown


def test_levels_outputs_and_decorators():
    one, two = parse_log("gc*=debug:file=a-%p.log:tags,level,time;safepoint:stdout")
    assert one.shows("debug", "gc,heap") and not one.shows("trace", "gc,heap")
    assert (one.target, one.decorators) == ("a-%p.log", ("time", "level", "tags"))
    assert (two.target, two.decorators) == ("stdout", ("uptime", "level", "tags"))
    assert not two.shows("info", "gc")


@pytest.mark.parametrize("text", [
    "", "gx", "gc+", "gc=loud", "gc,,", "heap", "gc*:file=", "gc:x:colour", "gc**", "gc+gcc", "GC",
    "gc;", "gc=", "*", "all*", "gc:a\0b", "off;gc", "\x1b[2J", "gc*:stderr:uptime:x"])
def test_a_bad_selector_is_one_line(text, monkeypatch, capsys):
    with pytest.raises(gcheap.OptionError) as caught:
        gcheap.Heap("1MiB", log=text)
    assert str(caught.value).startswith("log=") and str(caught.value).isprintable()
    if "\0" not in text:
        monkeypatch.setenv("GCHEAP_LOG", text)
        assert cli.main(["options"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "GCHEAP_LOG" in error


@pytest.mark.parametrize("flags", [("--log", "gc*:/nowhere/at/all"), ("--log", "gcc*"),
                                   ("--trace", "/nowhere/at/all.json"), ("--trace", "x.txt")])
def test_the_command_line_refuses_with_one_line_and_status_2(flags):
    done = subprocess.run([sys.executable, "-m", "gcheap", "stress", "--seconds", "1",
                           "--live", "1MiB", *flags], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr


# ---- utilization -----------------------------------------------------------------------------

def test_utilization_is_that_of_the_exact_algorithm(rng):
    for _ in range(30):
        at, starts, lengths, kept = 200_000_000, [], [], PauseUtilization()
        for _ in range(rng.randrange(1, 40)):
            at += rng.randrange(1, 10 ** rng.randrange(4, 9))
            starts.append(at)
            lengths.append(rng.randrange(1, 10 ** rng.randrange(4, 8)))
            at += lengths[-1]
            kept.add(starts[-1], at)
        for window, percent in kept.percent().items():
            exact = minimum_utilization(np.array(starts, "u8"), np.array(lengths, "u8"), 0,
                                        at + 200_000_000, window * 1_000_000)
            assert percent == pytest.approx(100 * exact, abs=1e-6)


# ---- slow pauses -----------------------------------------------------------------------------

SLOW = re.compile(
    r"gcheap: slow pause (\w+)(?: of cycle (\d+))?: ([\d.]+) ms \([\d.]+ ms of CPU\), [\d.]+ ms to "
    r"stop (\d+) mutators(?: \(\d+ more since the last line\))?\n")


def slow_cycle(heap) -> None:
    with failpoints.delay("mark.before", ns=3_000_000):
        heap.collect()


def test_a_slow_pause_is_named(make_heap, capfd):
    heap = make_heap("4MiB", pause_warning_ms=3)
    with heap.attach(), MutatorThread(heap):
        slow_cycle(heap)
        slow_cycle(heap)            # within a second, most likely: counted for the next line
    said = capfd.readouterr().err
    assert SLOW.sub("", said) == ""
    lines = SLOW.findall(said)
    phase = "full" if heap.backend == "stw" else "mark_start"
    assert (*lines[0][:2], lines[0][3]) == (phase, "1", "2") and float(lines[0][2]) >= 3


@pytest.mark.parametrize("options", [{"pause_warning_ms": 0}, {"pause_warning_ms": 3, "verify": 1},
                                     {"pause_warning_ms": 86_400_000}])
def test_what_is_not_reported(options, capfd):
    with gcheap.Heap("4MiB", **options) as heap:
        slow_cycle(heap)
    assert capfd.readouterr().err == ""


def test_a_fork_says_nothing_of_a_heap_that_is_closed(make_heap, capfd):
    heap, closed = (make_heap("4MiB", pause_warning_ms=3) for _ in range(2))
    closed.close()
    with failpoints.delay("fork.stopped", ns=10_000_000):
        Child(lambda: None).join()
    said = capfd.readouterr().err
    assert SLOW.sub("", said) == "" and [line[0] for line in SLOW.findall(said)] == ["fork"]
    assert len(heap.pauses()) == 1
