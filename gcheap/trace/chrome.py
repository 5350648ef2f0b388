"""A timeline as Chrome's trace events: JSON that ui.perfetto.dev and chrome://tracing open.

Source: "Trace Event Format" of the Chromium project: complete events (X), counters (C), metadata
(M) and instants (i).  Times are in microseconds, with three digits: nothing is rounded.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

from gcheap.text import printable
from gcheap.trace.timeline import COUNTERS, Timeline

MADE_UP = 1 << 30               # ids of tracks that are no thread, or one whose id is not known


def write(timeline: Timeline, stream: IO[bytes]) -> None:
    """Writes the file's content."""
    stream.write(b'{"displayTimeUnit": "ns",\n"otherData": ')
    stream.write(_dump(_about(timeline)))
    stream.write(b',\n"traceEvents": [\n')
    separator = b""
    for event in _events(timeline):
        stream.write(separator + _dump(event))
        separator = b",\n"
    stream.write(b"\n]}\n")


def _about(timeline: Timeline) -> dict[str, Any]:
    lost = {printable(track.name): track.lost for track in timeline.tracks if track.lost}
    return {"gcheap": timeline.facts, "start_ns": timeline.start_ns, "end_ns": timeline.end_ns,
            "lost_events": lost, "lost_records": timeline.lost_records,
            "clock": "CLOCK_MONOTONIC_RAW"}


def _events(timeline: Timeline) -> Iterator[dict[str, Any]]:
    pid = timeline.facts["pid"]
    yield _metadata("process_name", pid, None, f"gcheap heap {timeline.facts['heap']}")
    for number, track in enumerate(timeline.tracks):
        tid = track.thread or MADE_UP + number
        yield _metadata("thread_name", pid, tid, printable(track.name))
        yield {"name": "thread_sort_index", "ph": "M", "pid": pid, "tid": tid,
               "args": {"sort_index": number}}
        for start, end, name, arguments in timeline.slices(track):
            yield {"name": name, "cat": track.role, "ph": "X", "ts": start / 1e3,
                   "dur": (end - start) / 1e3, "pid": pid, "tid": tid, "args": arguments}
        if track.lost:
            yield {"name": f"{track.lost} events lost", "cat": track.role, "ph": "i", "s": "t",
                   "ts": timeline.end_ns / 1e3, "pid": pid, "tid": tid,
                   "args": {"lost": track.lost}}
    for at, *values in timeline.samples:
        for name, value in zip(COUNTERS, values, strict=True):
            yield {"name": name, "ph": "C", "ts": at / 1e3, "pid": pid, "args": {"bytes": value}}


def _metadata(what: str, pid: int, tid: int | None, name: str) -> dict[str, Any]:
    row = {"name": what, "ph": "M", "pid": pid, "args": {"name": name}}
    return row if tid is None else row | {"tid": tid}


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f").encode()
