"""`gcheap stress [WORKLOAD…]`: run workloads, show progress, end with the tables."""
from rich.text import Text

from gcheap.errors import OptionError
from gcheap.stress import StressConfig, run_stress
from gcheap.tools import tables
from gcheap.tools.arguments import (
    add_heap_options,
    add_json,
    add_policy,
    capacity_argument,
    default_capacity,
    heap_options,
    positive_int,
    positive_seconds,
    size_argument,
)
from gcheap.tools.consoles import progress_console, result_console
from gcheap.tools.output import check_target, emit_json
from gcheap.tools.progress import Progress
from gcheap.trace.target import parse_target
from gcheap.workloads import DEFAULT, WORKLOADS

HEAP_OPTIONS = ("backend", "faults", "unit_pages", "verify", "relocate", "collect_every",
                "delay_placements_us", "log", "trace")

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def add(commands):
    parser = commands.add_parser(
        "stress", help="run workloads and show pauses, latency, faults and bytes moved",
        description="Run workloads, one after the other, and show what their mutators met. "
                    "Exit status: 0 verified, 1 a check failed, 2 it could not run, "
                    "130 interrupted (the results so far are shown).")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD",
                        help=f"{', '.join(WORKLOADS)} (default {DEFAULT})")
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
    parser.add_argument("--capacity", type=capacity_argument, metavar="SIZE|min",
                        help="bytes of objects the heap may hold (default twice the live bytes)")
    add_heap_options(parser, HEAP_OPTIONS)
    add_policy(parser)
    parser.add_argument("--seed", type=int, metavar="N", default=StressConfig.seed,
                        help="of everything random (default %(default)s)")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args):
    """Run every workload; after Ctrl-C show what there is and exit with status 130."""
    if args.json:
        check_target(args.json)
    options = heap_options(args, HEAP_OPTIONS)
    if len(args.workloads) > 1 and parse_target(options["trace"]) and "%h" not in options["trace"]:
        raise OptionError("--trace: each workload has a heap of its own, and a trace is of one heap; "
                          "put %h, its number, into the file's name")
    # All before the first run: a value that does not suit the last one costs no run.
    configs = [
        StressConfig(workload=workload, seconds=args.seconds, mutators=args.mutators,
                     live=args.live, capacity=default_capacity(args), seed=args.seed,
                     policy=args.policy, **options)
        for workload in args.workloads or [DEFAULT]]
    console = result_console(args.json)
    documents = []
    interrupted = False
    for config in configs:
        document = run_one(config)
        if document is not None:
            documents.append(document)
            tables.show(document, console)
        interrupted = document is None or document["interrupted"]
        if interrupted:
            break
    if args.json and documents:
        emit_json(documents[0] if len(configs) == 1 else {"runs": documents}, args.json)
    if interrupted:
        return EXIT_INTERRUPTED
    return 0 if all(document["verified"] for document in documents) else EXIT_FAILED


def run_one(config):
    """The document of one run with live progress; None when interrupted before it began."""
    console = progress_console()
    try:
        with Progress(console, config.workload) as progress:
            return run_stress(config, progress)
    except KeyboardInterrupt:
        console.print(Text(f"{config.workload}: interrupted before there were results"))
        return None
