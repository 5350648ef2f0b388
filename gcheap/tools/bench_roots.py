"""`gcheap bench roots`: what one more root adds to the pauses.

One heap for each kind and number of roots, all alive at once, the objects that they lead to always
the same number.  They take turns, each turn one forced cycle while no mutator runs.
"""
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from rich.text import Text

import gcheap
from gcheap.errors import OptionError
from gcheap.options import format_size
from gcheap.provenance import describe
from gcheap.text import shown
from gcheap.tools.arguments import accepted, add_common, add_rounds, settle_heap_options, settled
from gcheap.tools.suite import (
    metric,
    metrics_of,
    noise_line,
    run_suite,
    take_turns,
    whole_rounds,
)
from gcheap.tools.tables import new_table
from gcheap.units import NOTHING, counted, duration, number, three_digits
from gcheap.workloads.memory import room

KINDS = ("handles", "shadow", "area", "weak")
LABELS = {"handles": "handles", "shadow": "shadow-stack words", "area": "words of a root area",
          "weak": "weak cells"}
COUNTS = "1000,10000,100000,1000000"
MOST_ROOTS = 1_000_000          # a shadow stack holds a few more
OBJECTS = 65_536                # that the roots lead to
OBJECT_BYTES = 32
CAPACITY = 16 << 20
BYTES_A_ROOT = 64               # of tables, with room to spare
PHASES = ("mark_start", "mark_end", "relocate_start", "full")
HEAP_OPTIONS = ("backend", "faults", "unit_pages")
WARM_UP_TURNS = 2               # not counted: each half and each table is touched once
NOISE_SECONDS = 0.5
UNITS = ({f"{phase}_us": ("µs", "less") for phase in PHASES}
         | {"pauses_us": ("µs", "less"), "safepoint_us": ("µs", "less"),
            "stall_us": ("µs", "less"), "fault_waits": ("", "less")})


@dataclass(frozen=True)
class Case:
    kind: str
    count: int

    def __str__(self):
        return f"{self.count} {self.kind}"


def parse_counts(text):
    """Two or more different numbers, in rising order; OptionError."""
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if len(found) < 2 or not all(1 <= count <= MOST_ROOTS for count in found):
        raise OptionError(f"{shown(text)}: expected two or more numbers from 1 to "
                          f"{MOST_ROOTS:,}, such as {COUNTS}")
    return found


def parse_kinds(text):
    parts = text.split(",")
    if not set(parts) <= set(KINDS):
        raise OptionError(f"{shown(text)}: expected some of {','.join(KINDS)}")
    return [kind for kind in KINDS if kind in parts]


def add(suites):
    parser = suites.add_parser(
        "roots", help="pauses against the number of roots: ns a root",
        description="Force cycles in turns on heaps that differ in the kind and number of their "
                    "roots only. Exit status: 0 done, 1 a root led somewhere else afterwards, "
                    "2 it could not run, 130 interrupted (whole rounds are shown).")
    parser.add_argument("--counts", type=accepted(parse_counts), default=parse_counts(COUNTS),
                        metavar="N,N...", help=f"numbers of roots (default {COUNTS})")
    parser.add_argument("--kinds", type=accepted(parse_kinds), default=list(KINDS),
                        metavar="KIND,...", help=f"some of {','.join(KINDS)} (default all)")
    add_rounds(parser, 20, ", one cycle of each heap in each")
    add_common(parser, run, HEAP_OPTIONS)


def run(args):
    """Run the rounds; after Ctrl-C report the whole rounds there are."""
    settle_heap_options(args, HEAP_OPTIONS)
    cases = {str(case): case for case in
             (Case(kind, count) for kind in args.kinds for count in args.counts)}
    check_memory(cases.values(), room(with_swap=False).available)
    config = {"kinds": args.kinds, "counts": args.counts, "rounds": args.rounds,
              "objects": OBJECTS, "capacity": CAPACITY, "warm_up_turns": WARM_UP_TURNS,
              **settled(args, HEAP_OPTIONS)}
    rows, wrong = [], {}

    def measure(console):
        with ExitStack() as stack:
            takers = {}
            for name, case in cases.items():
                takers[name] = Taker(case, settled(args, HEAP_OPTIONS))
                stack.callback(takers[name].close)
            for _ in range(WARM_UP_TURNS):
                for taker in takers.values():
                    taker.take()
            take_turns(args.rounds, cases, lambda name: takers[name].take(), rows, console)
            wrong.update({name: taker.wrong() for name, taker in takers.items()})

    return run_suite("roots", args, config, measure, lambda: summarize(rows, cases, wrong), show,
                     noise_seconds=NOISE_SECONDS)


def check_memory(cases, available):
    need = sum(3 * OBJECTS * OBJECT_BYTES + BYTES_A_ROOT * case.count for case in cases)
    if need > available:
        raise OptionError(f"--counts: {len(list(cases))} heaps take about {format_size(need)}, "
                          f"and {format_size(available)} are available; give fewer")


