"""Traces: both formats, every way in which one can be wrong, the converter, and replaying one."""
from __future__ import annotations

import io
import random
import re

import numpy as np
import pytest
from workload_support import Driven, configured, exercise

from gcheap import cli
from gcheap.errors import OptionError
from gcheap.workloads import ltrace, traces

TEXT = """gcheap-trace 1
# a pair, and a buffer
a 1 24 2
a 2 100
l 1 0 2
l 1 1 1
d 2
a 2 7

l 1 1 0
d 1
"""
ROWS = [(0, 1, 24, 2), (0, 2, 100, 0), (1, 1, 0, 2), (1, 1, 1, 1), (2, 2, 0, 0), (0, 2, 7, 0),
        (1, 1, 1, 0), (2, 1, 0, 0)]


@pytest.fixture
def put(tmp_path):
    def write(content):
        path = tmp_path / "trace"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)
    return write


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


COLUMNS = {name: np.array([row[at] for row in ROWS], "u8")
           for at, name in enumerate(("op", "id", "a", "b"))}


def test_both_formats_say_the_same(put):
    text, arrays = traces.read(put(TEXT)), traces.read(put(npz(version=np.array(1), **COLUMNS)))
    for name in ("events", "objects"):
        assert getattr(text, name).tolist() == getattr(arrays, name).tolist()
    assert text.objects["bytes"].tolist() == [24, 100, 7]
    assert text.objects["place"].tolist() == [0, 1, 1]          # a place is used again
    assert text.places == 2 and text.slots == 2
    assert text.peak_bytes == 24 + 100 + 2 * traces.OVERHEAD
    # What was alive at the end dies: object 2, the second of id 2.
    assert text.events[-1].tolist() == (traces.DIE, 2, 0, 0)
    assert text.events[2].tolist() == (traces.LINK, 0, 0, 2)    # to object 1, plus 1


@pytest.mark.parametrize("write", [traces.write_text, traces.write_npz])
def test_what_is_written_is_read_back(put, write):
    rows = traces.drawn_rows(3, 1 << 20)
    stream = io.BytesIO()
    write(rows, stream)
    assert traces.read(put(stream.getvalue())).events.tolist() == traces.compiled(
        rows).events.tolist()


@pytest.mark.parametrize(("content", "told"), [
    ("", "first line is '', expected 'gcheap-trace 1'"),
    ("gcheap-trace 2\n", "first line is 'gcheap-trace 2'"),
    ("gcheap-trace 1\n", "no event in it"),
    ("gcheap-trace 1\na 1\n", "line 2: 'a 1': expected a ID BYTES"),
    ("gcheap-trace 1\na 1 -5\n", "line 2: 'a 1 -5': expected"),
    ("gcheap-trace 1\nx 1 5\n", "line 2: 'x 1 5': expected"),
    ("gcheap-trace 1\na 1 5\n\nl 1 0 0\n", "line 4: l 1 0: the object has 0 slots"),
    ("gcheap-trace 1\na 0 5\n", "line 2: a 0: an id is a number above 0"),
    ("gcheap-trace 1\na 1 5\na 1 5\n", "line 3: a 1: an object of that id is alive"),
    ("gcheap-trace 1\nd 1\n", "line 2: d 1: no object of that id is alive"),
    ("gcheap-trace 1\na 1 8 1\nl 1 0 9\n", "line 3: l 1 0 9: no object of id 9 is alive"),
    ("gcheap-trace 1\na 1 8 2\n", "line 2: a 1: 8 bytes with 2 slots"),
    ("gcheap-trace 1\na 1 99999999999999\n", "99999999999999 bytes"),
    (b"\x7fELF\0\0\0", "no trace: its first line"),
    (b"PK\3\4 broken", "no trace"),
    (npz(version=np.array(1), op=np.zeros(1, "u1")), "no trace: .*id"),
    (npz(version=np.array(2), **COLUMNS), "a trace of version 2"),
    (npz(version=np.array(1), **COLUMNS | {"a": np.zeros(3)}), "arrays of integers"),
    (npz(version=np.array(1), **COLUMNS | {"a": np.zeros(3, "u8")}), "all of one length"),
    (npz(version=np.array(1), **COLUMNS | {"a": -np.ones(8, "i8")}), "negative"),
    (npz(version=np.array(1), **COLUMNS | {"op": np.full(8, 7)}), "op is 7"),
    (npz(version=np.array(1), **COLUMNS | {"id": np.zeros(8, "u8")}), "event 0: a 0"),
    (npz(version=np.array(1), **{name: np.array([{}], object) for name in COLUMNS}), "no trace"),
])
def test_what_is_no_trace_is_refused_with_its_place(put, content, told):
    path = put(content)
    with pytest.raises(OptionError, match=told) as refused:
        traces.read(path)
    assert path in str(refused.value)


def test_less_live_bytes_than_the_peak_are_refused(put):
    path = put("gcheap-trace 1\na 1 1000000\n")
    with pytest.raises(OptionError, match="976.6 KiB alive at its peak for each of 2 mutators; .* "
                                          "--live 2000048"):
        configured("replay", live="1MiB", settings={"file": path})


# ---- replaying -------------------------------------------------------------------------------

def test_a_file_is_replayed_again_and_again(put, combination):
    outcome = exercise(configured("replay", settings={"file": put(TEXT)}, verify=3), **combination)
    assert outcome.error is None and outcome.failures == [] and outcome.audited
    assert outcome.facts["trace_objects"] == 3 and outcome.facts["trace_events"] == 9
    assert outcome.facts["rounds"] > 2


