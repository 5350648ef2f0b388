"""`gcheap bench peers`: the same three programs under gcheap and under other systems.

Each system runs a small program of its own that does the same operations on the same data, so that
checksums agree (gcheap.tools.peers; benchmarks/peers).  A round runs everything once, in turns.
"""
import tempfile
from pathlib import Path

from rich.padding import Padding
from rich.text import Text

from gcheap.errors import OptionError
from gcheap.options import format_size, plain_float
from gcheap.provenance import describe
from gcheap.tools.arguments import (
    accepted,
    add_json,
    add_rounds,
    add_seed,
    positive_int,
    positive_seconds,
    size_argument,
)
from gcheap.tools.peers import runs
from gcheap.tools.peers.programs import Unavailable
from gcheap.tools.peers.systems import MODES, all_systems
from gcheap.tools.suite import metrics_of, noise_line, run_suite, whole_rounds
from gcheap.tools.tables import new_table
from gcheap.units import NOTHING, counted, duration, number, percent, size
from gcheap.workloads.memory import room

LEAST_LIVE = 1 << 20
MOST_LIVE = 1 << 40
FULL_HEAP = 4                   # times the live bytes: twice of it is built, and half dies
MOST_EXPANSION = 6              # what CPython's objects take, over their bytes here, and more
FULL_REPETITIONS = 3
SETTLING_SECONDS = 600          # population, warm-up and audits of a run
UNITS = {
    "churn": {"ops_per_s": ("/s", "more"), "p50_us": ("µs", "less"), "p99_us": ("µs", "less"),
              "p99_9_us": ("µs", "less"), "max_us": ("µs", "less"),
              "pause_max_us": ("µs", "less"), "mmu_10ms": ("", "more"), "mmu_50ms": ("", "more"),
              "peak_rss_bytes": ("B", "less"), "reach_p99_us": ("µs", "less"),
              "reach_max_us": ("µs", "less"), "stalls": ("", "less"),
              "stall_max_us": ("µs", "less"), "stall_total_ms": ("ms", "less"),
              "faults": ("", None), "fault_waits": ("", "less"), "fault_p99_us": ("µs", "less"),
              "fault_max_us": ("µs", "less")},
    "full": {"compacted_bytes_per_s": ("B/s", "more"), "pause_max_us": ("µs", "less"),
             "peak_rss_bytes": ("B", "less")},
}
UNITS["trees"] = UNITS["churn"]
NOT_COMPARABLE = (
    "Heap sizes are what each system was given; the same object takes different room in each: as "
    "many bytes as here in gcheap and OCaml, 0 to 50 % more in a JVM, Go and bdwgc, several times "
    "in CPython and PyPy. CPython has no limit, OCaml, Go and PyPy a factor over what lives.",
    "Threads that collect: gcheap marks and compacts with one of its own (mark_threads in its "
    "flags), beside it mutators that fault; the JVMs, Go and bdwgc take as many as they choose for "
    "the number of CPUs; OCaml, PyPy and CPython collect on the one that runs. CPU time is not "
    "compared.",
    "Warm-up of a JIT: churn runs the operations of --warm-up before it is measured; trees and "
    "full build their data, and have no other: the JVMs and PyPy compile while they are measured.",
    "OCaml is compiled without checks of bounds (-unsafe), C has none; Java, Go and Python have "
    "theirs.",
    "Own pauses are what each calls one: a JVM its safepoint operations, without allocation stalls "
    "and without waiting for threads to stop; Go two per cycle, without assists; bdwgc, CPython "
    "and PyPy whole collections, or steps of them; OCaml tells none. The operations tell what a "
    "program feels.",
    "Waits are told by gcheap and, but for faults, by a JVM's log; stalls by ZGC alone: in the "
    "others' pauses they are contained, or nobody counts them. A fault that waits found another "
    "thread building its page; times of faults are of the whole run, with population and audit.",
    "MB/s is live data, as gcheap lays it out, over the time of a forced full collection with half "
    "of the objects dead. What does not move objects (moves: no) compacts nothing and only frees; "
    "CPython's time includes freeing by reference counts. Own "
    "pauses of full are those within its forced collections.",
    "gcheap and bdwgc run C, the others what their languages have: throughput compares whole "
    "systems, not collectors. Peak RSS includes each runtime: gcheap's has a Python interpreter.",
)


