"""`gcheap bench pauses`: do pauses grow with the heap?

One heap a size, all alive at once, with the same roots.  They take turns, A B C D A B C D ...,
each turn one forced cycle under running mutators, so that drift of the machine meets all sizes
alike.  What must come out is that no pause depends on how much is live.
"""
from contextlib import ExitStack

import numpy as np
from rich.text import Text

import gcheap
from gcheap.errors import OptionError
from gcheap.options import format_size, parse_size
from gcheap.percentiles import difference, of_histogram, of_samples
from gcheap.provenance import describe
from gcheap.tools.arguments import (
    accepted,
    add_common,
    add_mutators,
    positive_int,
    settle_heap_options,
    settled,
)
from gcheap.tools.suite import metric, noise_line, run_suite
from gcheap.tools.tables import new_table
from gcheap.units import NOTHING, counted, duration
from gcheap.workloads.memory import room

WORKLOAD = "churn"
SIZES = "64MiB,256MiB,1GiB,4GiB"
LEAST_LIVE = 1 << 20
WARM_UP_TURNS = 2               # not counted: each half and each table is touched once
NOISE_SECONDS = 0.5
LIMIT = 1.5                     # largest over smallest: up to it a pause counts as flat
PAUSES = ("mark_start", "mark_end", "relocate_start", "full")
REACH = "time_to_safepoint"
# What mutators wait for elsewhere -> histogram of the heap.
WAITS = {"fault": "fault", "allocation_stall": "stall"}
CONCURRENT = {"concurrent_mark": "mark_ns", "concurrent_weak": "weak_ns",
              "concurrent_plan": "plan_ns", "concurrent_relocate": "relocate_ns"}
JUDGED = {"wall_p50": "wall_p50_us", "cpu_p99": "cpu_p99_us"}
HEAP_OPTIONS = ("backend", "faults", "unit_pages")
# Resident bytes a live byte: garbage and black objects of a turn, side tables, and what
# relocation has twice.  Under move pages change places; elsewhere they are copied.
RESIDENT = {"move": 1.5}
RESIDENT_COPIED = 2.5


def parse_sizes(text):
    """Different sizes, at least two, in rising order; OptionError."""
    sizes = sorted(parse_size(part, "--live") for part in text.split(","))
    if len(sizes) < 2:
        raise OptionError(f"{text!r}: expected two or more sizes, such as {SIZES}")
    if len(set(sizes)) < len(sizes):
        raise OptionError(f"{text!r}: expected different sizes, such as {SIZES}")
    if sizes[0] < LEAST_LIVE:
        raise OptionError(f"{text!r}: expected sizes of {format_size(LEAST_LIVE)} and more")
    return sizes


def add(suites):
    parser = suites.add_parser(
        "pauses", help="the same roots on heaps of several sizes: do pauses grow?",
        description="Force cycles in turns on heaps that differ in their live data only, and "
                    "compare the pauses of the largest with those of the smallest.")
    parser.add_argument("--live", type=accepted(parse_sizes), default=parse_sizes(SIZES),
                        metavar="SIZE,SIZE...", help=f"live bytes of the heaps (default {SIZES})")
    parser.add_argument("--cycles", type=positive_int, default=50, metavar="N",
                        help="measured cycles of each (default 50)")
    add_mutators(parser, " of each")
    parser.add_argument("--handles", type=positive_int, default=1000, metavar="N",
                        help="handles on each: roots spread over its live data (default 1000)")
    add_common(parser, run, HEAP_OPTIONS, "of every heap")


def run(args):
    """Measure and report; after Ctrl-C report the cycles there are."""
    if not 0 <= args.seed < 1 << 56:
        raise OptionError(f"--seed {args.seed}: expected a whole number from 0 to {(1 << 56) - 1}")
    settle_heap_options(args, HEAP_OPTIONS)
    for live in args.live:
        check_share(live, args.mutators)
    backend = backend_of(args)
    groups = groups_of(args.live, backend, room(with_swap=False).available)
    config = config_of(args, backend, len(groups) == 1)
    measured = {live: Measured(live) for live in args.live}

    def measure_all(console):
        if len(groups) > 1:
            console.print(Text("memory for one heap at a time: the sizes do not take turns"))
        for group in groups:
            measure(args, group, measured, console)

    return run_suite("pauses", args, config, measure_all,
                     lambda: summarize(list(measured.values())), show,
                     noise_seconds=NOISE_SECONDS)


# ---- what fits ---------------------------------------------------------------------------

def check_share(live, mutators):
    """OptionError when a mutator would have no tree or no array of its own."""
    least = 32 * 1024 * mutators
    if live < least:
        raise OptionError(f"--live {format_size(live)}: {mutators} mutators need "
                          f"{format_size(least)} or more; use fewer mutators")


