"""`gcheap bench lox`: Lox on a gcheap heap against lua5.4 and CPython, on equivalent programs.

The programs are in gcheap/tools/lox_programs: the same algorithm in each language, and each checks
its own result.  Every run is a process of its own, and the languages take turns, program by
program: Lox, Lua, Python, Lox, Lua, Python, ...  Compared is the wall time of what a language does
with the program, without what comes before it: of Lua and Python that is the wall time of the
process less the median of the language's start (an empty program, which takes its turns too); of
Lox what its report says, from making the heap to the end, because its start, which is mostly
Python's, is not small beside a program, and writing the report comes on top.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from statistics import median

from rich.text import Text

import gcheap
from gcheap.errors import GcheapError, OptionError
from gcheap.options import format_size
from gcheap.provenance import describe
from gcheap.text import shown
from gcheap.tools.arguments import accepted, add_common, positive_int, settle_heap_options
from gcheap.tools.intervals import ratio
from gcheap.tools.processes import run_to_end
from gcheap.tools.suite import metrics_of, noise_line, run_suite, take_turns, whole_rounds
from gcheap.tools.tables import new_table
from gcheap.units import NOTHING, counted, duration

# The sizes with which lua5.4 takes some tenths of a second; CALLS are bound by calls.
SIZES = {"fib": 35, "method_calls": 1_500_000, "properties": 1_000_000,
         "string_equality": 600_000, "instantiation": 2_000_000, "binary_trees": 16,
         "nqueens": 12}
SMALLEST = {"method_calls": 6, "binary_trees": 4}
LARGEST = {"nqueens": 12, "fib": 60, "binary_trees": 24}
START = "start"                 # the empty program
LUA = "lua5.4"
LANGUAGES = {"lox": "Lox", "lua": "Lua", "python": "Python"}
SUFFIXES = {"lox": "lox", "lua": "lua", "python": "py"}
CAPACITY = 64 << 20             # so that there is something to collect
HEAP_OPTIONS = ("backend", "faults", "capacity")
UNITS = {"seconds": ("s", "less"), "process_seconds": ("s", "less"), "cpu_seconds": ("s", "less"),
         "peak_rss_bytes": ("B", "less"), "longest_pause_us": ("µs", "less"),
         "longest_to_safepoint_us": ("µs", "less"), "stall_ms": ("ms", "less")}
NOISE_SECONDS = 0.5


class ProgramFailed(GcheapError, RuntimeError):
    """A program ended with an error or with a wrong result; says which and what it said."""


def parse_size_of(text):
    """("fib", 20) of "fib=20"; OptionError."""
    name, _, number = text.partition("=")
    if name not in SIZES or not re.fullmatch("[0-9]{1,12}", number):
        raise OptionError(f"{shown(text)}: expected PROGRAM=N, where PROGRAM is one of "
                          f"{', '.join(SIZES)}")
    size, least = int(number), SMALLEST.get(name, 1)
    most = LARGEST.get(name, 10 ** 9)
    if not least <= size <= most:
        raise OptionError(f"{shown(text)}: expected a size from {least} to {most}")
    if name == "method_calls" and size % 6:
        raise OptionError(f"{shown(text)}: expected a multiple of 6")
    return name, size


def parse_programs(text):
    """Names of programs, separated by commas; OptionError."""
    chosen = text.split(",")
    for name in chosen:
        if name not in SIZES:
            raise OptionError(f"{shown(name)} is none of the programs {', '.join(SIZES)}")
    return [name for name in SIZES if name in chosen]


def add(suites):
    parser = suites.add_parser(
        "lox", help="Lox on this heap against lua5.4 and CPython",
        description="Run equivalent programs in Lox, Lua and Python, in turns, each in a fresh "
                    "process, and compare their times.")
    parser.add_argument("--programs", type=accepted(parse_programs), default=list(SIZES),
                        metavar="NAME,NAME...", help=f"only these of {', '.join(SIZES)}")
    parser.add_argument("--size", type=accepted(parse_size_of), action="append", default=[],
                        metavar="PROGRAM=N", help="another size of a program")
    parser.add_argument("--rounds", type=positive_int, default=7, metavar="N",
                        help="runs of each program in each language (default 7)")
    add_common(parser, run, HEAP_OPTIONS)


def run(args):
    """Run the rounds; after Ctrl-C report the whole rounds there are."""
    if args.capacity is None and "GCHEAP_CAPACITY" not in os.environ:
        args.capacity = CAPACITY
    settle_heap_options(args, HEAP_OPTIONS)
    sizes = {name: (SIZES | dict(args.size))[name] for name in args.programs}
    with tempfile.TemporaryDirectory(prefix="gcheap-bench-lox-") as place:
        bench = Bench(Path(place), sizes, args)
        config = {"sizes": sizes, "rounds": args.rounds, "capacity": args.capacity,
                  "backend": args.backend, "faults": args.faults, "verify": 0,
                  "languages": bench.languages, "skipped": bench.skipped}
        return run_suite("lox", args, config, bench.measure,
                         lambda: summarize(bench.rows, config), show,
                         noise_seconds=NOISE_SECONDS)


# ---- measuring ---------------------------------------------------------------------------

class Bench:
    """The programs in a temporary directory, and what was measured of them."""

    def __init__(self, place, sizes, args):
        self.place, self.sizes, self.args = place, sizes, args
        self.report = place / "report.json"
        self.languages, self.skipped = languages(args, self.report)
        self.rows = []
        for language in self.languages:
            suffix = SUFFIXES[language]
            (place / f"{START}.{suffix}").write_text("")
            for name, size in sizes.items():
                (place / f"{name}.{suffix}").write_text(sized(source_of(name, suffix), size))

    def measure(self, console):
        for language, why in self.skipped.items():
            console.print(Text(f"{LANGUAGES[language]} is skipped: {why}"))
        take_turns(self.args.rounds, cases_of(self.sizes, self.languages), self.take, self.rows,
                   console)

    def take(self, case):
        """One process: its times, its peak, and of Lox the longest pause of its heap."""
        name, language = case.split(" ")
        program = self.place / f"{name}.{SUFFIXES[language]}"
        row, said, complaint = run_process(
            [*self.languages[language]["command"], str(program)], self.place)
        if row.pop("status") or said != ("" if name == START else "right\n"):
            raise ProgramFailed(f"{program.name} failed, it said: "
                                f"{shown(' '.join((said + complaint).split())[:300])}")
        if language == "lox":
            report = json.loads(self.report.read_text())
            row["seconds"] = report["seconds"]
            row["longest_pause_us"] = report["longest_pause_us"]
            row["longest_to_safepoint_us"] = report["longest_to_safepoint_us"]
            row["stall_ms"] = report["stalls"]["total_ms"]
            row["fault_waits"] = report["fault_waits"]
            self.report.unlink()
        return row | {"progress": duration(row["process_seconds"] * 1e9)}


def cases_of(sizes, names):
    """What takes turns: "fib lox", "fib lua", ..."""
    return [f"{name} {language}" for name in (START, *sizes) for language in names]


def languages(args, report):
    """({language: {version, command}}, {language: why it is left out}), in the order of turns."""
    options = [f"--{name}={getattr(args, name)}" for name in HEAP_OPTIONS]
    found = {"lox": {
        "version": f"gcheap {gcheap.__version__}",
        "command": [sys.executable, "-m", "gcheap", "lox", *options, "--verify=0",
                    f"--json={report}"]}}
    skipped = {}
    lua = shutil.which(LUA)
    if lua is None:
        skipped["lua"] = f"{LUA} is not installed (Debian's package {LUA})"
    else:
        found["lua"] = {"version": version_of([lua, "-v"]), "command": [lua]}
    found["python"] = {"version": version_of([sys.executable, "--version"]),
                       "command": [sys.executable]}
    return found, skipped


def version_of(command):
    """The first words that a program says of itself: "Lua 5.4.4"."""
    done = subprocess.run(command, capture_output=True, text=True)
    return " ".join((done.stdout + done.stderr).split()[:2])


def source_of(name, suffix):
    return (files("gcheap.tools") / "lox_programs" / f"{name}.{suffix}").read_text(
        encoding="utf-8")


def sized(source, size):
    """The program with another number where it sets its `size`."""
    text, count = re.subn(r"(?m)^((?:var |local )?size = )\d+", rf"\g<1>{size}", source)
    if count != 1:
        raise ValueError(f"a program that sets its size {count} times")
    return text


def run_process(command, place):
    """({process_seconds, cpu_seconds, peak_rss_bytes, status}, stdout, stderr) of a process."""
    paths = [str(Path(gcheap.__path__[0]).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        ended = run_to_end(command, out, err, environment=environment, cwd=place)
        out.seek(0)
        err.seek(0)
        return {"process_seconds": ended.seconds, "cpu_seconds": ended.cpu_seconds,
                "peak_rss_bytes": ended.peak_rss_bytes, "status": ended.status}, \
            out.read().decode(errors="replace"), err.read().decode(errors="replace")


# ---- the document ------------------------------------------------------------------------

def summarize(rows, config):
    """The suite's part of the document: a pure function of the rows (whole rounds only)."""
    cases = cases_of(config["sizes"], config["languages"])
    rounds = whole_rounds(rows, cases)
    start = {language: median(turn[f"{START} {language}"]["process_seconds"] for turn in rounds)
             for language in config["languages"] if rounds}
    rounds = [{case: without_start(row, start) for case, row in turn.items()} for turn in rounds]
    return {"rounds": len(rounds), "metrics": metrics_of(rounds, cases, UNITS),
            "start_seconds": start,
            "programs": [compared(rounds, name, config) for name in config["sizes"] if rounds],
            "waits": waits([row for turn in rounds for row in turn.values()]),
            "runs": rows}


