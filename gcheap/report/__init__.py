"""The report: one self-contained HTML page of one or several stress runs.

    write_report([Run(name, document), ...], "report.html")

    reading     files and documents -> runs, or one clear error
    figures     what is drawn: each a function of runs, by matplotlib
    timeline    cycles with their phases, and memory, of one run
    svg         a matplotlib figure as a piece of the page: colours of the theme, no ids twice
    mapping     the page map as SVG
    tables      figures as rows of text
    page        all of it through the template
"""
from gcheap.report.page import render, write_report
from gcheap.report.reading import Run, RunFileError, check_document, read_runs

__all__ = ["Run", "RunFileError", "check_document", "read_runs", "render", "write_report"]
