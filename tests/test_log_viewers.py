"""What existing viewers of GC logs rely on holds in a real log.

The expressions are our own, written after what the viewers' sources (2025) look for:

* GCViewer, DataReaderUnifiedJvmLogging (github.com/chewiebug/GCViewer)
* GCToolkit, UnifiedDiarizer, ZGCPatterns, ZGCParser (github.com/microsoft/gctoolkit)
"""
from __future__ import annotations

import re

import pytest
from support import interleaved, node_shape

pytestmark = pytest.mark.sigbus_only("lines are the same, whoever serves faults")

MIB = 1 << 20
DECORATED = re.compile(r"\[(?P<uptime>\d+[.]\d+)s\]\[(?P<level>\w+)\]\[(?P<tags>[^] ]+) *\] "
                       r"(?:GC\((?P<cycle>\d+)\) )?(?P<text>.*)")
CELL = r"(\d+)([BKMG])\s*\((\d+)%\)"
MS = r"(\d+[.]\d+)ms"
CONCURRENT = ("Mark", "Mark Continue", "Process Non-Strong References", "Reset Relocation Set",
              "Select Relocation Set", "Relocate")


@pytest.fixture
def lines(make_heap, tmp_path):
    """(the heap's capacity, the decorated lines) of cycles with live data, and of one after which
    nothing lives."""
    heap = make_heap("64MiB", log=f"gc*:file={tmp_path}/gc-%h.log", policy="fixed")
    with heap.attach() as m:
        node = node_shape(heap)
        kept = interleaved(m, node, 60_000)
        heap.collect()
        del kept
        for _ in range(100_000):
            m.new(node)
        heap.collect()
        heap.collect()
    capacity, backend = heap.capacity, heap.backend
    heap.close()
    path, = tmp_path.glob("gc-*.log")
    found = [DECORATED.fullmatch(line) for line in path.read_text().splitlines()]
    assert all(found)
    return capacity, backend, found


def of(lines, tags):
    return [(line["cycle"], line["text"]) for line in lines if line["tags"] == tags]


def test_what_gcviewer_reads(lines):
    """GCViewer opens a cycle at its line of `gc,start` and closes it at the line of `gc` that has
    the same words before its figures, `NM(N%)->NM(N%)`.  Between them it takes the size of the heap
    from the first cell of a row `Capacity:` of `gc,heap`; a blank lies between size and share, and
    `Max Capacity:` does not count.  Where it saw no such row it divides by the share after the
    cycle, as a whole number, and stops reading the file when that is 0.  Of `gc,heap` it leaves out
    rows by their names (`Used:`, `Live:`, ...) and the heading by `  Mark Start  `; what else is
    there it complains of.  Pauses are `Pause NAME N.NNNms` of `gc,phases` within the cycle.
    """
    capacity, backend, lines = lines
    started, opened, ended = dict(of(lines, "gc,start")), {}, []
    for line in lines:
        cycle, text = line["cycle"], line["text"]
        if line["tags"] == "gc,start":
            opened[cycle] = None
        elif line["tags"] == "gc,heap":
            row = re.match(r" *Capacity: +(\d+)M (\(\d+%\))", text)
            if row:
                opened[cycle] = int(row[1]) * MIB
            else:
                assert re.search(r"Max Capacity:|Free:|Used:|Live:|Reclaimed:|  Mark Start  ", text)
        elif line["tags"] == "gc" and cycle:
            summary = re.fullmatch(rf"(.*) {CELL}->{CELL}", text)
            assert summary[1] == started[cycle]
            assert int(summary[4]) > 0 and int(summary[7]) > 0      # what it divides by
            assert opened.pop(cycle) == capacity, "the row of capacities comes before the summary"
            ended.append(int(summary[5]))
    assert not opened and len(ended) >= 3
    assert ended[-1] == 0, "the trap: a heap in which nothing is left"
    pauses = {text.rsplit(" ", 1)[0] for _, text in of(lines, "gc,phases")
              if re.fullmatch(rf"Pause [A-Za-z ]+ {MS}", text)}
    assert pauses >= ({"Pause Full"} if backend == "stw" else
                      {"Pause Mark Start", "Pause Mark End", "Pause Relocate Start"})


def test_what_gctoolkit_reads(lines):
    """GCToolkit takes a log for ZGC's at the first `GC(N) Garbage Collection (CAUSE)` that ends its
    line.  Then it matches each line by itself: phases by name, MMU of six windows with a decimal
    each, and of `gc,heap` the rows `Capacity`, `Free` and `Used`, in this order (it makes its pools
    at `Used`, of what it saw before), each with four cells; `Live` with a dash and three, and
    `Reclaimed` with two dashes and two.  The summary closes the cycle.
    """
    _, backend, lines = lines
    cycles = {}
    for line in lines:
        if line["cycle"]:
            cycles.setdefault(line["cycle"], []).append((line["tags"], line["text"]))
    assert len(cycles) >= 3
    for rows in cycles.values():
        assert rows[0][0] == "gc,start"
        assert re.fullmatch(r"Garbage Collection \([A-Za-z .()]+\)", rows[0][1])
        assert re.fullmatch(rf"Garbage Collection \([A-Za-z .()]+\) {CELL}->{CELL}", rows[-1][1])
        table = [text for tags, text in rows if tags == "gc,heap"]
        names = ["Capacity", "Free", "Used", "Live", "Reclaimed"]
        assert [name for text in table for name in names
                if re.match(rf" *{name}:", text)] == names
        joined = "\n".join(table)
        four = r"\s+" + r"\s+".join([CELL] * 4)
        assert all(re.search(rf"^ *{name}:{four}$", joined, re.M)
                   for name in ("Capacity", "Free", "Used"))
        assert re.search(rf"^ *Live:\s+-\s+{CELL}\s+{CELL}\s+{CELL}$", joined, re.M)
        assert re.search(rf"^ *Reclaimed:\s*-\s*-\s*{CELL}\s*{CELL}$", joined, re.M)
        assert re.search(r"^ +Mark Start\s+Mark End\s+Relocate Start", joined, re.M)
        mmu, = [text for tags, text in rows if tags == "gc,mmu"]
        assert re.fullmatch("MMU: " + ", ".join(
            rf"{ms}ms/\d+[.]\d+%" for ms in (2, 5, 10, 20, 50, 100)), mmu)
        if backend != "stw":
            names = {text.rsplit(" ", 1)[0] for tags, text in rows if tags == "gc,phases"}
            assert {f"Concurrent {name}" for name in CONCURRENT if name != "Mark Continue"} <= names


def test_free_and_used_are_the_capacity(lines):
    capacity, _, lines = lines
    table = {}
    for _, text in of(lines, "gc,heap"):
        name, _, rest = text.strip().partition(": ")
        table.setdefault(name, []).append([int(cell[0]) for cell in re.findall(CELL, rest)])
    for free, used in zip(table["Free"], table["Used"], strict=True):
        assert all(capacity // MIB - (f + u) in (0, 1) for f, u in zip(free, used, strict=True))
