"""`gcheap bench lbo`: the lower-bound overhead of backends and heap sizes, wall and CPU.

Heap sizes are multiples of the smallest heap with which the workload passes.  See gcheap.tools.lbo
for what is computed.
"""
from rich.text import Text

from gcheap.errors import HeapExhausted, OptionError
from gcheap.options import BY_NAME, format_size, parse_size, plain_float
from gcheap.provenance import describe
from gcheap.stress import StressConfig, run_stress
from gcheap.text import shown
from gcheap.tools.arguments import (
    accepted,
    add_common,
    add_live,
    add_mutators,
    add_rounds,
    positive_seconds,
    settle_heap_options,
)
from gcheap.tools.lbo import Cost, cpu_cost, overheads, wall_cost
from gcheap.tools.minheap import CheckFailed, search
from gcheap.tools.suite import (
    EXIT_WRONG,
    metrics_of,
    noise_line,
    run_suite,
    take_turns,
    whole_rounds,
)
from gcheap.tools.tables import new_table
from gcheap.units import NOTHING, counted, duration, number
from gcheap.workloads import DEFAULT, WORKLOADS, find

HEAP_OPTIONS = ("faults", "unit_pages")
BACKENDS = ("move", "copy", "stw")
HEAPS = "1.3,2,3,6"
CLOCKS = {"wall": wall_cost, "cpu": cpu_cost}
UNITS = {"wall_ns_per_op": ("ns", "less"), "cpu_ns_per_op": ("ns", "less"),
         "pause_max_us": ("µs", "less"), "safepoint_p99_us": ("µs", "less"),
         "stall_ms": ("ms", "less"), "fault_ms": ("ms", "less")}
WITHIN = 0.02                   # how far above the minimum the measured one may be


def parse_heaps(text):
    """Two or more different factors from 1 on, in rising order; OptionError."""
    try:
        found = sorted({plain_float(part) for part in text.split(",")})
    except ValueError:
        found = [0.0]
    if len(found) < 2 or not all(1 <= factor <= 100 for factor in found):
        raise OptionError(f"{shown(text)}: expected two or more numbers from 1 to 100, such as "
                          f"{HEAPS}")
    return found


def parse_backends(text):
    return [BY_NAME["backend"].validate(part) for part in dict.fromkeys(text.split(","))]


def add(suites):
    parser = suites.add_parser(
        "lbo", help="overhead over the best known cost, by backend and heap size",
        description="Run a workload in turns under backends and heap sizes and report the "
                    "lower-bound overhead of each, in wall and in CPU time (Cai et al. 2022). "
                    "Exit status: 0 done, 1 a check failed, 2 it could not run, 130 interrupted.")
    parser.add_argument("workload", nargs="?", default=DEFAULT, metavar="WORKLOAD",
                        help=f"one of {', '.join(WORKLOADS)} (default {DEFAULT})")
    parser.add_argument("--heaps", type=accepted(parse_heaps), default=parse_heaps(HEAPS),
                        metavar="N,N...", help="sizes of the heap, times the minimum "
                                               f"(default {HEAPS})")
    parser.add_argument("--minimum", type=accepted(parse_size), metavar="SIZE",
                        help="the smallest heap with which the workload passes (default: found "
                             "first, as gcheap minheap does)")
    parser.add_argument("--backends", type=accepted(parse_backends), default=list(BACKENDS),
                        metavar="NAME,...", help=f"backends (default {','.join(BACKENDS)})")
    add_live(parser, 64 << 20)
    add_rounds(parser, 5)
    parser.add_argument("--seconds", type=positive_seconds, default=3.0, metavar="S",
                        help="measured seconds of a run (default 3)")
    add_mutators(parser)
    add_common(parser, run, HEAP_OPTIONS, "of every run")


def run(args):
    """Find the minimum, run the rounds; after Ctrl-C report the whole rounds there are."""
    settle_heap_options(args, HEAP_OPTIONS)
    find(args.workload)
    stress_config(args, args.backends[0], 2 * args.live)        # refused before anything runs
    config = {"workload": args.workload, "live": args.live, "heaps": args.heaps,
              "backends": args.backends, "minimum": args.minimum, "seconds": args.seconds,
              "mutators": args.mutators, "rounds": args.rounds, "faults": args.faults,
              "unit_pages": args.unit_pages, "seed": args.seed}
    state = Overheads(args, config)
    try:
        return run_suite("lbo", args, config, state.measure, state.summarize, show,
                         noise_seconds=min(1.0, args.seconds))
    except CheckFailed as failed:
        state.console.print(Text(f"{args.workload}: {failed}", style="bold red"))
        return EXIT_WRONG


def stress_config(args, backend, capacity):
    config = StressConfig(
        workload=args.workload, backend=backend, live=args.live, seconds=args.seconds,
        mutators=args.mutators, seed=args.seed, faults=args.faults, unit_pages=args.unit_pages,
        policy="fixed", noise_seconds=0)
    return config.with_capacity(capacity)


