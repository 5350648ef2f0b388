"""`gcheap stress [WORKLOAD…]`: run workloads, show progress, end with the tables."""
from rich.text import Text

from gcheap.errors import OptionError
from gcheap.log.selection import parse_log
from gcheap.options import BY_NAME
from gcheap.report import Run, write_report
from gcheap.report.reading import RunFileError, check_document
from gcheap.report.svg import MOST_RUNS, check_drawing
from gcheap.stress import StressConfig, run_stress
from gcheap.tools import tables, workload_arguments
from gcheap.tools.arguments import (
    add_heap_options,
    add_json,
    add_policy,
    any_int,
    default_capacity,
    file_name,
    heap_options,
    positive_int,
    positive_seconds,
    size_argument,
)
from gcheap.tools.consoles import progress_console, result_console
from gcheap.tools.liveview import LiveView
from gcheap.tools.output import (
    called,
    check_distinct,
    check_log,
    check_targets,
    complain,
    emit_json,
)
from gcheap.tools.progress import Progress
from gcheap.tools.report import report_line
from gcheap.tools.workload_arguments import NAMES, add_set, chosen, files_read
from gcheap.trace import unwritten
from gcheap.trace.target import parse_target

HEAP_OPTIONS = ("backend", "faults", "unit_pages", "verify", "relocate", "collect_every",
                "delay_placements_us", "mark_threads", "log", "trace")

EXIT_FAILED = 1
EXIT_UNWRITTEN = 2
EXIT_INTERRUPTED = 130


def add(commands):
    parser = commands.add_parser(
        "stress", help="run workloads and show pauses, latency, faults and bytes moved",
        description="Run workloads, one after the other, and show what their mutators met. "
                    "Exit status: 0 verified, 1 a check failed, 2 it could not run, or "
                    "a trace or a page could not be written at its end (the results are shown, and "
                    "written), "
                    "130 interrupted (the results so far are shown).")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD",
                        help=NAMES)
    parser.add_argument("--list", action="store_true",
                        help="tell each workload in a line, with its settings, and run none")
    parser.add_argument("--seconds", type=positive_seconds, metavar="S",
                        default=StressConfig.seconds,
                        help="measured seconds, from the end of population and warm-up "
                             "(default %(default)g)")
    parser.add_argument("--mutators", type=positive_int, metavar="N",
                        default=StressConfig.mutators,
                        help="mutator threads (default %(default)s)")
    parser.add_argument("--live", type=size_argument, metavar="SIZE", default=StressConfig.live,
                        help="live bytes, headers included "
                             f"(default {tables.size(StressConfig.live)})")
    parser.add_argument("--capacity", type=size_argument, metavar="SIZE",
                        help="bytes of objects the heap may hold (default twice the live bytes, "
                             "and what a heap needs; gcheap minheap finds the least that works)")
    add_heap_options(parser, HEAP_OPTIONS)
    add_policy(parser)
    parser.add_argument("--seed", type=any_int, metavar="N", default=StressConfig.seed,
                        help="of everything random (default %(default)s)")
    add_set(parser)
    add_json(parser)
    parser.add_argument("--report", type=file_name, metavar="FILE.html|-",
                        help="write the page of these runs, as gcheap report does; - as of --json")
    parser.add_argument("--live-view", action="store_true",
                        help="show the page map of the heap as it moves; needs a terminal of 80 x "
                             "24, and takes time from what is measured")
    parser.set_defaults(run=run)


def run(args):
    """Run every workload; after Ctrl-C show what there is and exit with status 130."""
    if args.report:
        check_drawing()
    check_targets([("--json", args.json), ("--report", args.report)])
    if args.list:
        return show_list(args.json)
    options = heap_options(args, HEAP_OPTIONS)
    workloads = chosen(args.workloads, args.settings)
    check_files(args, options, workloads)
    if len(workloads) > 1 and parse_target(options["trace"]) and "%h" not in options["trace"]:
        label = "--trace" if args.trace else BY_NAME["trace"].env
        raise OptionError(f"{label}: each workload has a heap of its own, and a trace is of one "
                          "heap; put %h, its number, into the file's name")
    # All before the first run: a value that does not suit the last one costs no run.
    configs = [
        StressConfig(workload=workload, seconds=args.seconds, mutators=args.mutators,
                     live=args.live, capacity=default_capacity(args), seed=args.seed,
                     policy=args.policy, settings=settings, **options)
        for workload, settings in workloads]
    console = result_console(args.json, args.report)
    unwritten.clear()
    documents = []
    interrupted = False
    for config in configs:
        document = run_one(config, args.live_view)
        if document is not None:
            documents.append(document)
            tables.show(document, console)
        interrupted = document is None or document["interrupted"]
        if interrupted:
            break
    if args.json and documents:
        emit_json(documents[0] if len(configs) == 1 else {"runs": documents}, args.json)
    whole = report(documents, args.report, console) if args.report and documents else True
    if interrupted:
        return EXIT_INTERRUPTED
    if not all(document["verified"] for document in documents):
        return EXIT_FAILED
    return 0 if whole and not unwritten else EXIT_UNWRITTEN


def check_files(args, options, workloads):
    """OutputError for results that would overwrite each other, the trace, the log, or what is
    replayed, or that are more than a page takes."""
    label = {name: f"--{name}" if getattr(args, name) else BY_NAME[name].env
             for name in ("trace", "log")}
    streams = [(label["log"], one.target) for one in parse_log(options["log"])
               if one.target not in ("stdout", "stderr")]
    for target in (args.json, args.report):
        check_log(target, options["log"])
    check_distinct([("--json", args.json), ("--report", args.report),
                    (label["trace"], parse_target(options["trace"])), *streams],
                   files_read(workloads))
    if args.report and len(workloads) > MOST_RUNS:
        raise OptionError(f"--report: {len(workloads)} runs; a page shows 1 to {MOST_RUNS}")


def show_list(target):
    """The workloads as a table, or as JSON."""
    if target != "-":
        result_console(target).print(workload_arguments.table())
    if target:
        emit_json({"workloads": workload_arguments.document()}, target)
    return 0


def report(documents, target, console):
    """Write the page of those that were measured; whether all were.  A line on standard error
    for each that was not, or one when none was: then there is no page."""
    runs, refused = [], []
    for document in documents:
        try:
            check_document(document, document["workload"])
        except RunFileError as error:           # interrupted, or no operation ended in its time
            refused.append(error)
            continue
        runs.append(Run(document["workload"], document))
    if not runs:
        complain(f"cannot write {called(target)}: {refused[0]}")
        return False
    for error in refused:
        complain(f"not in the report {target}: {error}")
    write_report(runs, target)
    console.print(Text(report_line(target, len(runs))))
    return not refused


def run_one(config, live_view=False):
    """The document of one run with live progress; None when interrupted before it began."""
    console = progress_console()
    obstacle = LiveView.obstacle(console) if live_view else None
    if obstacle:
        console.print(Text(f"no live view, but lines: {obstacle}"))
    shown = LiveView if live_view and not obstacle else Progress
    try:
        with shown(console, config.workload) as progress:
            return run_stress(config, progress)
    except KeyboardInterrupt:
        console.print(Text(f"{config.workload}: interrupted before there were results"))
        return None