def without_start(row, start):
    """The row with `seconds`: of the process without its language's start, unless it has them."""
    took = row["process_seconds"] - start[row["case"].split(" ")[1]]
    return {"seconds": max(0.0, took)} | row


def compared(rounds, name, config):
    """One program: seconds of each language, and the ratios of their medians, Lox over the other;
    of Lox the longest pause of all rounds."""
    net = {language: [turn[f"{name} {language}"]["seconds"] for turn in rounds]
           for language in config["languages"]}
    pauses = [turn[f"{name} lox"]["longest_pause_us"] for turn in rounds]
    return {"program": name, "size": config["sizes"][name],
            "seconds": {language: {"median": median(values), "low": min(values),
                                   "high": max(values), "values": values}
                        for language, values in net.items()},
            "lox_over": {language: ratio(values, net["lox"])
                         for language, values in net.items() if language != "lox"},
            "longest_pause_us": max((p for p in pauses if p is not None), default=None)}


def waits(rows):
    """What Lox waited for beside the pauses, over all runs."""
    rows = [row for row in rows if row["case"].endswith(" lox")]
    return {"longest_to_safepoint_us": max((row["longest_to_safepoint_us"] for row in rows),
                                           default=None),
            "stall_ms": sum(row["stall_ms"] for row in rows),
            "fault_waits": sum(row["fault_waits"] for row in rows)}