class Overheads:
    """What is measured, and what came of it."""

    def __init__(self, args, config):
        self.args = args
        self.config = config
        self.rows = []
        self.exhausted = {}             # case: why it could not run
        self.console = None

    def cases(self):
        """{name: (backend, capacity)} in turn."""
        return {f"{backend} {factor:g}x": (backend, round(self.config["minimum"] * factor))
                for factor in self.config["heaps"] for backend in self.config["backends"]}

    def measure(self, console):
        self.console = console
        if self.config["minimum"] is None:
            self.config["minimum"] = self.minimum()
        cases = self.cases()

        def take(case):
            if case in self.exhausted:
                return {"verified": True, "progress": self.exhausted[case]}
            try:
                document = run_stress(stress_config(self.args, *cases[case]))
            except HeapExhausted as why:
                self.exhausted[case] = str(why)
                return {"verified": True, "progress": str(why)}
            if document["interrupted"]:
                raise KeyboardInterrupt
            return row_of(document)

        take_turns(self.config["rounds"], cases, take, self.rows, console)

    def minimum(self):
        config = stress_config(self.args, self.config["backends"][0], 2 * self.args.live)

        def tell(capacity, passed):
            self.console.print(Text(f"minimum: {format_size(capacity)} "
                                    f"{'passes' if passed else 'does not pass'}"))

        return search(config, tries=1, within=WITHIN, tell=tell)["minimum_bytes"]

    def summarize(self):
        """The suite's part of the document."""
        return summarize(self.rows, self.cases() if self.config["minimum"] else {},
                         self.exhausted)


def row_of(document):
    """What is kept of one run; null costs when it had no operation."""
    row = {"verified": document["verified"], "ops": document["ops"], "cycles": document["cycles"],
           "pause_max_us": document["pauses"]["max_us"],
           "safepoint_p99_us": document["time_to_safepoint_us"]["p99"],
           "stall_ms": document["cost"]["stall_ms"], "fault_ms": document["cost"]["fault_ms"],
           "progress": f"{number(document['ops_per_s'])} ops/s, {document['cycles']} cycles"}
    for clock, cost_of in CLOCKS.items():
        cost = cost_of(document) if document["ops"] else None
        row[f"{clock}_ns_per_op"] = cost and cost.total
        row[f"{clock}_certain"] = cost and cost.certain
    return row


def summarize(rows, cases, exhausted):
    """The suite's part of the document: a pure function of the rows."""
    ran = [case for case in cases if case not in exhausted]
    rounds = whole_rounds([row for row in rows if row["case"] in ran], ran)
    overhead = {}
    for clock in CLOCKS:
        costs = {case: [Cost(turn[case][f"{clock}_ns_per_op"], turn[case][f"{clock}_certain"])
                        for turn in rounds if turn[case][f"{clock}_ns_per_op"]]
                 for case in ran}
        costs = {case: found for case, found in costs.items() if found}
        overhead[clock] = overheads(costs) if costs else {}
    return {
        "rounds": len(rounds),
        "metrics": metrics_of(rounds, ran, UNITS),
        "overhead": overhead,
        "cases": [{"case": case, "backend": backend, "capacity": capacity,
                   "exhausted": exhausted.get(case)}
                  for case, (backend, capacity) in cases.items()],
        "runs": rows,
        "verified": all(row["verified"] for row in rows),
    }


def show(document, console):
    """Print the overheads, then what of them are pauses, stalls and faults."""
    config = document["config"]
    console.print(Text(
        f"{config['workload']}, {format_size(config['live'])} live, minimum heap "
        f"{format_size(config['minimum'])}, {counted(document['rounds'], 'round')} of "
        f"{config['seconds']:g} s, {describe(document)}"))
    console.print()
    table = new_table()
    for header in ("heap", "wall overhead", "CPU overhead", "longest pause", "to safepoint",
                   "stalled", "in faults"):
        table.add_column(header, justify="right" if table.columns else "left", no_wrap=True)
    for case in document["cases"]:
        name = case["case"]
        if case["exhausted"]:
            table.add_row(name, "too small")
            continue
        table.add_row(name, *(_overhead(document["overhead"][clock].get(name))
                              for clock in CLOCKS),
                      *(_time(document, f"{name}: {key}", factor) for key, factor in (
                          ("pause max us", 1e3), ("safepoint p99 us", 1e3), ("stall ms", 1e6),
                          ("fault ms", 1e6))))
    console.print(table)
    console.print()
    console.print(noise_line(document))
    console.print(Text("overhead: total cost over the least cost, of all these configurations, "
                       "without what is collection for certain; a lower bound"))


def _overhead(row):
    if row is None:
        return NOTHING
    low, high = (NOTHING if row[key] is None else f"{row[key]:.2f}" for key in ("low", "high"))
    return f"{row['overhead']:.2f}\n{low}–{high}"


def _time(document, name, factor):
    value = document["metrics"][name]["median"]
    return duration(None if value is None else value * factor)
