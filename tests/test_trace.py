"""Traces: parsed back, they nest, and hold what the heap counted, under every backend."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter, defaultdict

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent
from support import (
    PATIENCE,
    Child,
    MutatorThread,
    check_interleaved,
    interleaved,
    kernel_offers,
    node_shape,
    run_python,
    touch_holes,
)

import gcheap
from gcheap import cli, failpoints
from gcheap.core import _testing, _testing_trace
from gcheap.face.heap import core_of
from gcheap.log.lines import PAUSES
from gcheap.stress import StressConfig, run_stress
from gcheap.trace.timeline import COUNTERS, edges

SUFFIXES = [".json", ".pftrace"]
PHASES_OF_MUTATORS = {"running", "safepoint", "fault", "allocation stall"}


class Parsed:
    """A trace file, whichever it is: slices by track, counters, what was lost.

    slices     track -> [(start, end, name, arguments, depth)], ns, by start
    counters   name -> [(ns, value)]
    """

    def __init__(self, path) -> None:
        self.slices: dict[str, list[tuple]] = defaultdict(list)
        self.counters: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.lost: dict[str, int] = {}
        data = path.read_bytes()
        (self._json if str(path).endswith(".json") else self._perfetto)(data)
        assert len(set(map(len, self.counters.values()))) <= 1
        for track, slices in self.slices.items():
            check_nesting(track, slices, self.lost.get(track))

    def _json(self, data: bytes) -> None:
        assert data.isascii()
        document = json.loads(data)
        names = {row["tid"]: row["args"]["name"] for row in document["traceEvents"]
                 if row["name"] == "thread_name"}
        check_form(document)
        flat = defaultdict(list)
        for row in document["traceEvents"]:
            if row["ph"] == "X":
                start, length = round(row["ts"] * 1000), round(row["dur"] * 1000)
                flat[names[row["tid"]]].append((start, start + length, row["name"], row["args"]))
            elif row["ph"] == "C":
                self.counters[row["name"]].append((round(row["ts"] * 1000), row["args"]["bytes"]))
            elif row["ph"] == "i":
                self.lost[names[row["tid"]]] = row["args"]["lost"]
        assert self.lost == document["otherData"]["lost_events"]
        for track, slices in flat.items():
            stack: list[int] = []
            for start, end, name, arguments in slices:
                while stack and stack[-1] <= start:
                    stack.pop()
                self.slices[track].append((start, end, name, arguments, len(stack)))
                stack.append(end)

    def _perfetto(self, data: bytes) -> None:
        trace = Trace()
        trace.ParseFromString(data)
        assert {clock.clock_id for clock in trace.packet[0].clock_snapshot.clocks} == {1, 3, 5, 6}
        assert trace.packet[0].sequence_flags & TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        assert {packet.trusted_packet_sequence_id for packet in trace.packet} == {1}
        named: dict[int, str] = {}
        counters: dict[int, str] = {}
        stacks: dict[int, list] = defaultdict(list)
        last: dict[int, int] = {}
        process = None
        for packet in trace.packet:
            if packet.HasField("track_descriptor"):
                d = packet.track_descriptor
                assert d.uuid not in named | counters and d.uuid != process
                if d.HasField("process"):
                    process = d.uuid
                    continue
                assert d.parent_uuid == process
                kind = counters if d.HasField("counter") else named
                kind[d.uuid] = d.thread.thread_name if d.HasField("thread") else d.name
            elif packet.HasField("track_event"):
                assert packet.timestamp_clock_id == 5           # CLOCK_MONOTONIC_RAW
                self._event(packet.timestamp, packet.track_event, named, counters, stacks, last)
        assert not any(stacks.values())                         # all that began has ended

    def _event(self, at, event, named, counters, stacks, last) -> None:
        uuid = event.track_uuid
        assert at >= last.get(uuid, 0)
        if event.type == TrackEvent.TYPE_COUNTER:
            self.counters[counters[uuid]].append((at, event.counter_value))
            return
        arguments = {a.name: a.string_value if a.HasField("string_value") else a.uint_value
                     for a in event.debug_annotations}
        if event.type == TrackEvent.TYPE_INSTANT:
            self.lost[named[uuid]] = arguments["lost"]
            return
        last[uuid] = at
        rows = self.slices[named[uuid]]
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            stacks[uuid].append(len(rows))
            rows.append((at, None, event.name, arguments, len(stacks[uuid]) - 1))
        else:
            assert event.type == TrackEvent.TYPE_SLICE_END
            index = stacks[uuid].pop()
            rows[index] = (rows[index][0], at, *rows[index][2:])

    def named(self, name: str) -> list[tuple]:
        return [one for slices in self.slices.values() for one in slices if one[2] == name]

    def pauses(self) -> list[tuple[int, int, str]]:
        """Start, end and phase of every pause, by start."""
        names = {shown: phase for phase, shown in PAUSES.items()}
        return sorted((start, end, names[name]) for slices in self.slices.values()
                      for start, end, name, *_ in slices if name in names)


def check_form(document: dict) -> None:
    """What the Trace Event Format asks of the JSON object form and of each kind of event."""
    assert set(document) == {"displayTimeUnit", "otherData", "traceEvents"}
    assert document["displayTimeUnit"] in ("ms", "ns")
    last: dict[int, float] = {}
    for row in document["traceEvents"]:
        fields = set(row)
        assert type(row["name"]) is str and type(row["pid"]) is int
        assert type(row["args"]) is dict and type(row.get("tid", 0)) is int
        if row["ph"] == "M":
            assert row["name"] in ("process_name", "thread_name", "thread_sort_index")
            assert fields - {"tid"} == {"name", "ph", "pid", "args"}
            assert ("tid" in row) == (row["name"] != "process_name")
            continue
        assert type(row["ts"]) is float and row["ts"] >= 0
        if row["ph"] == "C":                                    # a counter is of the process
            assert fields == {"name", "ph", "ts", "pid", "args"}
            assert all(type(value) is int for value in row["args"].values())
            continue
        common = {"name", "cat", "ph", "ts", "pid", "tid", "args"}
        if row["ph"] == "X":
            assert fields == common | {"dur"} and row["dur"] >= 0
            assert last.get(row["tid"], 0) <= row["ts"]         # sorted, within a track
            last[row["tid"]] = row["ts"]
        else:
            assert row["ph"] == "i" and fields == common | {"s"} and row["s"] == "t"


def check_nesting(track: str, slices: list[tuple], lost: int | None) -> None:
    """Slices by start: each lies within the one that was open, or begins after its end."""
    stack: list[tuple] = []
    for one in slices:
        start, end, name, _, depth = one
        assert start <= end, (track, one)
        del stack[depth:]
        assert len(stack) == depth, (track, one)
        if stack:
            assert stack[-1][0] <= start and end <= stack[-1][1], (track, one, stack[-1])
        stack.append(one)
        if name in PHASES_OF_MUTATORS and track != "gcheap-faults" and not lost:
            assert depth == (0 if name == "running" else 1), one


def recorded(pauses) -> list[tuple[int, int, str]]:
    return sorted((int(p["start_ns"]), int(p["start_ns"] + p["reach_ns"] + p["work_ns"]),
                   str(p["phase"])) for p in pauses)


# ---- everything that was counted is there ----------------------------------------------------

@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_trace_holds_what_the_heap_counted(make_heap, tmp_path, suffix):
    path = tmp_path / ("trace" + suffix)
    heap = make_heap("8MiB", stall_warning_ms=0)
    with heap.attach("first") as m, MutatorThread(heap, "second") as other:
        nodes = interleaved(m, node_shape(heap), 2000)
        with heap.trace(path) as session:
            assert session.path == str(path) and not path.exists()
            for _ in range(2):
                if heap.backend != "stw":
                    touch_holes(heap, m)
                with failpoints.delay("flip.after", ns=2_000_000):
                    heap.collect(wait=False)
                    other.call(lambda m: check_interleaved(nodes))
                    check_interleaved(nodes)
                heap.collect()
            heap.census()
            other.call(fill)
            stats, pauses = heap.stats(), heap.pauses()
        heap.collect()                                      # not in the trace any more
    trace = Parsed(path)
    assert trace.pauses() == recorded(pauses)
    assert len(trace.named("fault")) == stats.faults and (
        stats.faults > 0 or heap.backend == "stw")
    assert sum(one[3]["pages"] for one in trace.named("fault")) == stats.fault_pages
    assert Counter(one[3]["end"] for one in trace.named("fault"))["waited"] == stats.fault_waits
    assert len(trace.named("allocation stall")) == stats.stalls > 0
    assert trace.lost == {}
    assert {"first", "second", "gcheap-collect", "pauses made by others"} <= set(trace.slices)
    assert ("gcheap-faults" in trace.slices) == (heap.fault_mode == "handler")
    cycles = [one for one in trace.slices["gcheap-collect"] if one[2].startswith("GC(")]
    assert len(cycles) == stats.cycles and {one[4] for one in cycles} == {0}
    # What the compactor places, it places in a batch of a relocation.
    inside = [one for one in trace.slices["gcheap-collect"] if one[2] == "batch"]
    assert inside and all(one[4] >= 2 for one in inside)
    for name in COUNTERS:
        assert len(trace.counters[name]) >= 2
    assert max(value for _, value in trace.counters["used"]) <= heap.capacity
    assert all(value > 0 for _, value in trace.counters["RSS"])


def fill(m) -> None:
    kept: list = []
    with pytest.raises(gcheap.HeapExhausted):
        while True:
            kept.append(m.new_bytes(bytes(60_000)))


def test_mutators_that_stop_where_they_poll(combination, tmp_path):
    """Native ones, which stay in the heap: their stops are within what they run."""
    path = tmp_path / "churn.json"
    document = run_stress(StressConfig(
        workload="churn", live="4MiB", seconds=0.3, warm_up=0.05, noise_seconds=0, mutators=2,
        trace=str(path), **combination))
    assert document["verified"]
    trace = Parsed(path)
    assert trace.named("safepoint") and trace.lost == {}
    for name in ("churn-0", "churn-1"):
        assert {one[2] for one in trace.slices[name] if one[4] == 0} == {"running"}
    faults = len(trace.named("fault"))
    assert faults >= document["faults"]["count"]            # those of the warm-up as well


def test_what_does_not_fit_is_counted(tmp_path):
    for suffix in SUFFIXES:
        path = tmp_path / ("lost" + suffix)
        with gcheap.Heap("1MiB") as heap, heap.attach("writer\x1b[2J\n") as m:
            with heap.trace(path) as session, session._lock:     # the reader cannot
                session._timeline.add_events(session._rings.drain())
                _testing_trace.write_slices(m.native(), 8192 + 100)
            # "running" itself is the one more, when the ring is read at last.
            name, = (name for name in Parsed(path).slices if name.startswith("writer"))
            trace = Parsed(path)
        assert name.isprintable()
        assert trace.lost == {name: 100}
        assert len(trace.named("safepoint")) == 8192


def test_what_is_more_than_a_trace_keeps_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("gcheap.trace.session.MOST_EVENTS", 50)
    path = tmp_path / "short.json"
    with gcheap.Heap("1MiB") as heap, heap.attach("writer") as m, heap.trace(path):
        _testing_trace.write_slices(m.native(), 200)
    trace = Parsed(path)
    assert len(trace.named("safepoint")) + trace.lost["writer"] >= 200
    assert sum(map(len, trace.slices.values())) == 50


# ---- on, off, on -----------------------------------------------------------------------------

def test_only_what_happens_meanwhile(tmp_path):
    with gcheap.Heap("4MiB") as heap, heap.attach() as m:
        assert _testing_trace.rings(m.native()) == 0
        for number in range(3):
            _testing_trace.write_slices(m.native(), 5)
            path = tmp_path / f"{number}.json"
            with heap.trace(path):
                _testing_trace.write_slices(m.native(), 10 + number)
                with pytest.raises(gcheap.GcheapError, match="traced already"):
                    heap.trace(tmp_path / "other.json")
            heap.collect()
            trace = Parsed(path)
            assert len(trace.named("safepoint")) == 10 + number and trace.pauses() == []
        assert _testing_trace.rings(m.native()) == 2        # its own, and the compactor's
    assert sorted(os.listdir(tmp_path)) == ["0.json", "1.json", "2.json"]


def test_threads_that_come_and_go_have_tracks_and_share_rings(tmp_path):
    path = tmp_path / "threads.pftrace"

    def run(number):
        with heap.attach(f"t{number}") as m:
            _testing_trace.write_slices(m.native(), 3)

    with gcheap.Heap("4MiB") as heap, heap.attach() as m:
        with heap.trace(path) as session:
            for number in range(30):
                thread = threading.Thread(target=run, args=(number,))
                thread.start()
                thread.join()
                with session._lock:
                    session._read(last=False)
        assert _testing_trace.rings(m.native()) <= 3
    trace = Parsed(path)
    assert all(len([one for one in trace.slices[f"t{number}"] if one[2] == "safepoint"]) == 3
               for number in range(30))


def test_a_heap_that_closes_ends_its_trace(tmp_path):
    path = tmp_path / "whole-%h.json"
    heap = gcheap.Heap("4MiB", trace=str(path))
    with heap.attach() as m:
        interleaved(m, node_shape(heap), 500)
        heap.collect()
    pauses = recorded(heap.pauses())
    heap.close()
    assert Parsed(tmp_path / f"whole-{core_of(heap).number}.json").pauses() == pauses


@pytest.mark.parametrize("how", [
    "exit", "dropped", pytest.param("forked", marks=pytest.mark.uninstrumented(
        "ThreadSanitizer ends a child that starts a thread", only="thread"))])
def test_the_end_of_the_process_ends_a_trace(tmp_path, how):
    path = tmp_path / "end.json"
    done = run_python("""
        import os, sys, gcheap
        heap = gcheap.Heap("4MiB")
        session = heap.trace(sys.argv[1])
        heap.collect()
        if sys.argv[2] == "forked":
            pid = os.fork()
            heap.collect()
            if pid == 0:
                session.stop()                  # not the child's: nothing happens
                assert not os.path.exists(sys.argv[1])
                with heap.trace(sys.argv[1] + ".child.json"):
                    heap.collect()
                sys.exit()
            assert os.waitpid(pid, 0)[1] == 0
        if sys.argv[2] == "dropped":
            del session, heap
            assert os.path.exists(sys.argv[1])
    """, arguments=(str(path), how))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert Parsed(path).pauses()
    if how == "forked":
        phases = [phase for *_, phase in Parsed(tmp_path / "end.json.child.json").pauses()]
        assert "fork" not in phases and phases


# ---- refused ---------------------------------------------------------------------------------

@pytest.mark.parametrize("path", ["x", "x.txt", "json", "", "2", "\x1b.json.gz"])
def test_a_name_that_is_no_traces(path):
    for refused in (lambda: gcheap.Heap("1MiB", trace=path).close(), lambda: heap.trace(path)):
        with gcheap.Heap("1MiB") as heap, pytest.raises(gcheap.OptionError) as caught:
            refused()
        assert ".pftrace" in str(caught.value) and str(caught.value).isprintable()


def test_a_file_that_cannot_be_written(tmp_path, capfd):
    with gcheap.Heap("1MiB") as heap:
        for path in (tmp_path / "no" / "x.json", str(tmp_path / "a\0.json")):
            with pytest.raises(gcheap.OptionError, match="cannot write"):
                heap.trace(path)
        place = tmp_path / "later"
        place.mkdir()
        session = heap.trace(place / "x.json")
        place.rmdir()
        with pytest.raises(OSError, match="later"):
            session.stop()
        session.stop()                                      # over, whatever came of it
        place.mkdir()
        heap.trace(place / "x.json")
        place.rmdir()
    assert "gcheap: cannot write the trace" in capfd.readouterr().err
    assert heap.closed and os.listdir(tmp_path) == []


def test_a_trace_that_fails_at_the_end_of_a_run_loses_nothing_else(tmp_path, capfd):
    # A device that is full takes no traces, which shows only when one is written.
    (tmp_path / "x.json").symlink_to("/dev/full")
    words = ["stress", "--seconds", "0.05", "--live", "1MiB", "--json", str(tmp_path / "run")]
    assert cli.main([*words, "--trace", str(tmp_path / "x.json")]) == 2
    assert json.loads((tmp_path / "run").read_text())["verified"]
    assert capfd.readouterr().err.count("gcheap: cannot write the trace") == 1
    assert cli.main([*words, "--trace", str(tmp_path / "y.json")]) == 0     # nothing is left of it


def test_without_the_package_json_still_works(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "gcheap.trace.perfetto", raising=False)
    monkeypatch.delattr("gcheap.trace.perfetto", raising=False)
    monkeypatch.setitem(sys.modules, "perfetto.trace_builder.proto_builder", None)
    with gcheap.Heap("1MiB") as heap:
        with pytest.raises(gcheap.OptionError, match=r"gcheap\[trace\].*\.json"):
            heap.trace(tmp_path / "x.pftrace")
        heap.trace(tmp_path / "x.json").stop()
    assert os.listdir(tmp_path) == ["x.json"]


def test_one_trace_is_of_one_heap(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gcheap", "stress", "churn", "trees", "--trace",
         str(tmp_path / "x.json")], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "%h" in done.stderr and os.listdir(tmp_path) == []


def test_nobody_outlives_what_it_lies_in():
    """Clocks of several threads: a slice that would end after its parent ends with it."""
    slices = [(0, 10, "a", {}), (2, 15, "b", {}), (10, 12, "c", {})]
    assert [(at, begun and begun[2]) for at, begun in edges(slices)] == [
        (0, "a"), (2, "b"), (10, None), (10, None), (10, "c"), (12, None)]


def test_forked_children_of_a_traced_heap_are_not_traced(tmp_path):
    if kernel_offers("copy"):
        pytest.skip("no userfaultfd")
    path = tmp_path / "x.json"
    with gcheap.Heap("4MiB") as heap, heap.attach("m") as m:
        nodes = interleaved(m, node_shape(heap), 500)
        with heap.trace(path):
            child = Child(lambda: (heap.collect(), check_interleaved(nodes), heap.close()))
            child.join()
            heap.collect()
    assert [phase for *_, phase in Parsed(path).pauses()][0] == "fork"


def test_a_thread_that_stays_inside_is_running_all_the_while(tmp_path):
    """However long it is between two events of its own; and from the beginning of the trace."""
    path = tmp_path / "x.json"
    with gcheap.Heap("4MiB") as heap, MutatorThread(heap, "inside") as other, \
            failpoints.pause("mutator.running", times=1) as running:
        stays = other.start(lambda m: _testing.stay_running(m.native()))
        running.wait()
        with heap.trace(path) as session:
            before = session._timeline.start_ns
            for _ in range(6):                              # ticks of which it sees nothing
                session._rings.wait(1)
            running.release()
            stays.result(PATIENCE)
    (start, end, name, _, depth), = Parsed(path).slices["inside"]
    assert (name, depth) == ("running", 0)
    assert start < end and start <= before


def test_a_thread_that_stays_away_is_not(tmp_path):
    path = tmp_path / "x.json"
    with gcheap.Heap("4MiB") as heap, heap.attach("m") as m, heap.trace(path):
        for _ in range(2):
            _testing_trace.write_slices(m.native(), 1)
            threading.Event().wait(0.05)                # no fact: the gap itself
    slices = Parsed(path).slices["m"]
    assert [one[2] for one in slices] == ["running", "safepoint"] * 2
