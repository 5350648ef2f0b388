"""`gcheap bench marking`: what more marking threads bring.

Two heaps with the same data, which differ in `mark_threads`, are alive at once and take turns, each
turn one forced cycle: A B with mutators that stand still, A B with running ones, and again.  Ratios
are formed inside a round and then summarized.
"""
from contextlib import ExitStack

from rich.text import Text

from gcheap.options import BY_NAME, format_size
from gcheap.provenance import describe
from gcheap.tools.arguments import (
    accepted,
    add_common,
    add_live,
    add_mutators,
    add_rounds,
    settle_heap_options,
    settled,
)
from gcheap.tools.bench_backends import spread
from gcheap.tools.intervals import summary
from gcheap.tools.suite import metric, run_suite
from gcheap.tools.tables import new_table
from gcheap.units import NOTHING, counted, duration

WORKLOAD = "churn"
HEAP_OPTIONS = ("backend", "unit_pages")
MUTATORS = ("idle", "busy")     # what the mutators do while a heap is marked
WARM_UP_ROUNDS = 2
HANDLES = 100


def add(suites):
    parser = suites.add_parser(
        "marking", help="one marking thread against several",
        description="Force cycles in turns on two heaps with the same data, one marked by one "
                    "thread, the other by several, and compare the times of Concurrent Mark, with "
                    "mutators that stand still and with running ones.")
    add_live(parser, 256 << 20, " of each heap")
    parser.add_argument("--threads", type=accepted(BY_NAME["mark_threads"].validate), default=2,
                        metavar="N", help="mark_threads of the second heap (default 2)")
    add_rounds(parser, 15, " of four cycles each")
    add_mutators(parser, " of each heap")
    add_common(parser, run, HEAP_OPTIONS, "of both heaps")


def run(args):
    """Measure and report; after Ctrl-C report the whole rounds there are."""
    settle_heap_options(args, HEAP_OPTIONS)
    rounds, outcome = [], {}
    return run_suite("marking", args, config_of(args),
                     lambda console: measure(args, rounds, outcome, console),
                     lambda: summarize(rounds, outcome), show)


def measure(args, rounds, outcome, console):
    """Appends to `rounds` dicts {mutators: (ns of Concurrent Mark with one thread, and with
    several)}."""
    from gcheap.workloads.turns import TurnTaker

    with ExitStack() as stack:
        takers = []
        for threads in (1, args.threads):
            taker = TurnTaker(args.live, mutators=args.mutators, handles=HANDLES, seed=args.seed,
                              mark_threads=threads,
                              **settled(args, HEAP_OPTIONS))
            stack.callback(taker.close)
            takers.append(taker)
            taker.populate()
            console.print(Text(f"{format_size(args.live)}, mark_threads={threads}: populated"))
        for number in range(1 - WARM_UP_ROUNDS, args.rounds + 1):
            done = {what: tuple(mark_ns(taker, what) for taker in takers) for what in MUTATORS}
            if number > 0:
                rounds.append(done)
            if number > 0 and (number % 5 == 0 or number == args.rounds):
                console.print(Text(f"round {number}/{args.rounds}"))
        outcome["backend"] = takers[0].heap.backend
        outcome["marker_bytes"] = takers[1].heap.stats().marker_bytes
        audits = [taker.audit() for taker in takers]
        outcome["verified"] = all(audits)


def mark_ns(taker, what):
    """One turn: the time from Mark Start to Mark End of its cycle."""
    turn = taker.turn(idle=what == "idle")
    cycles = taker.heap.cycles()
    return int(cycles["mark_ns"][cycles["cycle"] == turn.cycle][0])


def config_of(args):
    return {"workload": WORKLOAD, "live": args.live, "threads": args.threads,
            "rounds": args.rounds, "mutators": args.mutators, "policy": "fixed",
            "seed": args.seed, "warm_up_rounds": WARM_UP_ROUNDS,
            **settled(args, HEAP_OPTIONS)}


def summarize(rounds, outcome):
    """The suite's part of the document: a pure function of what was measured."""
    metrics = {}
    for what in MUTATORS:
        pairs = [done[what] for done in rounds]
        metrics |= {
            f"{what} mutators: 1 thread": metric("ms", "less", [one / 1e6 for one, _ in pairs]),
            f"{what} mutators: several threads": metric(
                "ms", "less", [several / 1e6 for _, several in pairs]),
            f"{what} mutators: times shorter": metric(
                "", "more", [one / several for one, several in pairs]),
        }
    return {
        "rounds": len(rounds),
        "metrics": metrics,
        "backend": outcome.get("backend"),
        "marker_bytes": outcome.get("marker_bytes"),
        "verified": bool(outcome.get("verified")),
        "mutators": {what: compared([done[what] for done in rounds]) for what in MUTATORS},
    }


def compared(pairs):
    """Milliseconds with one thread and with several, and how many times shorter that is."""
    return {"one_ms": summary([one / 1e6 for one, _ in pairs]),
            "several_ms": summary([several / 1e6 for _, several in pairs]),
            "speedup": summary([one / several for one, several in pairs])}


def show(document, console):
    config = document["config"]
    console.print(Text(
        f"{config['workload']}, {format_size(config['live'])} live, {config['mutators']} mutators, "
        f"backend {document['backend']}, {counted(document['rounds'], 'round')} in turns, "
        f"{describe(document)}"))
    console.print()
    table = new_table()
    for header in ("mutators", "1 thread", f"{config['threads']} threads", "times shorter"):
        table.add_column(header, justify="right" if table.columns else "left", no_wrap=True)
    for what, row in document["mutators"].items():
        table.add_row(what, spread(row["one_ms"], _ms), spread(row["several_ms"], _ms),
                      spread(row["speedup"], _ratio))
    console.print(table)


def _ms(value):
    return duration(None if value is None else value * 1e6)


def _ratio(value):
    return NOTHING if value is None else f"{value:.2f}"
