"""Reading the documents of stress runs back: everything that is shown later is checked here.

A file is somebody else's until it has been looked at: it may be no JSON, another tool's, another
version's, or cut short.  Whatever is wrong is one RunFileError that names the file, what was found,
and what was expected.
"""
from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from gcheap.errors import GcheapError
from gcheap.text import printable, shown
from gcheap.workloads.document import FORMAT

MOST_BYTES = 1 << 28            # of a file: a document is some 100 KiB a run
WANTED = "the file that `gcheap stress --json FILE` writes"
SPACES = ("small", "runs", "huge")


class RunFileError(GcheapError):
    """A file holds no run that can be shown."""


@dataclass(frozen=True)
class Run:
    """A checked document and what it is called."""

    name: str                   # of its file
    document: dict

    @property
    def details(self) -> dict:
        return self.document["details"]


def read_runs(paths: Iterable[str]) -> list[Run]:
    """The runs of all files, in order; RunFileError for the first file that cannot be shown."""
    runs = []
    for path in paths:
        documents = _documents(path, _parsed(path))
        for number, document in enumerate(documents, 1):
            name = path if len(documents) == 1 else f"{path}, run {number}"
            check_document(document, name)
            runs.append(Run(name, document))
    return runs


def check_document(document, name: str) -> None:
    """RunFileError unless `document` is one of this version, with something in it."""
    found = document.get("format") if isinstance(document, dict) else None
    if not isinstance(found, dict) or found.get("name") != FORMAT["name"]:
        raise _error(name, f"this is no run: expected {WANTED}")
    if found.get("version") != FORMAT["version"] or isinstance(found.get("version"), bool):
        raise _error(name, f"version {shown(found.get('version'))} of the format: this gcheap "
                           f"reads version {FORMAT['version']}; run it again, or take the gcheap "
                           "that wrote it")
    _check(document, _DOCUMENT, name, "")
    for what in _HISTOGRAMS:
        if document["details"]["histograms"].get(what):
            _check_histogram(document["details"]["histograms"][what], name,
                             f"details.histograms.{what}")
    if not document["seconds"] or not document["ops"]:
        raise _error(name, "an empty run: it ended before anything was measured; run it again")


