"""`gcheap bench backends`: MOVE against COPY on the same work, in turns.

Every round runs `churn` afresh with the same seed under each configuration, A B C A B C ...,
so that drift of the machine meets all of them alike.  Ratios are formed inside a round and
then summarized over the rounds.
"""
from rich.text import Text

from gcheap.options import format_size
from gcheap.provenance import describe
from gcheap.stress import StressConfig, run_stress
from gcheap.tools.arguments import (
    add_common,
    add_live,
    add_mutators,
    add_rounds,
    positive_seconds,
    settle_heap_options,
)
from gcheap.tools.intervals import summary
from gcheap.tools.suite import metric, metrics_of, run_suite, take_turns, whole_rounds
from gcheap.tools.tables import new_table
from gcheap.units import NOTHING, counted, duration

WORKLOAD = "churn"
MIN_CYCLES = 3                  # cycles a run needs before its median counts
MOST_SECONDS = 600              # of one run, however few cycles it makes
LABELS = {"move": "move", "copy": "copy", "copy_single": "copy by page"}
UNITS = {                       # figure of a row -> its unit, and which side is the good one
    "relocate_ms": ("ms", "less"),
    "relocate_start_p99_us": ("µs", "less"),
    "safepoint_p99_us": ("µs", "less"),
    "fault_p99_us": ("µs", "less"),
    "stall_ms": ("ms", "less"),
    "resident_over_used": ("", "less"),
    "ops_per_s": ("/s", "more"),
    "noise_p99_us": ("µs", None),
}

HEAP_OPTIONS = ("faults", "unit_pages")


def configurations(unit_pages):
    """Name -> the options in which it differs: backend, pages of a unit, units of a batch."""
    return {
        "move": {"backend": "move", "unit_pages": unit_pages},
        "copy": {"backend": "copy", "unit_pages": unit_pages},
        "copy_single": {"backend": "copy", "unit_pages": 1, "batch_units": 1},
    }


def add(suites):
    parser = suites.add_parser(
        "backends", help="move, copy, and copy page by page on churn",
        description="Run churn in turns under move, copy with the same units, and copy page "
                    "by page, and report the ratios of their relocation times.")
    add_live(parser, 256 << 20, ", half of the capacity")
    add_rounds(parser, 5, " of three runs each")
    parser.add_argument("--seconds", type=positive_seconds, metavar="S",
                        help="measured seconds of a run (default 2, or 1 for every 32 MiB "
                             "live); doubled for all later runs while one makes fewer than "
                             f"{MIN_CYCLES} cycles")
    add_mutators(parser)
    add_common(parser, run, HEAP_OPTIONS, "of every run")


def run(args):
    """Run the rounds; after Ctrl-C report the whole rounds there are."""
    settle_heap_options(args, HEAP_OPTIONS)
    if args.seconds is None:
        args.seconds = max(2.0, args.live / (32 << 20))
    config, rows = config_of(args), []
    return run_suite("backends", args, config, lambda console: measure(args, rows, console),
                     lambda: summarize(rows, config), show)


def measure(args, rows, console):
    """Append one row a run to `rows`, round by round."""
    cases = configurations(args.unit_pages)
    seconds = args.seconds

    def take(case):
        nonlocal seconds
        row, seconds = measure_one(args, cases[case], seconds)
        return row | {"progress": f"relocate {_ms(row['relocate_ms'])}, {row['cycles']} cycles "
                                  f"in {row['seconds']:.1f} s"}

    take_turns(args.rounds, cases, take, rows, console)


def measure_one(args, options, seconds):
    """(row, seconds): one run, repeated twice as long while it makes too few cycles."""
    while True:
        document = run_stress(StressConfig(
            workload=WORKLOAD, seconds=seconds, mutators=args.mutators, live=args.live,
            seed=args.seed, faults=args.faults, **options))
        if document.get("interrupted"):
            raise KeyboardInterrupt
        if document["cycles"] >= MIN_CYCLES or seconds >= MOST_SECONDS:
            return row_of(document), seconds
        seconds = min(2 * seconds, MOST_SECONDS)


