"""Documents of `gcheap bench` and `gcheap stress`, read back for comparison.

All come to the same: a suite's name and, for each figure, its unit, its good side, and one value a
repetition.  A suite's document says so itself (gcheap.tools.suite); of `gcheap stress` every run is
one repetition of its workload, so `gcheap stress churn churn churn --json FILE` has three.
"""
import json
import math
from dataclasses import dataclass

from gcheap.errors import GcheapError
from gcheap.report.reading import check_document
from gcheap.text import shown

# Where a figure stands in a run's document -> unit and good side.
OF_A_RUN = {
    ("ops_per_s",): ("/s", "more"),
    ("op_latency_us", "p50"): ("µs", "less"),
    ("op_latency_us", "p99"): ("µs", "less"),
    ("op_latency_us", "max"): ("µs", "less"),
    ("pauses", "p50_us"): ("µs", "less"),
    ("pauses", "max_us"): ("µs", "less"),
    ("time_to_safepoint_us", "p99"): ("µs", "less"),
    ("relocate_ms", "p50"): ("ms", "less"),
    ("faults", "p99_us"): ("µs", "less"),
    ("stalls", "total_ms"): ("ms", "less"),
    ("mmu", "10ms"): ("", "more"),
    ("peak_heap_resident_bytes",): ("B", "less"),
    ("noise_floor_us", "max"): ("µs", None),
}
UNITS = ("us", "ms", "bytes")    # in the names of a document; values are shown with theirs
STRESS = "stress"


class ForeignDocument(GcheapError, ValueError):
    """A file that is no document of gcheap's, or none that can be compared; says why."""


@dataclass(frozen=True)
class Figure:
    """One figure's repetitions."""

    unit: str
    better: str | None          # "less", "more", or None: neither
    values: tuple


@dataclass(frozen=True)
class Results:
    """What is compared of one file."""

    path: str
    suite: str
    version: str
    machine: dict
    provenance: dict
    config: dict
    figures: dict               # name: Figure


def load(path):
    """The Results in a file; OSError when it cannot be read, ForeignDocument, or RunFileError for a
    run that `gcheap stats` and `gcheap report` would refuse."""
    with open(path, "rb") as stream:
        content = stream.read()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ForeignDocument(f"{path}: not JSON ({error}); expected what --json of gcheap bench "
                              f"or gcheap stress has written") from None
    try:
        return _results(path, document)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, ForeignDocument) else "expected what --json of " \
            "gcheap bench or gcheap stress has written"
        raise ForeignDocument(f"{path}: no document to compare: {why}") from None


def _results(path, document):
    runs = document["runs"] if set(document) == {"runs"} else [document]
    if "workload" in runs[0] or "format" in runs[0]:
        for number, run in enumerate(runs, 1):
            check_document(run, path if len(runs) == 1 else f"{path}, run {number}")
        suite, first, config, figures = STRESS, runs[0], _config_of(runs), figures_of_runs(runs)
    else:
        suite, first, config = document["benchmark"], document, document["config"]
        if "metrics" not in document:
            raise ForeignDocument(f"gcheap {shown(document['version'])} wrote it, which kept no "
                                  f"repetitions; run the suite again")
        figures = {name: figure(row["unit"], row["better"], row["values"])
                   for name, row in document["metrics"].items()}
    if not isinstance(suite, str) or not isinstance(first["machine"], dict):
        raise ForeignDocument("it does not say which suite or which machine it is of")
    if not any(one.values for one in figures.values()):
        raise ForeignDocument("nothing was measured in it: it was interrupted too early")
    return Results(str(path), suite, str(first["version"]), first["machine"],
                   dict(first.get("provenance") or {}), dict(config), figures)


def figures_of_runs(runs):
    """"WORKLOAD: FIGURE" for every workload, one value a run."""
    found = {}
    for run in runs:
        for keys, (unit, better) in OF_A_RUN.items():
            value = run
            for key in keys:
                value = None if value is None else value.get(key)
            words = " ".join(keys).replace("_", " ").split()
            name = f"{run['workload']}: {' '.join(word for word in words if word not in UNITS)}"
            found.setdefault(name, (unit, better, []))[2].append(value)
    return {name: figure(unit, better, [value for value in values if value is not None])
            for name, (unit, better, values) in found.items()}


def _config_of(runs):
    """The configuration that all runs share; ForeignDocument when runs of one workload differ."""
    of_workload = {}
    for run in runs:
        config = {key: value for key, value in run["config"].items() if key != "workload"}
        if of_workload.setdefault(run["workload"], config) != config:
            raise ForeignDocument(f"its runs of {run['workload']} are not repetitions: their "
                                  f"configurations differ")
    return {key: value for key, value in runs[0]["config"].items() if key != "workload"}


def figure(unit, better, values):
    if not isinstance(unit, str) or better not in ("less", "more", None):
        raise ForeignDocument(f"a figure of unit {shown(unit)} whose better side is "
                              f"{shown(better)}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) \
                or not math.isfinite(value):
            raise ForeignDocument(f"a figure has the value {shown(value)}: expected a number")
    return Figure(unit, better, tuple(values))