def backend_of(args):
    """The backend that the options lead to on this machine."""
    with gcheap.Heap("min", backend=args.backend, faults=args.faults,
                     unit_pages=args.unit_pages) as heap:
        return heap.stats().backend


def groups_of(sizes, backend, available):
    """The sizes whose heaps are alive together: all of them, or one after the other.

    OptionError when even the largest alone does not fit the available memory.
    """
    each = [int(live * RESIDENT.get(backend, RESIDENT_COPIED)) for live in sizes]
    if max(each) > available:
        raise OptionError(
            f"--live {format_size(sizes[-1])}: under {backend} it takes about "
            f"{format_size(max(each))} of memory, and {format_size(available)} are available; "
            f"give smaller sizes")
    return [sizes] if sum(each) <= available else [[live] for live in sizes]


# ---- measuring ---------------------------------------------------------------------------

class Measured:
    """What was measured at one size: its turns, and the records of their forced cycles."""

    def __init__(self, live):
        self.live = live
        self.turns = []
        self.pauses = []                # structured arrays, one a turn
        self.cycles = []
        self.marked_bytes = None        # found live by the last cycle
        self.verified = None
        self.before = {}                # histograms of WAITS, before the measured turns
        self.after = {}

    def begin(self, heap):
        """The next turn is the first to count."""
        self.before = {name: heap.histogram(name) for name in WAITS.values()}

    def take(self, heap, turn):
        """Keeps what the heap recorded of one turn."""
        pauses, cycles = heap.pauses(), heap.cycles()
        self.turns.append(turn)
        self.pauses.append(pauses[pauses["cycle"] == turn.cycle])
        self.cycles.append(cycles[cycles["cycle"] == turn.cycle])
        self.marked_bytes = heap.stats().live_bytes
        self.after = {name: heap.histogram(name) for name in WAITS.values()}


def measure(args, group, measured, console):
    """Fills the `Measured` of each size of a group, in turns."""
    from gcheap.workloads.turns import TurnTaker

    with ExitStack() as stack:
        takers = []
        for live in group:
            taker = TurnTaker(live, mutators=args.mutators, handles=args.handles, seed=args.seed,
                              **settled(args, HEAP_OPTIONS))
            stack.callback(taker.close)
            takers.append(taker)
            taker.populate()
            console.print(Text(f"{format_size(live)}: populated"))
        for number in range(1 - WARM_UP_TURNS, args.cycles + 1):
            for taker in takers:
                if number == 1:
                    measured[taker.live].begin(taker.heap)
                turn = taker.turn()
                if number > 0:
                    measured[taker.live].take(taker.heap, turn)
            if number > 0 and (number % 10 == 0 or number == args.cycles):
                console.print(Text(f"cycle {number}/{args.cycles} of each size"))
        for taker in takers:
            measured[taker.live].verified = taker.audit()


def config_of(args, backend, interleaved):
    return {"workload": WORKLOAD, "live": args.live, "cycles": args.cycles,
            "mutators": args.mutators, "handles": args.handles, "backend": backend,
            "faults": args.faults, "unit_pages": args.unit_pages, "policy": "fixed",
            "seed": args.seed, "warm_up_turns": WARM_UP_TURNS, "interleaved": interleaved}


# ---- the document ------------------------------------------------------------------------

def summarize(measured):
    """The suite's part of the document: a pure function of what was measured, smallest size
    first."""
    runs = [row_of(one) for one in measured]
    return {
        "rounds": min(len(one.turns) for one in measured),
        "metrics": metrics_of(measured),
        "limit": LIMIT,
        "pauses": [phase for phase in PAUSES if phase in runs[0]["phases"]],
        "flat": flatness(runs[0], runs[-1]),
        "runs": runs,
        "verified": all(row["verified"] for row in runs),
    }


def metrics_of(measured):
    """Each pause of each size, one value a turn: its wall and its CPU time; of several Mark Ends
    in a cycle the longest."""
    found = {}
    for one in measured:
        for phase in PAUSES:
            turns = [pauses[pauses["phase"] == phase] for pauses in one.pauses]
            turns = [rows for rows in turns if len(rows)]
            for clock, key in (("wall", "work_ns"), ("CPU", "cpu_ns")):
                if turns:
                    found[f"{format_size(one.live)}: {phase.replace('_', ' ')}, {clock}"] = metric(
                        "µs", "less", [int(rows[key].max()) / 1e3 for rows in turns])
        if one.pauses:
            found[f"{format_size(one.live)}: time to safepoint"] = metric(
                "µs", "less", [int(rows["reach_ns"].max()) / 1e3 for rows in one.pauses])
    return found