def parse_multiples(text):
    """Different factors above 1, in falling order; OptionError."""
    try:
        found = sorted({plain_float(part) for part in text.split(",")}, reverse=True)
    except ValueError:
        found = [0.0]
    if not all(1 < multiple <= 100 for multiple in found):
        raise OptionError(f"{text!r}: expected numbers above 1 and up to 100, such as 4,2,1.3")
    return found


def parse_modes(text):
    parts = text.split(",")
    if not set(parts) <= set(MODES):
        raise OptionError(f"{text!r}: expected some of {','.join(MODES)}")
    return [mode for mode in MODES if mode in parts]


def parse_live(text):
    live = size_argument(text)
    if not LEAST_LIVE <= live <= MOST_LIVE:
        raise OptionError(f"{format_size(live)}: expected {format_size(LEAST_LIVE)} to "
                          f"{format_size(MOST_LIVE)}")
    return live


def add(suites):
    parser = suites.add_parser(
        "peers", help="gcheap beside JVMs, bdwgc, Go, OCaml, PyPy, CPython: the same programs",
        description="Run churn, trees and a forced full collection under gcheap and under every "
                    "other system that is installed. Exit status: 0 done and all data as it should "
                    "be everywhere, 1 a checksum or a check differs, 2 it could not run, "
                    "130 interrupted.")
    parser.add_argument("--live", type=accepted(parse_live), default=256 << 20, metavar="SIZE",
                        help="live bytes, as gcheap lays objects out (default 256MiB)")
    parser.add_argument("--heap", type=accepted(parse_multiples), default=[2.0],
                        metavar="N,N...", help="sizes of the heap, times the live bytes "
                                               f"(default 2; full always has {FULL_HEAP})")
    parser.add_argument("--modes", type=accepted(parse_modes), default=list(MODES),
                        metavar="MODE,...", help=f"some of {','.join(MODES)} (default all)")
    parser.add_argument("--systems", metavar="NAME,...",
                        help="only systems whose name begins so, such as gcheap,ZGC,Go "
                             "(default all)")
    add_rounds(parser, 3)
    parser.add_argument("--seconds", type=positive_seconds, default=5.0, metavar="S",
                        help="measured seconds of churn and trees (default 5)")
    parser.add_argument("--warm-up", type=positive_int, default=100_000, metavar="N",
                        help="operations of churn before, after which checksums are compared "
                             "(default 100000)")
    add_seed(parser, "of every program")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args):
    """Run the rounds; after Ctrl-C report the whole rounds there are."""
    systems = chosen(args.systems)
    check_memory(args.live, args.heap, room(with_swap=False).available)
    if not 0 <= args.seed < 1 << 32:
        raise OptionError(f"--seed {args.seed}: expected a whole number from 0 to {(1 << 32) - 1}")
    config = {"live": args.live, "heap": args.heap, "modes": args.modes, "rounds": args.rounds,
              "seconds": args.seconds, "warm_up": args.warm_up, "seed": args.seed,
              "full_heap": FULL_HEAP, "full_repetitions": FULL_REPETITIONS}
    state = Peers(config, systems)
    return run_suite("peers", args, config, state.measure, state.summarize, show,
                     noise_seconds=min(1.0, args.seconds))


def chosen(names):
    """The systems that were asked for; OptionError."""
    systems = all_systems()
    if names is None:
        return systems
    wanted = [name.strip().lower() for name in names.split(",")]
    for name in wanted:
        if not name or not any(system.name.lower().startswith(name) for system in systems):
            raise OptionError(f"--systems {name!r}: expected some of "
                              f"{', '.join(system.name for system in systems)}")
    return [system for system in systems if system.name.lower().startswith(tuple(wanted))]


def check_memory(live, multiples, available):
    need = round(live * max(FULL_HEAP, MOST_EXPANSION, *multiples))
    if need > available:
        raise OptionError(f"--live {format_size(live)}: some systems would take "
                          f"{format_size(need)}, and {format_size(available)} are available; "
                          f"give less")