def test_objects_of_every_size_keep_their_contents(put):
    sizes = [0, 1, 7, 8, 9, 24, 100, 4096, 32767, 70000, 300_000]
    rows = [(0, at + 1, nbytes, slots) for at, (nbytes, slots) in enumerate(
        [(n, 0) for n in sizes] + [(n, min(n // 8, 5)) for n in sizes if n >= 8])]
    rows += [(1, len(sizes) + 1, 0, at + 1) for at in range(len(rows))]
    stream = io.BytesIO()
    traces.write_text(rows, stream)
    with Driven("replay", live="2MiB", settings={"file": put(stream.getvalue())}) as driven:
        for _ in range(5):
            driven.run(len(rows) // 2)
            driven.heap.collect()
            assert driven.audit() == 0, driven.failure


def test_the_dead_live_on_while_others_refer_to_them(put):
    path = put("gcheap-trace 1\na 1 8 1\na 2 64\nl 1 0 2\nd 2\n" + "a 3 8\nd 3\n" * 10_000)
    with Driven("replay", settings={"file": path}) as driven:
        driven.run(1000)
        driven.heap.collect()
        assert driven.audit() == 0, driven.failure


def test_a_drawn_trace_follows_its_seed():
    assert traces.drawn_rows(1, 1 << 20) == traces.drawn_rows(1, 1 << 20)
    assert traces.drawn_rows(1, 1 << 20) != traces.drawn_rows(2, 1 << 20)
    for share in (64 << 10, 1 << 20, 32 << 20):
        assert traces.drawn(5, share).peak_bytes < share
    assert {row[0] for row in traces.drawn_rows(1, 1 << 20)} == {0, 1, 2}


# ---- the converter ---------------------------------------------------------------------------

LTRACE = """malloc(24)                                       = 0x55d0c0f2a2a0
4711 libz.so.1->calloc(3, 100)                   = 0x55d0c0f2a2c0
[pid 12] realloc(0x55d0c0f2a2a0, 48)             = 0x55d0c0f2b000
free(nil)                                        = <void>
free(0x55d0c0f2a2c0)                             = <void>
free(0x1234)                                     = <void>
malloc(1 <unfinished ...>
strlen("malloc(3) = 0x5")                        = 15
malloc(9)                                        = 0
realloc(nil, 5)                                  = 0x55d0c0f2a2c0
realloc(0x55d0c0f2b000, 0)                       = nil
malloc(0x10)                                     = 0x55d0c0f2a2c0
+++ exited (status 0) +++
"""


def test_ltrace_is_converted():
    converted = ltrace.convert(io.StringIO(LTRACE))
    assert converted.rows == [
        (0, 1, 24, 0), (0, 2, 300, 0), (2, 1, 0, 0), (0, 3, 48, 0), (2, 2, 0, 0), (0, 4, 5, 0),
        (2, 3, 0, 0), (2, 4, 0, 0), (0, 5, 16, 0)]
    assert converted.unknown == 1 and converted.skipped == 3
    assert len(traces.compiled(converted.rows).objects) == 5


@pytest.mark.parametrize("name", ["trace.txt", "trace.npz"])
def test_the_command_converts_and_stress_replays(put, tmp_path, name, capsys):
    target = str(tmp_path / name)
    assert cli.main(["replay-convert", put(LTRACE), target]) == 0
    assert "5 objects" in capsys.readouterr().out
    assert traces.read(target).objects["bytes"].tolist() == [24, 300, 48, 5, 16]
    assert cli.main(["stress", "replay", target, "--live", "1MiB", "--seconds", "0.1"]) == 0
    assert re.search("replay: .*seed 1", capsys.readouterr().out)


def test_what_is_no_ltrace_leaves_no_file(put, tmp_path, capsys):
    target = tmp_path / "out"
    assert cli.main(["replay-convert", put("nothing\n"), str(target)]) == 2
    assert "no call of malloc" in capsys.readouterr().err
    assert cli.main(["replay-convert", "/nonexistent", str(target)]) == 2
    assert "No such file" in capsys.readouterr().err
    assert cli.main(["replay-convert", put(LTRACE), "/nonexistent/out"]) == 2
    assert not target.exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_a_trace_or_one_line(put, save):
    stream = io.BytesIO()
    rows = [*ROWS, (traces.DIE, 2, 0, 0)] * 20
    table = np.array(rows, "u8").T
    save(stream, version=np.array(1), **dict(zip(COLUMNS, table, strict=True)))
    good = stream.getvalue()
    names = [good.index(f"{name}.npy".encode()) for name in ("version", *COLUMNS)]
    ends = set()
    for seed in range(400):
        rng = random.Random(seed)
        bad = bytearray(good)
        for _ in range(rng.choice([1, 2, 16])):
            # Half of them near what zipfile and numpy read before the data.
            at = rng.choice(names) + rng.randrange(-30, 150) if rng.random() < 0.5 else (
                rng.randrange(2, len(bad)))
            bad[min(max(at, 2), len(bad) - 1)] = rng.randrange(256)
        path = put(bytes(bad[:rng.randrange(2, len(bad))] if rng.random() < 0.1 else bad))
        traces._read.cache_clear()
        try:
            assert traces.read(path).places
            ends.add("read")
        except OptionError as error:
            assert str(error).startswith(path) and "\n" not in str(error)
            ends.add(str(error).partition(": no trace: ")[2][:20])
    assert "read" in ends and len(ends) > 10


def test_a_damaged_npz_ends_stress_with_one_line(put, capsys):
    good = bytearray(npz(version=np.array(1), **COLUMNS))
    good[8] = 99                                # no method of compression
    at = good.rindex(b"PK\x01\x02", 0, good.rindex(b"op.npy"))
    good[at + 10] = 99
    assert cli.main(["stress", "replay", put(bytes(good)), "--live", "1MiB"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no trace: " in said