def row_of(document):
    """What is kept of one run's document."""
    flip = document["pauses"]["by_phase"].get("relocate_start") or {}
    noise = document.get("noise_floor_us") or {}
    used = document["used_before_max_bytes"]
    return {
        "relocate_ms": document["relocate_ms"]["p50"],
        "cycles": document["cycles"],
        "seconds": document["seconds"],
        "relocate_start_p99_us": flip.get("p99_us"),
        "safepoint_p99_us": document["time_to_safepoint_us"]["p99"],
        "fault_p99_us": document["faults"]["p99_us"],
        "stall_ms": document["stalls"]["total_ms"],
        "noise_p99_us": noise.get("p99"),
        "resident_over_used": document["peak_heap_resident_bytes"] / used if used else None,
        "ops_per_s": document["ops_per_s"],
        "verified": document["verified"],
    }


def config_of(args):
    return {"workload": WORKLOAD, "live": args.live, "capacity": 2 * args.live,
            "rounds": args.rounds, "seconds": args.seconds, "mutators": args.mutators,
            "faults": args.faults, "unit_pages": args.unit_pages, "seed": args.seed,
            "min_cycles": MIN_CYCLES}


def summarize(runs, config):
    """The suite's part of the document: a pure function of the rows of `measure` (only whole
    rounds count)."""
    names = list(configurations(config["unit_pages"]))
    rounds = whole_rounds(runs, names)
    metrics = metrics_of(rounds, names, UNITS)
    metrics |= {f"move / {over}: relocate": metric("", "less", ratios(rounds, over))
                for over in names[1:]}

    def each(key):
        return {name: summary([row[name][key] for row in rounds
                               if row[name][key] is not None]) for name in names}

    return {
        "rounds": len(rounds),
        "metrics": metrics,
        "move_over_copy_single": summary(ratios(rounds, "copy_single")),
        "move_over_copy_batched": summary(ratios(rounds, "copy")),
        "heap_resident_over_used": each("resident_over_used"),
        **{key: each(key) for key in UNITS if key != "resident_over_used"},
        "runs": runs,
        "verified": all(row["verified"] for row in runs),
    }


def ratios(rounds, over):
    """Relocation time under move over that under another configuration, round by round."""
    return [row["move"]["relocate_ms"] / row[over]["relocate_ms"] for row in rounds
            if row["move"]["relocate_ms"] and row[over]["relocate_ms"]]


def show(document, console):
    """Print the document as two tables."""
    config = document["config"]
    rounds = counted(document["rounds"], "round")
    console.print(Text(
        f"churn, {format_size(config['live'])} live in {format_size(config['capacity'])}, "
        f"faults {config['faults']}, {rounds}, {describe(document)}"))
    console.print()
    columns = (("relocation", "relocate_ms", _ms), ("flip p99", "relocate_start_p99_us", _us),
               ("to safepoint", "safepoint_p99_us", _us), ("fault p99", "fault_p99_us", _us),
               ("stalled", "stall_ms", _ms), ("noise p99", "noise_p99_us", _us),
               ("resident/used", "heap_resident_over_used", _ratio))
    table = new_table()
    for header in ("", *(column[0] for column in columns)):
        table.add_column(header, justify="right" if header else "left", no_wrap=True)
    for name, label in LABELS.items():
        table.add_row(label, *(spread(document[key][name], form) for _, key, form in columns))
    console.print(table)
    console.print()
    ratios = new_table()
    for header in ("relocation time", "median", "low", "high"):
        ratios.add_column(header, justify="right" if ratios.columns else "left", no_wrap=True)
    for label, key in (("move / copy by page", "move_over_copy_single"),
                       ("move / copy", "move_over_copy_batched")):
        row = document[key]
        ratios.add_row(label, *(_ratio(row[part]) for part in ("median", "low", "high")))
    console.print(ratios)
    console.print()
    coverage = document["interval"]["coverage"]
    console.print(Text(f"low–high: bootstrap interval of the median, "
                       f"{100 * coverage:.0f} % coverage at {rounds}"))


def spread(row, form):
    """The median of a summary and, on a second line, its interval."""
    if row["median"] is None:
        return NOTHING
    return f"{form(row['median'])}\n{form(row['low'])}–{form(row['high'])}"


def _ms(value):
    return duration(None if value is None else value * 1e6)


def _us(value):
    return duration(None if value is None else value * 1e3)


def _ratio(value):
    return NOTHING if value is None else f"{value:.2f}"
