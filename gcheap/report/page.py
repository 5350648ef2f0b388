"""The page: checked runs through the template, written whole or not at all."""
from __future__ import annotations

from functools import cache
from importlib.resources import files

from markupsafe import Markup

from gcheap.report import figures, mapping, tables, timeline
from gcheap.report.reading import Run, RunFileError
from gcheap.report.svg import MOST_RUNS, drawn
from gcheap.text import printable
from gcheap.units import size

TEMPLATE, STYLE = "page.html.j2", "style.css"


def write_report(runs: list[Run], target: str) -> None:
    """Writes the report of one to MOST_RUNS runs to the file `target`, or to standard output ("-").

    RunFileError for more, GcheapError without matplotlib, OutputError when the file cannot be
    written.
    """
    from gcheap.tools.output import emit
    emit(render(runs), target)


def render(runs: list[Run]) -> str:
    """The report as text.  A pure function of the documents."""
    if not 1 <= len(runs) <= MOST_RUNS:
        raise RunFileError(f"{len(runs)} runs: a report shows 1 to {MOST_RUNS} at a time")
    return _template().render(
        style=Markup(_text(STYLE)), single=len(runs) == 1, runs=_runs(runs),
        machines=list(dict.fromkeys(map(tables.machine, runs))),
        summary=tables.summary(runs), tiles=tables.tiles(runs[0]),
        percentile_names=list(tables.QUANTILES), percentiles=tables.percentile_rows(runs),
        options=tables.options(runs), plots=_plots(runs))


def _runs(runs):
    """What the template needs of each run."""
    found = []
    for number, (run, label) in enumerate(zip(runs, tables.labels(runs), strict=True), 1):
        details = run.details
        page_map = details["page_map"]
        good, sentence = tables.verdict(run.document)
        found.append({
            "number": number, "label": label, "file": printable(run.name),
            "heading": tables.heading(run), "why": printable(run.document["why"]),
            "when": tables.circumstances(run),
            "good": good, "verdict": sentence, "interrupted": run.document["interrupted"],
            "left_out": _left_out(details),
            "timeline": Markup(drawn(
                f"timeline-{number}", f"Memory, cycles and pauses of {label} over time",
                timeline.timeline, run)),
            "page_map": None if not page_map else {
                "cycle": page_map["cycle"],
                "unit": size(page_map["unit_bytes"]),
                "spaces": [(name, page_map["spaces"][name]["units_per_cell"],
                            mapping.pictures(page_map["spaces"][name]))
                           for name in ("small", "runs", "huge") if name in page_map["spaces"]],
            },
        })
    return found


def _left_out(details):
    """Sentences about what a document of a long run has no longer."""
    sentences = []
    for name in ("cycles", "pauses"):
        seen, kept = details[name]["seen"], len(details[name]["columns"]["cycle"])
        if kept < seen:
            sentences.append(f"The document holds the last {kept:,} of {seen:,} {name}.")
    return sentences


def _plots(runs):
    plots = {
        "percentiles": drawn("percentiles", "Percentiles of " + ", ".join(
            figures.WAITS[kind].lower() for kind in figures.shown_waits(runs)),
            figures.percentiles, runs),
        "utilization": drawn("utilization", "Minimum mutator utilization over the length of the "
                             "window", figures.utilization, runs),
    }
    if len(runs) > 1:
        plots["comparison"] = drawn("comparison", "Key figures of the runs side by side",
                                    figures.comparison, runs)
    return {name: Markup(text) for name, text in plots.items()}


@cache
def _template():
    from jinja2 import Environment, StrictUndefined  # of no use to other commands
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)
    return environment.from_string(_text(TEMPLATE))


def _text(name):
    return files("gcheap.report").joinpath(name).read_text(encoding="utf-8")
