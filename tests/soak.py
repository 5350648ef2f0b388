"""The long runs: `make soak`.  Everything that is too long for each change, with its seeds.

    python tests/soak.py [--minutes M] [--seed N] [--only PART]... [--resume]
                         [--output build/soak.md]

    tests       what is marked `soak`, which `make test` leaves out
    tsan, asan  the whole suite, and what is marked `soak`, in each sanitizer build
    workloads   every workload of `gcheap stress` with every backend and fault mode in turn, the
                other options drawn by the run's own seed, for M minutes (default 30)
    table       only when named: churn, trees and array-holes, with one mutator and two, every
                backend and fault mode, verification levels 0 and 3, a minute of each

The summary is Markdown: commit, machine, seeds, counts, and how to run again what failed.  Exit
status 1 when anything did.  `--resume` goes on where an earlier one was stopped: it leaves out the
files that have passed in a sanitizer build of the same modules, and counts what they counted then.
"""
from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sanitize import (
    KINDS,
    ROOT,
    SEED,
    TESTS,
    Chunk,
    Counts,
    Variant,
    counts_of,
    reports_in,
    run_all,
)
from support import COMBINATIONS, HOME, kernel_offers

from gcheap.workloads import WORKLOADS

PARTS = ("tests", *KINDS, "workloads")
TABLE = "table"
PATIENCE = 300                      # seconds for a run of a few; then it counts as hung
SECONDS = 3.0                       # measured, of one run
TABLE_SECONDS = 60.0                # ... of the table
TABLE_WORKLOADS = ("churn", "trees", "array-holes")
TOTALS = ("ops", "cycles", "relocate_ops", "faults")


# ---- workloads ---------------------------------------------------------------------------

@dataclass(frozen=True)
class Run:
    """One run of `gcheap stress`; its options follow from its number and the first seed."""
    workload: str
    backend: str
    faults: str
    seed: int

    @property
    def seconds(self) -> float:
        return SECONDS

    def drawn(self) -> dict:
        rng = random.Random(self.seed)
        mutators = rng.choice([1, 2, 2, 3, 4])
        return {
            "mutators": mutators,
            "live": f"{mutators * rng.choice([1, 4, 8])}MiB",
            "unit-pages": rng.choice([1, 2, 16, 16, 64]),
            "verify": rng.choice([0, 1, 2, 3, 4]),
            "relocate": rng.choice(["worth", "always"]),
            "collect-every": rng.choice([0, 0, 0, 1000]),
            "delay-placements-us": rng.choice([0, 0, 20, 200]),
            "mark-threads": rng.choice([1, 1, 2, 4]),
            "policy": rng.choice(["fixed", "factor:2", "membalancer"]),
        }

    def arguments(self) -> list[str]:
        return ["stress", self.workload, "--backend", self.backend, "--faults", self.faults,
                "--seed", str(self.seed), "--seconds", str(self.seconds),
                *itertools.chain.from_iterable(
                    (f"--{k}", str(v)) for k, v in self.drawn().items())]


@dataclass(frozen=True)
class TableRun(Run):
    """One of the table: nothing is drawn."""
    mutators: int
    verify: int

    @property
    def seconds(self) -> float:
        return TABLE_SECONDS

    def drawn(self) -> dict:
        return {"mutators": self.mutators, "verify": self.verify}


@dataclass
class Result:
    run: Run
    document: dict | None
    said: str                       # what went wrong, with the end of what it wrote
    totals: dict = field(init=False)

    def __post_init__(self) -> None:
        known = self.document or {}
        self.totals = {name: known.get(name, 0) for name in TOTALS}
        if known:
            self.totals["faults"] = known["faults"]["count"]


def combinations() -> list[tuple[str, str]]:
    """The backends and fault modes that this machine has."""
    return [pair for pair in COMBINATIONS if kernel_offers(pair[0]) is None]


def runs(seed: int):
    """Runs without end: all workloads and combinations, in turn."""
    here = [(workload, *pair) for workload in WORKLOADS for pair in combinations()]
    for number in itertools.count():
        yield Run(*here[number % len(here)], seed + number)


def table_runs(seed: int):
    """Those of the table, each once."""
    every = itertools.product(TABLE_WORKLOADS, combinations(), (1, 2), (0, 3))
    for number, (workload, pair, mutators, verify) in enumerate(every):
        yield TableRun(workload, *pair, seed + number, mutators, verify)


