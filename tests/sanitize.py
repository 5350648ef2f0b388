"""Builds gcheap with sanitizers and runs its tests with them: `make sanitize`.

    python tests/sanitize.py [--variant tsan|asan] [--whole [--resume]] [--seed N]
                             [PYTEST-ARGUMENT...]

tsan is ThreadSanitizer; asan is AddressSanitizer with UndefinedBehaviorSanitizer.  Without
`--variant` both are built, and then run side by side.  Each has a directory, build/VARIANT, with
what was built (lib), the reports and pytest's output.  By default a selection of tests runs whose
seed is fixed (SELECTED); `--whole` runs every file, a process each, on all processors;
pytest's own arguments replace the selection.  The whole takes hours: `--resume` leaves out the
files that have passed with this seed and these modules, and counts what they counted then.

A report fails the run, whichever process wrote it: each writes to a file of its own, because the
status and the output of a test's child are that test's, which may look at neither.  No report is
suppressed.
"""
from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
SEED = 1
NOTHING_RAN = 5                     # pytest's status
PATIENCE = 3600                     # seconds of one pytest process
KINDS = {"tsan": "thread", "asan": "address"}
# AddressSanitizer looks for the C++ runtime when it starts: matplotlib throws through it.
LIBRARIES = {"thread": ("libtsan.so",), "address": ("libasan.so", "libstdc++.so")}
# Reports go to files; everything else is what lets Python and a SIGBUS handler live with them:
# leaks are Python's own, which frees little at exit, SIGBUS is how a heap is told of a fault, and a
# thread that is cancelled gives no signal stack back.  SIGILL and SIGTRAP are UBSan's (setup.py).
OPTIONS = {
    "thread": {"TSAN_OPTIONS": "halt_on_error=0:report_signal_unsafe=0:handle_sigbus=0:"
                               "die_after_fork=0:atexit_sleep_ms=100:log_path={log}"},
    "address": {"ASAN_OPTIONS": "detect_leaks=0:handle_sigbus=0:handle_sigill=1:handle_sigtrap=1:"
                                "use_sigaltstack=0:log_path={log}"},
}
REPORT = "(WARNING|ERROR|FATAL): .*Sanitizer|CHECK failed|Dying"
# Of a whole pass: what takes longest, where threads meet, and what reaches furthest into memory.
FIRST = ("test_shutdown", "test_every_workload", "test_generated", "test_exploration", "test_soak",
         "test_concurrency", "test_fork", "test_handler_races", "test_injection",
         "test_introspection_races", "test_large_objects", "test_marking", "test_pinned",
         "test_stalls", "test_stress_combinations", "test_stress_modes", "test_threads",
         "test_weak_races")
ORDER = {stem: number for number, stem in enumerate(FIRST)}
SELECTED = {
    "tsan": ["test_sanitizer_builds.py", "test_stress_combinations.py", "test_pinned.py",
             "test_weak_races.py", "embedding", "lox/test_programs.py::test_threads"],
    "asan": ["test_sanitizer_builds.py", "test_stress_combinations.py", "test_pinned.py",
             "test_weak_races.py", "embedding", "lox/test_mutations.py", "lox/test_limits.py"],
}


@dataclass(frozen=True)
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.passed + other.passed, self.failed + other.failed,
                      self.skipped + other.skipped)


@dataclass(frozen=True)
class Chunk:
    """One pytest process, and what the sanitizer wrote in it and in its children."""
    name: str
    status: int
    counts: Counts
    reports: list[str]
    seconds: float
    cpu: float = 0.0                # seconds, with its children: what a busy machine leaves alone
    may_be_empty: bool = False      # a file, whose tests may all be left to the soak

    def faults(self) -> list[str]:
        """Why it did not pass; nothing when it did."""
        found = []
        if self.status == NOTHING_RAN and self.may_be_empty:
            pass
        elif self.status != 0:
            found.append(f"pytest ended with status {self.status}")
        elif self.counts.passed + self.counts.skipped == 0:
            found.append("no test ran")
        if self.reports:
            found.append(f"{len(self.reports)} sanitizer report{'s'[:len(self.reports) > 1]}")
        return found