class Peers:
    """What is measured, and what came of it."""

    def __init__(self, config, systems):
        self.config = config
        self.systems = systems
        self.rows = []          # of runs that succeeded: round, case, figures
        self.missing = {}       # system: why there is nothing of it
        self.failed = {}        # case: why
        self.versions = {}
        self.checksums = {}     # mode: {system: checksum}
        self.notes = {}         # case: what its last run had to say
        self.settings = {}      # case: what its last run found out about how it was set

    def cases(self):
        """{name: (system, mode, multiple)} of everything that runs, in turn."""
        return {f"{system.name}, {mode}, {multiple:g}x": (system, mode, multiple)
                for mode in self.config["modes"]
                for multiple in ([FULL_HEAP] if mode == "full" else self.config["heap"])
                for system in self.systems if mode in system.modes}

    def measure(self, console):
        with tempfile.TemporaryDirectory(prefix="gcheap-peers-") as name:
            folder = Path(name)
            self.build(folder, console)
            for turn in range(1, self.config["rounds"] + 1):
                for case, what in self.cases().items():
                    if what[0].name not in self.missing and case not in self.failed:
                        self.take(turn, case, what, folder, console)

    def build(self, folder, console):
        for system in self.systems:
            try:
                system.build(folder)
            except Unavailable as why:
                self.missing[system.name] = str(why)
                console.print(Text(f"{system.name}: not here: {why}"))

    def take(self, turn, case, what, folder, console):
        system, mode, multiple = what
        config = self.config
        count = FULL_REPETITIONS if mode == "full" else config["warm_up"]
        sizes = (config["live"], round(config["live"] * multiple), count, config["seconds"],
                 config["seed"])
        try:
            found, pauses = runs.run(system, mode, sizes, folder,
                                     config["seconds"] + SETTLING_SECONDS)
        except Unavailable as why:
            self.failed[case] = str(why)
            self.versions.setdefault(system.name, why.version)
            console.print(Text(f"round {turn}/{config['rounds']}  {case}: {why}"))
            return
        row = runs.figures(mode, found, pauses)
        self.versions[system.name] = found.version
        self.notes[case] = found.notes
        self.settings[case] = found.settings
        self.checksums.setdefault(mode, {})[system.name] = found.checksum
        self.rows.append({"round": turn, "case": case, **row})
        what = (f"{size(row['compacted_bytes_per_s'])}/s" if mode == "full"
                else f"{number(row['ops_per_s'])} ops/s, longest {_us(row['max_us'])}")
        console.print(Text(f"round {turn}/{config['rounds']}  {case}: {what}"))

    def summarize(self):
        """The suite's part of the document."""
        cases = {case: what for case, what in self.cases().items()
                 if what[0].name not in self.missing and case not in self.failed}
        rounds = whole_rounds([row for row in self.rows if row["case"] in cases], cases)
        metrics = {}
        for case, (_, mode, _) in cases.items():
            metrics |= {name: row for name, row in
                        metrics_of(rounds, [case], UNITS[mode]).items() if row["values"]}
        agree = {mode: len(set(sums.values())) == 1 for mode, sums in self.checksums.items()}
        damaged = [case for case, why in self.failed.items() if "damaged" in why]
        return {
            "rounds": len(rounds),
            "metrics": metrics,
            "cases": [{"case": case, "system": system.name, "mode": mode, "heap": multiple,
                       "flags": self.flags(case, system, multiple),
                       "failed": self.failed.get(case), "notes": self.notes.get(case, [])}
                      for case, (system, mode, multiple) in self.cases().items()
                      if system.name not in self.missing],
            "systems": [{"name": system.name, "version": self.versions.get(system.name),
                         "moves": system.moves, "missing": self.missing.get(system.name),
                         "compiled": system.compiled()}
                        for system in self.systems],
            "checksums": self.checksums,
            "checksums_agree": agree,
            "not_comparable": list(NOT_COMPARABLE),
            "runs": self.rows,
            "verified": all(agree.values()) and not damaged,
        }

    def flags(self, case, system, multiple):
        """What a case ran with: what it was given, and what it says that it found."""
        live = self.config["live"]
        given = system.describe(live, round(live * multiple))
        return " ".join(part for part in (given, self.settings.get(case)) if part)


# ---- the tables --------------------------------------------------------------------------

COLUMNS = (("ops/s", "ops per s", number), ("p50", "p50 us", "us"), ("p99", "p99 us", "us"),
           ("p99.9", "p99 9 us", "us"), ("max", "max us", "us"),
           ("own pause", "pause max us", "us"), ("MMU 50ms", "mmu 50ms", percent),
           ("peak RSS", "peak rss bytes", size))