def execute(run: Run) -> Result:
    """In a process of its own: a crash or a hang is one run's."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "gcheap", *run.arguments(), "--json", "-"],
            # The modules under test, not those of the directory where somebody happens to be; and
            # Ctrl-C is for the driver alone, which lets its runs end.
            env=os.environ | {"PYTHONPATH": HOME, "PYTHONSAFEPATH": "1"}, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, process_group=0)
    except subprocess.TimeoutExpired as hung:
        return Result(run, None, f"did not end in {PATIENCE} s\n{str(hung.stderr)[-3000:]}")
    return judge(run, done.returncode, done.stdout, done.stderr)


def judge(run: Run, status: int, out: str, err: str) -> Result:
    try:
        document = json.loads(out)
    except ValueError:
        document = None
    if status == 0 and document and document["verified"] and not document["interrupted"]:
        return Result(run, document, "")
    why = f"ended with status {status}"
    if document and document["failure"]:
        why += f": {document['failure']}"
    return Result(run, document, f"{why}\n{err[-3000:]}")


def soak_workloads(source, minutes: float = math.inf) -> list[Result]:
    """One process a processor, until there are no more runs, the time is over or Ctrl-C; each then
    ends its run."""
    end = time.monotonic() + 60 * minutes
    results, lock = [], threading.Lock()
    enough = threading.Event()

    def worker(_):
        while time.monotonic() < end and not enough.is_set():
            with lock:
                run = next(source, None)
            if run is None:
                return
            result = execute(run)
            results.append(result)
            if result.said:
                print(f"FAILED gcheap {' '.join(result.run.arguments())}\n{result.said}",
                      flush=True)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            list(pool.map(worker, range(os.cpu_count() or 1)))
        except KeyboardInterrupt:
            enough.set()
    return sorted(results, key=lambda result: result.run.seed)


# ---- the summary -------------------------------------------------------------------------

def table(head: list[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def workloads_section(results: list[Result]) -> str:
    rows = []
    for key in sorted({(r.run.workload, r.run.backend, r.run.faults) for r in results}):
        mine = [r for r in results if (r.run.workload, r.run.backend, r.run.faults) == key]
        sums = [sum(r.totals[name] for r in mine) for name in TOTALS]
        rows.append([*key, len(mine), *(f"{n:,}" for n in sums), sum(bool(r.said) for r in mine)])
    seeds = [r.run.seed for r in results]
    text = (f"{len(results)} runs of {results[0].run.seconds:g} s, seeds {min(seeds)} to "
            f"{max(seeds)}, every one audited; {sum(bool(r.said) for r in results)} failed.\n\n")
    return text + table(["workload", "backend", "faults", "runs", "operations", "cycles",
                         "operations during relocation", "page faults", "failed"], rows) + "".join(
        f"\n\n    gcheap {' '.join(r.run.arguments())}\n    "
        + r.said.strip().replace("\n", "\n    ") for r in results if r.said)


def tests_section(chunks: list[Chunk], seed: int) -> str:
    total = sum((chunk.counts for chunk in chunks), Counts())
    text = (f"{total.passed:,} tests passed, {total.failed} failed, {total.skipped} skipped, "
            f"{sum(len(chunk.reports) for chunk in chunks)} reports, seed {seed}, "
            f"{sum(chunk.seconds for chunk in chunks) / 60:.0f} minutes.")
    return text + "".join(f"\n\n* {chunk.name}: {'; '.join(chunk.faults())}"
                          for chunk in chunks if chunk.faults())


def commit() -> str:
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, text=True,
                              capture_output=True).stdout.strip()
    return (git("rev-parse", "HEAD") or "unknown") + (
        ", with changes" if git("status", "--porcelain") else "")


def machine() -> str:
    with open("/proc/cpuinfo") as cpus:
        model = next((line.partition(":")[2].strip() for line in cpus
                      if line.startswith("model name")), platform.machine())
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") / 2**30
    return (f"{os.cpu_count()} x {model}, {gib:.0f} GiB, Linux {platform.release()}, "
            f"Python {platform.python_version()}")


# ---- all of it ---------------------------------------------------------------------------

def marked_soak(seed: int) -> Chunk:
    result = ROOT / "build" / "soak.xml"
    result.unlink(missing_ok=True)
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "pytest", "-m", "soak", "--numprocesses", "auto",
                           "--dist", "loadgroup", f"--seed={seed}", f"--junit-xml={result}"],
                          cwd=TESTS)
    return Chunk("soak", done.returncode, counts_of(result), reports_in(result.parent),
                 time.monotonic() - begun)


def sanitized(names: list[str], seed: int, resume: bool) -> dict[str, list[Chunk]]:
    """The chunks of each build."""
    variants = [Variant(name) for name in names]
    for variant in variants:
        variant.build()
    return dict(zip(names, run_all(variants, ["-m", "not model"], seed, whole=True, resume=resume),
                    strict=True))


def sections(wanted, args):
    """(heading, text, whether all is well) of each part that is wanted, as it ends."""
    def of_tests(name: str, chunks: list[Chunk]):
        return name, tests_section(chunks, args.seed), not any(c.faults() for c in chunks)

    def of_workloads(name: str, results: list[Result]):
        return name, workloads_section(results), not any(result.said for result in results)

    if "tests" in wanted:
        yield of_tests("tests", [marked_soak(args.seed)])
    if builds := [name for name in KINDS if name in wanted]:
        for name, chunks in sanitized(builds, args.seed, args.resume).items():
            yield of_tests(name, chunks)
    if "workloads" in wanted:
        yield of_workloads("workloads", soak_workloads(runs(args.seed), args.minutes))
    if TABLE in wanted:
        yield of_workloads(TABLE, soak_workloads(table_runs(args.seed)))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="of workloads")
    parser.add_argument("--seed", type=int, default=SEED, help="the first of all seeds")
    parser.add_argument("--only", action="append", choices=(*PARTS, TABLE),
                        help="a part; repeatable")
    parser.add_argument("--resume", action="store_true",
                        help="leave out what has passed under sanitizers")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "soak.md")
    args = parser.parse_args(argv)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    text = f"# Soak\n\nCommit {commit()}.\n{machine()}.\nSeeds from {args.seed}.\n"
    failed = False
    for heading, section, well in sections(args.only or PARTS, args):
        failed |= not well
        text += f"\n## {heading}\n\n{section}\n"
        args.output.write_text(text)        # what there is, if it is stopped
        print(f"{heading}: {section}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
