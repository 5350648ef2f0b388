"""`gcheap doctor`: what this machine gives, and which backend and fault mode `auto` takes.

Exit status: 0 when `move` is taken, 1 when a fallback is, 2 when no heap can be made at all.
"""
import errno
import os
from pathlib import Path

from rich.text import Text

import gcheap
from gcheap.errors import GcheapError
from gcheap.tools.arguments import add_json
from gcheap.tools.consoles import result_console
from gcheap.tools.output import check_target, emit_json
from gcheap.tools.tables import new_table

STATUS_MOVE = 0
STATUS_FALLBACK = 1
STATUS_NOTHING = 2

HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
UNPRIVILEGED = "/proc/sys/vm/unprivileged_userfaultfd"


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


def examine(probe=None, trial=None, root=Path("/")):
    """The doctor's document.

    `probe` returns a `gcheap.core.probe.Probe`; `trial` makes a small heap and raises when
    that fails; settings are read below `root`.  Tests replace all three.
    """
    found = (probe or probe_kernel)()
    failure = _failure_of(trial or try_heap)
    if failure:
        status = STATUS_NOTHING
    else:
        status = STATUS_MOVE if found.backend == "move" else STATUS_FALLBACK
    return {
        "version": gcheap.__version__,
        "kernel": found.kernel,
        "page_size": found.page_size,
        "huge_pages": selected(_read(root, HUGE_PAGES)),
        "unprivileged_userfaultfd": _read(root, UNPRIVILEGED),
        "opened_by": found.opened_by or None,
        "features": list(found.feature_names),
        "capabilities": capabilities(found, failure),
        "backend": found.backend,
        "fault_mode": found.fault_mode,
        "why": found.why,
        "status": status,
    }


def probe_kernel():
    from gcheap.core.probe import probe
    return probe()


def try_heap():
    """Make and close a small heap; raises what making it raises."""
    gcheap.Heap("1MiB").close()


def capabilities(found, failure):
    """`{name: {ok, why, fix}}`; `why` and `fix` are null where there is nothing to say."""
    opened = bool(found.opened_by)
    result = {"userfaultfd": _capability(opened, *_refusal(found.syscall_errno))}
    for name, ok, why, fix in (
        ("move", found.move_works, "UFFDIO_MOVE does not work here",
         "run Linux 6.8 or newer"),
        ("copy", found.copy_works, "UFFDIO_COPY does not work here", None),
        ("sigbus", found.sigbus, "UFFD_FEATURE_SIGBUS is not offered",
         "run Linux 4.14 or newer"),
    ):
        if not opened:
            why, fix = "there is no userfaultfd", None
        result[name] = _capability(ok, why, fix)
    result["heap"] = _capability(not failure, failure,
                                 "raise the limit on address space (ulimit -v unlimited)")
    return result


def show(document, console):
    """Print the document as tables."""
    table = new_table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    settings = {"0": "0 (user faults only; enough here)", "1": "1 (everybody)",
                None: "not there (Linux older than 5.2, or no userfaultfd)"}
    setting = document["unprivileged_userfaultfd"]
    opened = {"syscall": "by the userfaultfd system call", "device": "by /dev/userfaultfd",
              None: "not obtained"}
    for name, value in (
        ("gcheap", document["version"]),
        ("kernel", document["kernel"]),
        ("page size", f"{document['page_size']} bytes"),
        ("huge pages", document["huge_pages"] or "not available"),
        ("unprivileged_userfaultfd", settings.get(setting, setting)),
        ("descriptor", opened.get(document["opened_by"], document["opened_by"])),
        ("features", ", ".join(document["features"]) or "none"),
    ):
        table.add_row(name, str(value))
    table.add_section()
    for name, row in document["capabilities"].items():
        table.add_row(name, "works" if row["ok"] else _sentence(row),
                      style=None if row["ok"] else "yellow")
    console.print(table)
    console.print()
    if document["status"] == STATUS_NOTHING:
        console.print(Text("no heap can be made here", style="bold red"))
        return
    mode = document["fault_mode"]
    console.print(Text(f"auto takes backend {document['backend']}, fault mode "
                       f"{mode or 'none'}: {document['why']}"))


def selected(setting):
    """The bracketed word of a setting such as "always [madvise] never"; None for None."""
    if setting is None:
        return None
    for part in setting.split():
        if part.startswith("["):
            return part.strip("[]")
    return setting


def _failure_of(trial):
    try:
        trial()
    except (GcheapError, OSError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return None


def _refusal(number):
    """Why the system call was refused, and what would help."""
    if not number:
        return "the userfaultfd handshake failed", None
    why = f"userfaultfd: {errno.errorcode.get(number, number)} ({os.strerror(number)})"
    if number == errno.EPERM:
        fix = ("in a container its seccomp profile is the likely cause: allow the userfaultfd "
               "system call; otherwise allow access to /dev/userfaultfd")
    elif number == errno.ENOSYS:
        fix = ("in a container its seccomp profile is the likely cause: allow the userfaultfd "
               "system call; otherwise run a kernel with CONFIG_USERFAULTFD")
    elif number in (errno.EMFILE, errno.ENFILE):
        fix = "raise the limit on open files (ulimit -n)"
    else:
        fix = None
    return why, fix


def _capability(ok, why, fix):
    return {"ok": True, "why": None, "fix": None} if ok else {
        "ok": False, "why": why, "fix": fix}


def _sentence(row):
    return f"no: {row['why']}" + (f"; {row['fix']}" if row["fix"] else "")


def _read(root, path):
    try:
        return (root / path.lstrip("/")).read_text().strip()
    except OSError:
        return None