# ---- the tables --------------------------------------------------------------------------

def show(document, console):
    """Print the document: a row a program, then what each language is."""
    config = document["config"]
    names = list(config["languages"])
    console.print(Text(
        f"Lox in {format_size(config['capacity'])}, backend {config['backend']}, faults "
        f"{config['faults']}, {counted(document['rounds'], 'round')}, {describe(document)}"))
    console.print()
    table = new_table()
    others = [language for language in names if language != "lox"]
    for header in ("", *(f"{LANGUAGES[language]}, s" for language in names),
                   *(f"Lox/{LANGUAGES[language]}" for language in others), "longest pause"):
        table.add_column(header, justify="right" if table.columns else "left", no_wrap=True)
    for row in document["programs"]:
        table.add_row(
            f"{row['program']}\n{row['size']:,}",
            *(spread(row["seconds"][language], "median", seconds_text) for language in names),
            *(spread(row["lox_over"][language], "ratio", ratio_text) for language in others),
            duration(None if row["longest_pause_us"] is None else row["longest_pause_us"] * 1e3))
    console.print(table)
    console.print()
    console.print(Text("times: median, lowest–highest; ratios: of the medians, with a "
                       f"{document['interval']['coverage']:.0%} bootstrap interval"))
    waited = document["waits"]
    if waited["longest_to_safepoint_us"] is not None:
        console.print(Text(
            f"of all runs of Lox: longest time to safepoint "
            f"{duration(waited['longest_to_safepoint_us'] * 1e3)}, stalled "
            f"{duration(waited['stall_ms'] * 1e6)} in all, {waited['fault_waits']} fault waits"))
    console.print(noise_line(document))
    for language in names:
        one = config["languages"][language]
        console.print(Text(
            f"{LANGUAGES[language]}: {one['version']}, an empty program takes "
            f"{duration(document['start_seconds'][language] * 1e9)}; {' '.join(one['command'])}"))
    for language, why in config["skipped"].items():
        console.print(Text(f"{LANGUAGES[language]}: skipped, {why}"))


def spread(row, middle, form):
    """The middle of a row and, on a second line, its bounds."""
    if row[middle] is None:
        return NOTHING
    return f"{form(row[middle])}\n{form(row['low'])}–{form(row['high'])}"


def seconds_text(value):
    return NOTHING if value is None else f"{value:.3f}"


def ratio_text(value):
    return NOTHING if value is None else f"{value:.2f}"