class Taker:
    """A heap with its roots; `take` is one turn of it."""

    def __init__(self, case, options):
        from gcheap.workloads._roots import Roots

        self.heap = gcheap.Heap(CAPACITY, policy="fixed", stall_warning_ms=0, **options)
        self.mutator = self.heap.attach("roots")
        raw = [("filler", f"V{OBJECT_BYTES - 8}")]
        shape = self.heap.shape("Object", raw=raw)
        self.roots = Roots(self.mutator, case.kind, shape.id, OBJECTS, case.count)
        self.count = case.count

    def take(self):
        """One forced cycle: the µs of its pauses, and how soon safepoints were reached."""
        before = self.heap.stats()
        self.heap.collect()
        after = self.heap.stats()
        pauses = self.heap.pauses()
        pauses = pauses[pauses["cycle"] == self.heap.cycles()["cycle"][-1]]
        work = {phase: pauses["work_ns"][pauses["phase"] == phase] for phase in PHASES}
        row = {f"{phase}_us": float(ns.sum()) / 1e3 for phase, ns in work.items() if len(ns)}
        total = float(pauses["work_ns"].sum()) / 1e3
        return row | {"pauses_us": total,
                      "safepoint_us": float(pauses["reach_ns"].max()) / 1e3,
                      "stall_us": (after.stall_ns - before.stall_ns) / 1e3,
                      "fault_waits": after.fault_waits - before.fault_waits,
                      "progress": f"pauses {duration(total * 1e3)}"}

    def wrong(self):
        """How many roots are not there, or lead to another object."""
        held, astray = self.roots.check()
        return self.count - held + astray

    def close(self):
        self.roots.release()
        self.mutator.detach()
        self.heap.close()


def summarize(rows, cases, wrong):
    """The suite's part of the document: a pure function of the rows."""
    rounds = whole_rounds(rows, cases)
    found = metrics_of(rounds, cases, UNITS)
    metrics = {name: row for name, row in found.items() if row["values"]}
    for kind in dict.fromkeys(case.kind for case in cases.values()):
        of_kind = {name: case.count for name, case in cases.items() if case.kind == kind}
        for phase in (*PHASES, "pauses"):
            slopes = [slope(of_kind, turn, f"{phase}_us") for turn in rounds]
            if any(value is not None for value in slopes):
                metrics[f"{kind}: {phase.replace('_', ' ')}, ns a root"] = metric(
                    "ns", "less", slopes)
    return {
        "rounds": len(rounds),
        "metrics": metrics,
        "cases": [{"case": name, "kind": case.kind, "count": case.count}
                  for name, case in cases.items()],
        "roots_astray": wrong,
        "runs": rows,
        "verified": not any(wrong.values()),
    }


def slope(counts, turn, key):
    """ns that one more root adds, by least squares over the numbers of roots of a round; None when
    a cycle had no such pause."""
    values = [turn[name].get(key) for name in counts]
    if None in values:
        return None
    rise, _ = np.polyfit(np.array(list(counts.values()), float), np.array(values) * 1e3, 1)
    return float(rise)


# ---- the tables --------------------------------------------------------------------------

def show(document, console):
    """Print pauses by number of roots, a table a kind, and the ns a root."""
    config, metrics = document["config"], document["metrics"]
    console.print(Text(f"{counted(document['rounds'], 'round')} in turns, medians, "
                       f"{config['objects']:,} objects, {describe(document)}"))
    for kind in config["kinds"]:
        console.print()
        table = new_table()
        for header in (LABELS[kind], *map(number, config["counts"]), "ns a root"):
            table.add_column(header, justify="right" if table.columns else "left", no_wrap=True)
        for phase in (*PHASES, "pauses"):
            rate = metrics.get(f"{kind}: {phase.replace('_', ' ')}, ns a root")
            if rate is not None:
                label = "all pauses" if phase == "pauses" else f"pause: {phase.replace('_', ' ')}"
                table.add_row(label, *_cells(document, kind, phase), _rate(rate))
        table.add_section()
        table.add_row("time to safepoint", *_cells(document, kind, "safepoint"), NOTHING)
        console.print(table)
    console.print()
    console.print(noise_line(document))
    stalled = sum(row["stall_us"] for row in document["runs"])
    waits = sum(row["fault_waits"] for row in document["runs"])
    console.print(Text(f"no mutator ran beside the pauses: stalled {duration(stalled * 1e3)}, "
                       f"{waits} fault waits"))
    if not document["verified"]:
        console.print(Text(f"roots that lead somewhere else: {document['roots_astray']}",
                           style="bold red"))


def _cells(document, kind, phase):
    metrics = document["metrics"]
    rows = [metrics.get(f"{Case(kind, count)}: {phase.replace('_', ' ')} us")
            for count in document["config"]["counts"]]
    return [NOTHING if row is None else
            f"{duration(row['median'] * 1e3)}\n"
            f"{duration(row['low'] * 1e3)}–{duration(row['high'] * 1e3)}" for row in rows]


def _rate(row):
    return (f"{three_digits(row['median'])}\n"
            f"{three_digits(row['low'])}–{three_digits(row['high'])}")
