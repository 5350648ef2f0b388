"""`gcheap doctor`: what this machine gives, and which backend and fault mode `auto` takes.

Settings are read, capabilities are tried, and a small heap is made and moved, each in a process
of its own and within a time limit: the doctor neither crashes nor hangs where the kernel does.
Exit status: 0 when `move` is taken, 1 when a fallback is, 2 when no heap can be made at all.
"""
import os
from pathlib import Path

from rich.text import Text

import gcheap
from gcheap.options import format_size
from gcheap.tools import capabilities
from gcheap.tools import settings as kernel_settings
from gcheap.tools.arguments import add_json
from gcheap.tools.consoles import result_console
from gcheap.tools.output import check_target, emit_json
from gcheap.tools.tables import new_table
from gcheap.units import number

STATUS_MOVE = 0
STATUS_FALLBACK = 1
STATUS_NOTHING = 2


def add(commands):
    parser = commands.add_parser(
        "doctor", help="what this kernel gives, and which backend and fault mode it means",
        description="What this machine gives, and which backend and fault mode `auto` takes. "
                    "Exit status: 0 move is available, 1 a fallback is taken, 2 nothing works.")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args):
    if args.json:
        check_target(args.json)
    document = examine()
    if args.json != "-":
        show(document, result_console(args.json))
    if args.json:
        emit_json(document, args.json)
    return document["status"]


def examine(root=Path("/"), try_all=capabilities.try_all, try_heap=capabilities.try_heap,
            kernel=None):
    """The doctor's document.  Tests replace what is read and what is tried."""
    kernel = kernel or os.uname().release
    settings = kernel_settings.read(root)
    outcomes = try_all(settings["huge_page_bytes"], settings["hugetlb_page_bytes"])
    trial = try_heap()
    if trial.failure:
        status = STATUS_NOTHING
    else:
        status = STATUS_MOVE if trial.backend == "move" else STATUS_FALLBACK
    found = trial.probe or {}
    return {
        "version": gcheap.__version__,
        "kernel": kernel,
        "page_size": os.sysconf("SC_PAGE_SIZE"),
        "user": os.geteuid(),
        "settings": settings,
        "opened_by": found.get("opened_by") or None,
        "features": list(found.get("feature_names", ())),
        "missing_features": missing_features(found),
        "capabilities": capabilities.assess(outcomes, trial, settings, kernel),
        "backend": trial.backend,
        "fault_mode": trial.fault_mode,
        "why": trial.why,
        "status": status,
    }


def missing_features(found):
    from gcheap.core.probe import FEATURES
    have = found.get("feature_names", ())
    return [name for name in FEATURES if name not in have]


def show(document, console):
    """Print the document as tables: a pure function of it."""
    table = new_table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (*facts(document), *settings_rows(document["settings"])):
        table.add_row(name, value)
    console.print(table)
    rows = document["capabilities"]
    groups = {"for the heap": [*capabilities.FOR_HEAP, "heap"],
              "for users of gcheap.userfaultfd": capabilities.FOR_OTHERS}
    if not rows["userfaultfd"]["ok"]:
        del groups["for users of gcheap.userfaultfd"]       # none of it: one row says so
    for title, names in groups.items():
        console.print()
        console.print(capability_table(title, {name: rows[name] for name in names}))
    console.print()
    if document["status"] == STATUS_NOTHING:
        console.print(Text(f"no heap can be made here: {advice(rows['heap'])}",
                           style="bold red"))
        return
    mode = document["fault_mode"]
    console.print(Text(f"auto takes backend {document['backend']}, fault mode "
                       f"{mode or 'none'}: {document['why'].removeprefix('auto: ')}"))


def facts(document):
    opened = {"syscall": "by the userfaultfd system call", "device": "by /dev/userfaultfd",
              None: "not obtained"}
    yield "gcheap", document["version"]
    yield "kernel", document["kernel"]
    yield "page size", f"{document['page_size']} bytes"
    yield "user", "root" if document["user"] == 0 else f"an ordinary user ({document['user']})"
    yield "descriptor", opened.get(document["opened_by"], document["opened_by"])
    yield "features", ", ".join(document["features"]) or "none"
    if document["missing_features"]:
        yield "features missing", ", ".join(document["missing_features"])


def settings_rows(settings):
    size = settings["huge_page_bytes"]
    yield "huge pages", ("not available" if settings["huge_pages"] is None else
                         settings["huge_pages"] + (f", of {format_size(size)}" if size else ""))
    hugetlb, size = settings["hugetlb_pages"], settings["hugetlb_page_bytes"]
    yield "hugetlbfs pages", ("not available" if hugetlb is None else
                              number(hugetlb) + (f" of {format_size(size)}" if size else ""))
    yield "KSM", settings["ksm"] or "not available"
    yield "unprivileged_userfaultfd", {
        0: "0 (ordinary users get faults of user mode only: enough for the heap)",
        1: "1 (ordinary users get faults of system calls, too)",
        None: "not there (Linux older than 5.2, or no userfaultfd)",
    }.get(settings["unprivileged_userfaultfd"], str(settings["unprivileged_userfaultfd"]))
    limit = settings["max_map_count"]
    yield "max_map_count", "unknown" if limit is None else number(limit)
    yield "container", settings["container"] or "no sign of one"
    yield "seccomp filter", "yes" if settings["seccomp_filter"] else "none"


def capability_table(title, rows):
    table = new_table(title=title, title_justify="left", title_style="bold", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, row in rows.items():
        told = capabilities.TRIED.get(name)
        table.add_row(f"{told.text} ({name})" if told else "a heap, relocated (heap)",
                      sentence(row), style=None if row["ok"] else "yellow")
    return table


def sentence(row):
    if row["ok"]:
        return "works"
    return f"no: {advice(row)}"


def advice(row):
    return f"{row['why']}; {row['fix']}" if row["fix"] else row["why"]