def _parsed(path):
    try:
        with open(path, "rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise _error(path, f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:             # a NUL in the name
        raise _error(path, f"cannot be read: {error}") from error
    if len(content) > MOST_BYTES:
        raise _error(path, f"more than {MOST_BYTES >> 20} MiB: expected {WANTED}")
    if not content.strip():
        raise _error(path, f"an empty file: expected {WANTED}")
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _error(path, f"no JSON ({error}): expected {WANTED}") from None


def _no_constant(name):
    raise ValueError(f"{name} is no number of JSON")


def _documents(path, parsed):
    """The documents of a file: one, or those of a stress run of several workloads."""
    if isinstance(parsed, dict) and "benchmark" in parsed and "format" not in parsed:
        suite = printable(str(parsed["benchmark"]), 40)
        raise _error(path, f"figures of `gcheap bench {suite}`, without its runs: `gcheap compare` "
                           "reads them. To compare backends here, give a run of each, written by "
                           "`gcheap stress --backend move --json move.json` and the like")
    if isinstance(parsed, dict) and "format" not in parsed and isinstance(parsed.get("runs"), list):
        if not parsed["runs"]:
            raise _error(path, "no run in it: expected at least one")
        return parsed["runs"]
    return [parsed]


def _error(name, problem):
    return RunFileError(f"{printable(str(name))}: {problem}")


# ---- what a document must hold ---------------------------------------------------------------
# A check is a function of a value that returns what was expected instead, or None.


def _number(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return "a number"
    # Wide enough for any figure, and drawn without overflow.
    return None if abs(value) < 2**63 else "a number below 2**63"


def _amount(value):
    return _number(value) or (None if value >= 0 else "a number from 0")


def _count(value):
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        return "a whole number from 0"
    return None


def _maybe(check):
    def checked(value):
        wrong = None if value is None else check(value)
        return wrong and f"null or {wrong}"
    return checked


def _text(value):
    return None if isinstance(value, str) else "a text"


def _flag(value):
    return None if isinstance(value, bool) else "true or false"


def _any(_value):
    return None


def _each(check):
    def checked(value):
        if not isinstance(value, list):
            return "a list"
        wrong = next((wrong for item in value if (wrong := check(item))), None)
        return wrong and f"a list in which each is {wrong}"
    return checked


def _columns(checks):
    """A table: lists of one length, some by name."""
    def checked(value):
        if not isinstance(value, dict):
            return "columns"
        for name, check in checks.items():
            wrong = _each(check)(value.get(name))
            if wrong:
                return f"columns of which {name} is {wrong}"
        if len({len(value[name]) for name in checks}) > 1:
            return "columns of one length"
        return None
    return checked


def _one_of(shape):
    """A dict of anything whose values have a shape."""
    return ("values", shape)


def _optional(shape):
    return ("optional", shape)


_PERCENTILES = dict.fromkeys(("p50", "p99", "max"), _maybe(_amount))
_SHORT_US = dict.fromkeys(("p50_us", "p99_us", "max_us"), _maybe(_amount))
_MMU = dict.fromkeys(("1ms", "5ms", "10ms", "50ms"), _maybe(_amount))
_HISTOGRAMS = ("operation", "fault", "stall", "time_to_safepoint", "pause", "noise_floor")
_HISTOGRAM = {"count": _count, "max_ns": _count,
              "columns": _columns({"value_ns": _count, "count": _count})}
_SPACE = {
    "units": _count, "units_per_cell": _count,
    "before": {"live_percent": _each(_number)},
    "during": _optional({"from": _text, "to": _text}),
    "after": {"to": _text},
}
_DETAILS = {
    "begin_ns": _count, "end_ns": _count,
    "cycles": {"seen": _count, "columns": _columns(
        {"cycle": _count, "start_ns": _number} | dict.fromkeys(
            ("cycle_ns", "mark_ns", "weak_ns", "plan_ns", "relocate_ns", "used_before",
             "used_after", "live_bytes", "relocated"), _count) | {"cause": _text})},
    "pauses": {"seen": _count, "columns": _columns(
        {"cycle": _count, "phase": _text, "start_ns": _number, "reach_ns": _count,
         "work_ns": _count})},
    "histograms": dict.fromkeys(_HISTOGRAMS, _HISTOGRAM) | {"noise_floor": _optional(_HISTOGRAM)},
    "mmu": {"columns": _columns({"window_ns": _count, "worst_mutator": _maybe(_amount),
                                 "noise_floor": _maybe(_amount)})},
    "series": {"columns": _columns(
        {"at_ns": _number} | dict.fromkeys(
            ("used_bytes", "live_bytes", "limit_bytes", "heap_resident_bytes", "recycled_bytes",
             "rss_bytes"), _count))},
    "page_map": _optional({"cycle": _count, "unit_bytes": _count, "spaces": _one_of(_SPACE)}),
}
_DOCUMENT = {
    "version": _text,
    "machine": {"cpus": _count, "kernel": _text, "page_size": _count, "architecture": _text,
                "memory_bytes": _count, "cpu_model": _optional(_text)},
    "provenance": _optional({"date": _optional(_text),
                             "load_average": _optional(_each(_amount))}),
    "cost": _optional({"cpu_ms": _amount, "collector_cpu_ms": _amount}),
    "config": {"live": _count, "capacity": _count, "mutators": _count, "seed": _count},
    "workload": _text, "seconds": _amount, "ops": _count, "ops_per_s": _amount,
    "alloc_bytes_per_s": _maybe(_amount), "cycles": _count,
    "cycle_ms": _PERCENTILES, "relocate_ms": _PERCENTILES,
    "pauses": _SHORT_US | {"count": _count},
    "time_to_safepoint_us": _PERCENTILES,
    "op_latency_us": _PERCENTILES | {"p99_9": _maybe(_amount), "p99_99": _maybe(_amount)},
    "mmu": _MMU,
    "faults": _SHORT_US | {"count": _count, "pages": _count, "waits": _count},
    "stalls": {"count": _count, "total_ms": _amount, "max_ms": _maybe(_amount)},
    "bytes": dict.fromkeys(("moved", "copied", "zeroed", "recycled"), _count),
    "peak_rss_bytes": _count, "peak_heap_resident_bytes": _count, "live_bytes": _maybe(_count),
    "backend": _text, "fault_mode": _text, "why": _text,
    "verified": _flag, "interrupted": _flag, "failures": _count, "failure": _maybe(_text),
    "noise_floor_us": _optional(_PERCENTILES | {"p99_9": _maybe(_amount),
                                                "p99_99": _maybe(_amount), "mmu": _MMU}),
    "details": _DETAILS,
}


def _check_histogram(histogram, name, where):
    """That it is one: values that go up, as many samples as it says."""
    values, counts = (histogram["columns"][column] for column in ("value_ns", "count"))
    if any(later <= earlier for earlier, later in itertools.pairwise(values)):
        raise _error(name, f"`{where}`: its values do not go up")
    if sum(counts) != histogram["count"]:
        raise _error(name, f"`{where}` has {sum(counts)} samples: expected its count, "
                           f"{histogram['count']}")


def _check(value, shape, name, where):
    if isinstance(shape, tuple):
        kind, shape = shape
        if kind == "optional" and value is None:
            return
        if kind == "values":
            if not isinstance(value, dict):
                raise _error(name, f"`{where}` is {shown(value)}: expected an object")
            for key in SPACES:
                if key in value:
                    _check(value[key], shape, name, f"{where}.{key}")
            return
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise _error(name, f"`{where or 'the document'}` is {shown(value)}: expected an object")
        for key, inner in shape.items():
            at = f"{where}.{key}" if where else key
            if key not in value and not isinstance(inner, tuple):
                raise _error(name, f"`{at}` is missing: a file that is cut short, or was edited")
            _check(value.get(key), inner, name, at)
        return
    wrong = shape(value)
    if wrong:
        raise _error(name, f"`{where}` is {shown(value)}: expected {wrong}")