FULL = (("MB/s", "compacted bytes per s", "mb"), ("own pause", "pause max us", "us"),
        ("peak RSS", "peak rss bytes", size))
WAITS = (("reach p99", "reach p99 us", "us"), ("reach max", "reach max us", "us"),
         ("stalls", "stalls", number), ("stall max", "stall max us", "us"),
         ("faults", "faults", number), ("waiting", "fault waits", number),
         ("fault p99", "fault p99 us", "us"), ("fault max", "fault max us", "us"))


def show(document, console):
    """Print the tables, what each row is, whether checksums agree, and what does not compare."""
    config = document["config"]
    console.print(Text(f"{format_size(config['live'])} live, one mutator, "
                       f"{counted(document['rounds'], 'round')} in turns, medians, "
                       f"{describe(document)}"))
    console.print()
    modes = {case["mode"] for case in document["cases"]}
    for wanted, columns in ((modes - {"full"}, COLUMNS), (modes & {"full"}, FULL)):
        if wanted:
            console.print(table(document, wanted, columns))
            console.print()
    console.print(waits_table(document))
    console.print(Text("reach: from asking mutators to stop until all had (time to safepoint); "
                       "waiting: faults that found another thread building the page"))
    console.print()
    console.print(noise_line(document))
    console.print()
    for system in document["systems"]:
        if system["missing"]:
            console.print(Text(f"{system['name']}: not measured: {system['missing']}"))
            continue
        console.print(Text(f"{system['name']}: version {system['version'] or 'not told'}, "
                           f"moves: {system['moves']}, compiled by: {system['compiled']}"))
        for heap, flags in flags_of(document, system["name"]).items():
            console.print(Padding(Text(f"{heap}: {flags}"), (0, 0, 0, 4)))
    console.print()
    for case in document["cases"]:
        if case["failed"]:
            console.print(Text(f"{case['case']}: {case['failed']}", style="yellow"))
    for case in document["cases"]:
        for note in case["notes"]:
            console.print(Text(f"{case['case']}: {note}"))
    console.print()
    for mode, agree in document["checksums_agree"].items():
        sums = document["checksums"][mode]
        console.print(Text(f"{mode}: checksum {next(iter(sums.values()))} in all {len(sums)} "
                           "systems", style="green") if agree else
                      Text(f"{mode}: checksums DIFFER: {sums}", style="bold red"))
    console.print()
    for note in document["not_comparable"]:
        console.print(Text(f"* {note}"))


def flags_of(document, name):
    """{"2x": flags}: how a system ran at each size of the heap."""
    found = {}
    for case in document["cases"]:
        if case["system"] == name:
            sizes = found.setdefault(f"{case['heap']:g}x", [])
            if case["flags"] not in sizes:
                sizes.append(case["flags"])
    return {heap: "; ".join(flags) for heap, flags in found.items()}


def table(document, modes, columns):
    """Sections of one workload at one heap size, a row a system."""
    made = _empty("", columns)
    metrics, section = document["metrics"], None
    for case in document["cases"]:
        if case["mode"] not in modes:
            continue
        if section != (case["mode"], case["heap"]):
            section = case["mode"], case["heap"]
            made.add_section()
            made.add_row(Text(f"{case['mode']}, {case['heap']:g}x", style="bold"))
        if case["failed"]:
            made.add_row(case["system"], "failed")
        else:
            made.add_row(case["system"], *_cells(metrics, case, columns))
    return made


def waits_table(document):
    """What programs waited for beside pauses; a row for each that tells of it."""
    made = _empty("waits", WAITS)
    for case in document["cases"]:
        cells = _cells(document["metrics"], case, WAITS)
        if set(cells) != {NOTHING}:
            made.add_row(f"{case['system']}, {case['mode']}, {case['heap']:g}x", *cells)
    return made


def _empty(title, columns):
    made = new_table()
    made.add_column(title, no_wrap=True)
    for header, _, _ in columns:
        made.add_column(header, justify="right", no_wrap=True)
    return made


def _cells(metrics, case, columns):
    return [_cell(metrics.get(f"{case['case']}: {key}"), form) for _, key, form in columns]


def _cell(row, form):
    value = row and row["median"]
    if value is None:
        return NOTHING
    if form == "us":
        return _us(value)
    return number(value / 1e6) if form == "mb" else form(value)


def _us(value):
    return duration(None if value is None else value * 1e3)