def counts_of(result: Path) -> Counts:
    """What a file of `pytest --junit-xml` counts; nothing when there is none (a crash)."""
    if not result.exists():
        return Counts()
    suite = ElementTree.parse(result).getroot().find("testsuite")
    total, failed, errors, skipped = (
        int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped"))
    return Counts(total - failed - errors - skipped, failed + errors, skipped)


def reports_in(directory: Path) -> list[str]:
    """The reports of all processes that wrote to `directory`: a file may hold several."""
    text = "\n".join(path.read_text(errors="replace")
                     for path in sorted(directory.glob("report.*")))
    # ThreadSanitizer puts a line of '=' around each and counts them at exit, AddressSanitizer
    # may begin with such a line.
    parts = re.split(r"(?m)^=+$\n?", text)
    return [part.strip() for part in parts
            if re.search(REPORT, part)]


def options_for(kind: str, reports: Path) -> dict[str, str]:
    return {name: value.format(log=reports / "report") for name, value in OPTIONS[kind].items()}


def library(name: str) -> str:
    """Where gcc keeps a sanitizer's runtime, which has to be loaded before Python."""
    return subprocess.run(["gcc", f"-print-file-name={name}"], check=True, text=True,
                          capture_output=True).stdout.strip()


class Variant:
    """One sanitizer's build, and runs of tests with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind = KINDS[name]
        self.home = ROOT / "build" / name

    def build(self) -> None:
        """Compiles what changed, on all processors.  CalledProcessError with the compiler's words
        on standard output when it fails."""
        subprocess.run(
            [sys.executable, "setup.py", "--quiet", "build", "--build-lib", self.home / "lib"],
            cwd=ROOT, env=os.environ | {"GCHEAP_BUILD": self.name}, check=True)

    def environment(self, reports: Path) -> dict[str, str]:
        # PYTHONSAFEPATH: the tree's own modules, built in place, are not instrumented.
        return os.environ | options_for(self.kind, reports) | {
            "PYTHONPATH": str(self.home / "lib"), "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LD_PRELOAD": " ".join(map(library, LIBRARIES[self.kind]))}

    def run(self, name: str, arguments: list[str], seed: int, may_be_empty: bool = False) -> Chunk:
        """One pytest process.  Its output is in build/VARIANT/NAME/output.txt."""
        place = self.home / "runs" / name
        subprocess.run(["rm", "-rf", place], check=True)
        place.mkdir(parents=True)
        begun = time.monotonic()
        with open(place / "output.txt", "w") as output:
            process = subprocess.Popen(
                # faulthandler's handlers would take the place of the sanitizer's.
                [sys.executable, "-m", "pytest", "-p", "no:faulthandler", "-p", "no:cacheprovider",
                 "-q", "-W", "ignore::pytest.PytestConfigWarning", "--durations=15",
                 f"--seed={seed}", f"--junit-xml={place / 'result.xml'}", *arguments],
                cwd=TESTS, env=self.environment(place), stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL)
            timer = threading.Timer(PATIENCE, process.kill)     # without faulthandler nobody does
            timer.start()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            timer.cancel()
        return Chunk(name, process.returncode, counts_of(place / "result.xml"), reports_in(place),
                     time.monotonic() - begun, usage.ru_utime + usage.ru_stime, may_be_empty)

    def key(self, arguments: list[str], seed: int) -> str:
        """Stands for the modules that were built, and how a file of tests was run with them."""
        digest = hashlib.sha256(json.dumps([arguments, seed]).encode())
        for module in sorted((self.home / "lib").rglob("*.so")):
            digest.update(module.read_bytes())
        return digest.hexdigest()

    def passed(self, name: str, key: str) -> Chunk | None:
        """What `run` found with this key, if there was no fault in it."""
        try:
            known = json.loads((self.home / "runs" / name / "chunk.json").read_text())
        except FileNotFoundError:
            return None
        chunk = Chunk(**known["chunk"] | {"counts": Counts(**known["chunk"]["counts"])})
        return chunk if known["key"] == key and not chunk.faults() else None

    def keep(self, chunk: Chunk, key: str) -> None:
        (self.home / "runs" / chunk.name / "chunk.json").write_text(
            json.dumps({"key": key, "chunk": asdict(chunk)}))

    def chunks(self, whole: bool, arguments: list[str]) -> dict[str, list[str]]:
        """Pytest's arguments by the name of the process."""
        if whole:
            files = sorted(TESTS.rglob("test_*.py"),
                           key=lambda path: (ORDER.get(path.stem, len(ORDER)), path))
            return {"-".join(path.relative_to(TESTS).with_suffix("").parts): [str(path), *arguments]
                    for path in files}
        return {"selected": arguments or SELECTED[self.name]}

    def once(self, name: str, wanted: list[str], key: str, seed: int, *, whole: bool,
             resume: bool) -> Chunk:
        """Runs a chunk, unless `resume` finds that it has passed."""
        chunk = self.passed(name, key) if resume else None
        if chunk is None:
            chunk = self.run(name, wanted, seed, whole)
            self.keep(chunk, key)
            self.say(chunk)
        return chunk

    def say(self, chunk: Chunk) -> None:
        counts = chunk.counts
        print(f"{self.name} {chunk.name}: {counts.passed} passed, {counts.failed} failed, "
              f"{counts.skipped} skipped, {len(chunk.reports)} reports, {chunk.seconds:.0f} s "
              f"({chunk.cpu:.0f} s of CPU)", flush=True)
        if chunk.faults():
            output = (self.home / "runs" / chunk.name / "output.txt").read_text(errors="replace")
            print(f"{self.name} {chunk.name}: {'; '.join(chunk.faults())}\n{output[-8000:]}\n"
                  + "\n\n".join(chunk.reports)[:20_000], flush=True)


def run_all(variants: list[Variant], arguments: list[str], seed: int, *, whole: bool = False,
            resume: bool = False) -> list[list[Chunk]]:
    """The chunks of each variant: on all processors, in turns."""
    plans = [variant.chunks(whole, arguments) for variant in variants]
    keys = [variant.key(arguments, seed) for variant in variants]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        running = {(variant.name, name): pool.submit(
                       variant.once, name, plan[name], key, seed, whole=whole, resume=resume)
                   for name in dict.fromkeys(itertools.chain(*plans))
                   for variant, plan, key in zip(variants, plans, keys, strict=True)
                   if name in plan}
    return [[running[variant.name, name].result() for name in plan]
            for variant, plan in zip(variants, plans, strict=True)]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--variant", action="append", choices=KINDS, help="only this one")
    parser.add_argument("--whole", action="store_true", help="every test, a process per file")
    parser.add_argument("--resume", action="store_true",
                        help="with --whole: only the files that have not passed yet")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--no-build", action="store_true", help="run what was built before")
    args, rest = parser.parse_known_args(argv)
    variants = [Variant(name) for name in args.variant or KINDS]
    for variant in [] if args.no_build else variants:
        begun = time.monotonic()
        variant.build()
        print(f"{variant.name}: built in {time.monotonic() - begun:.0f} s", flush=True)
    done = run_all(variants, rest, args.seed, whole=args.whole, resume=args.resume)
    for variant, chunks in zip(variants, done, strict=True):
        total = sum((chunk.counts for chunk in chunks), Counts())
        print(f"{variant.name}: {total.passed} tests passed, {total.failed} failed, "
              f"{total.skipped} skipped, {sum(len(c.reports) for c in chunks)} reports, seed "
              f"{args.seed}, no suppressions")
    return int(any(chunk.faults() for chunks in done for chunk in chunks))


if __name__ == "__main__":
    sys.exit(main())