def row_of(one):
    """One size: percentiles of each phase over its forced cycles, and when its turns were."""
    pauses = np.concatenate(one.pauses) if one.pauses else None
    cycles = np.concatenate(one.cycles) if one.cycles else None
    phases = {}
    if pauses is not None:
        for phase in PAUSES:
            rows = pauses[pauses["phase"] == phase]
            if len(rows):
                phases[phase] = times(rows["work_ns"], rows["cpu_ns"])
        phases[REACH] = times(pauses["reach_ns"])
        phases |= {phase: waited(difference(one.before[name], one.after[name]))
                   for phase, name in WAITS.items()}
        if "full" not in phases:        # otherwise all of them are parts of that pause
            phases |= {name: times(cycles[key]) for name, key in CONCURRENT.items()}
    return {
        "live_bytes": one.live,
        "marked_bytes": one.marked_bytes,
        "cycles": len(one.turns),
        "verified": bool(one.verified),
        "phases": phases,
        "turns": [{"start_ns": turn.start_ns, "end_ns": turn.end_ns, "cycle": turn.cycle}
                  for turn in one.turns],
    }


def times(wall_ns, cpu_ns=()):
    """{count, wall_p50_us, ...}; null for CPU time that was not measured."""
    row = {"count": len(wall_ns)}
    for name, samples in (("wall", wall_ns), ("cpu", cpu_ns)):
        for percentile, q in (("p50", 0.5), ("p99", 0.99)):
            value = of_samples(samples, q)
            row[f"{name}_{percentile}_us"] = None if value is None else value / 1e3
    return row


def waited(histogram):
    """The same of a histogram."""
    values, counts, longest = histogram
    row = {"count": int(counts.sum())}
    for percentile, q in (("p50", 0.5), ("p99", 0.99)):
        value = of_histogram(values, counts, longest, q)
        row[f"wall_{percentile}_us"] = None if value is None else value / 1e3
    return row | {"cpu_p50_us": None, "cpu_p99_us": None}


def flatness(smallest, largest):
    """{pause: {wall_p50, cpu_p99, holds}}: largest over smallest, and whether both stay below
    the limit."""
    rows = {}
    for phase in PAUSES:
        if phase in smallest["phases"] and phase in largest["phases"]:
            ratios = {name: ratio(smallest, largest, phase, key) for name, key in JUDGED.items()}
            rows[phase] = ratios | {
                "holds": all(value is not None and value <= LIMIT for value in ratios.values())}
    return rows


def ratio(smallest, largest, phase, key):
    below, above = (run["phases"].get(phase, {}).get(key) for run in (smallest, largest))
    return above / below if below and above is not None else None


# ---- the tables --------------------------------------------------------------------------

def show(document, console):
    """Print the document: smallest against largest, then whether each pause is flat."""
    config, runs = document["config"], document["runs"]
    console.print(Text(
        f"{config['workload']}, {counted(config['mutators'], 'mutator')}, "
        f"{config['handles']:,} handles, "
        f"backend {config['backend']}, faults {config['faults']}, "
        f"{counted(min(row['cycles'] for row in runs), 'cycle')} a size, "
        f"{'in turns' if config['interleaved'] else 'one size after the other'}, "
        f"{describe(document)}"))
    for title, clock in (("wall", "wall"), ("CPU", "cpu")):
        console.print()
        console.print(comparison(runs, title, clock))
    console.print()
    console.print(noise_line(document))
    for phase, row in document["flat"].items():
        console.print(verdict(phase, row))


def comparison(runs, title, clock):
    """One row a phase: percentiles at the smallest and the largest size, and the ratios."""
    table = new_table()
    smallest, largest = runs[0], runs[-1]
    small, large = (format_size(run["live_bytes"]) for run in (smallest, largest))
    for header in (f"{title} time", f"{small} p50", f"{large} p50", "ratio",
                   f"{small} p99", f"{large} p99", "ratio"):
        table.add_column(header, justify="right" if table.columns else "left", no_wrap=True)
    for phase, row in smallest["phases"].items():
        if row[f"{clock}_p50_us"] is None and (clock == "cpu" or phase not in WAITS):
            continue                    # that nobody waited is said, what is not measured is not
        cells = []
        for percentile in ("p50", "p99"):
            key = f"{clock}_{percentile}_us"
            cells += [_us(run["phases"].get(phase, {}).get(key)) for run in (smallest, largest)]
            cells.append(_ratio(ratio(smallest, largest, phase, key)))
        pause = "pause: " if phase in PAUSES else ""
        table.add_row(pause + phase.replace("_", " "), *cells)
    return table


def verdict(phase, row):
    figures = (f"median {_ratio(row['wall_p50'])}, CPU p99 {_ratio(row['cpu_p99'])} "
               f"(largest/smallest, limit {LIMIT})")
    name = phase.replace("_", " ")
    if row["holds"]:
        return Text(f"{name}: flat: {figures}", style="green")
    return Text(f"{name}: NOT flat: {figures}", style="bold red")




def _us(value):
    return duration(None if value is None else value * 1e3)


def _ratio(value):
    return NOTHING if value is None else f"{value:.2f}"
