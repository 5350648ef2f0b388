"""`gcheap minheap WORKLOAD`: the smallest heap with which a workload passes, by binary search.

Heap sizes are compared as multiples of this: it says what a workload needs whatever its authors
call live (Blackburn et al., "The DaCapo benchmarks", 2006).  A capacity passes when every one of
`--tries` runs populates, runs for `--seconds`, and is audited without a failed check.  Whether
one passes depends on when cycles start, so the answer has a margin: `--within` percent.
"""
from dataclasses import replace

from rich.text import Text

from gcheap.errors import HeapExhausted
from gcheap.options import format_size, least_capacity
from gcheap.stress import StressConfig, run_stress
from gcheap.tools.arguments import (
    add_heap_options,
    add_json,
    add_mutators,
    add_seed,
    heap_options,
    positive_int,
    positive_seconds,
    size_argument,
)
from gcheap.tools.consoles import progress_console, result_console
from gcheap.tools.output import check_log, check_targets, emit_json
from gcheap.tools.tables import new_table
from gcheap.tools.workload_arguments import NAMES, add_set, chosen, files_read
from gcheap.units import counted
from gcheap.workloads.memory import room

HEAP_OPTIONS = ("backend", "faults", "unit_pages", "verify")

EXIT_FAILED = 1


class CheckFailed(Exception):
    """A run failed a check: there is no minimum to tell."""


def add(commands):
    parser = commands.add_parser(
        "minheap", help="the smallest heap with which a workload passes",
        description="Binary search for the smallest capacity with which a workload passes. Exit "
                    "status: 0 found, 1 a check failed, 2 it could not run.")
    parser.add_argument("workload", nargs="+", metavar="WORKLOAD", help=NAMES)
    parser.add_argument("--seconds", type=positive_seconds, metavar="S", default=1.0,
                        help="measured seconds of each run (default %(default)g)")
    parser.add_argument("--tries", type=positive_int, metavar="N", default=1,
                        help="runs that a capacity must pass (default %(default)s)")
    parser.add_argument("--within", type=positive_int, metavar="PERCENT", default=2,
                        help="how far above the minimum the answer may be (default %(default)s)")
    parser.add_argument("--live", type=size_argument, metavar="SIZE", default=StressConfig.live,
                        help=f"live bytes (default {format_size(StressConfig.live)})")
    add_mutators(parser)
    add_heap_options(parser, HEAP_OPTIONS)
    add_seed(parser, "of everything random")
    add_set(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args):
    workloads = chosen(args.workload, args.settings)
    check_targets([("--json", args.json)], files_read(workloads))
    check_log(args.json)
    console, progress = result_console(args.json), progress_console()
    documents = []
    configs = [StressConfig(
        workload=name, settings=settings, seconds=args.seconds, mutators=args.mutators,
        live=args.live, seed=args.seed, policy="fixed", noise_seconds=0, warm_up=0,
        **heap_options(args, HEAP_OPTIONS)) for name, settings in workloads]
    for config in configs:
        def tell(capacity, passed, name=config.workload):
            progress.print(Text(f"{name}: {format_size(capacity)} "
                                f"{'passes' if passed else 'does not pass'}"))
        try:
            found = search(config, tries=args.tries, within=args.within / 100, tell=tell)
        except CheckFailed as failed:
            console.print(Text(f"{config.workload}: {failed}"))
            return EXIT_FAILED
        documents.append(found)
        console.print(heading(found))
        console.print(table(found))
    if args.json:
        emit_json(documents[0] if len(documents) == 1 else {"workloads": documents}, args.json)
    return 0


def search(config, *, tries, within, tell=lambda capacity, passed: None, passes=None):
    """The document of a search; HeapExhausted when nothing that the machine holds is enough.

    `tell(capacity, passed)` hears of each capacity that was tried; `passes(capacity)` is for
    tests: whether the workload passes with it, and its live bytes.
    """
    passes = passes or (lambda capacity: passes_with(config, capacity, tries))
    grain = least_capacity(config.unit_pages) // 4          # a heap is divided no finer
    tried = []

    def attempt(capacity):
        passed, live = passes(capacity)
        tried.append({"capacity": capacity, "passed": passed})
        tell(capacity, passed)
        return passed, live

    low = least_capacity(config.unit_pages) - grain
    high = max(low + grain, _up(2 * config.live, grain))
    most = room().available
    while True:                                             # a capacity that is enough
        passed, live = attempt(high)
        if passed:
            break
        low = high
        if 2 * high > most:
            raise HeapExhausted(f"{config.workload}: {format_size(high)} is not enough, and the "
                                f"machine gives a process {format_size(most)}")
        high *= 2
    while high - low > max(grain, int(low * within)):
        middle = _up((low + high) // 2, grain)
        if middle >= high:
            break
        passed, live_here = attempt(middle)
        if passed:
            high, live = middle, live_here
        else:
            low = middle
    return {"workload": config.workload, "minimum_bytes": high, "too_small_bytes": low,
            "live_bytes": live, "asked_live_bytes": config.live, "seconds": config.seconds,
            "tries": tries, "mutators": config.mutators, "seed": config.seed,
            "backend": config.backend, "settings": config.settings, "tried": tried}


def passes_with(config, capacity, tries):
    """(whether every one of so many runs passes with that capacity, live bytes of the last)."""
    live = None
    for number in range(tries):
        try:
            document = run_stress(
                replace(config, seed=config.seed + number).with_capacity(capacity))
        except HeapExhausted:
            return False, None
        if document["interrupted"]:
            raise KeyboardInterrupt
        if not document["verified"]:
            raise CheckFailed(f"with {format_size(capacity)}: {document['failure']}")
        live = document["live_bytes"]
    return True, live


def heading(found):
    """With what `search` ran, for people."""
    tries = found["tries"]
    return Text(f"{found['workload']}: {format_size(found['asked_live_bytes'])} live, "
                f"{counted(found['mutators'], 'mutator')}, "
                f"{tries} {'tries' if tries != 1 else 'try'} of {found['seconds']:g} s from seed "
                f"{found['seed']}, backend {found['backend']}")


def table(found):
    """What `search` found, for people."""
    made = new_table()
    for heading in (found["workload"], "bytes", "of the live bytes"):
        made.add_column(heading)
    live = found["live_bytes"]
    for name, key in (("smallest heap that passes", "minimum_bytes"),
                      ("largest that does not", "too_small_bytes"),
                      ("live bytes", "live_bytes")):
        made.add_row(name, format_size(found[key]),
                     f"{found[key] / live:.2f}" if live else "–")
    return made


def _up(nbytes, grain):
    return -(-nbytes // grain) * grain
