"""Builds gcheap with sanitizers and runs its tests with them: `make sanitize`.

    python tests/sanitize.py [--variant tsan|asan] [--whole] [--seed N] [PYTEST-ARGUMENT...]

tsan is ThreadSanitizer; asan is AddressSanitizer with UndefinedBehaviorSanitizer.  Without
`--variant` both are built, and then run side by side.  Each has a directory, build/VARIANT, with
what was built (lib), the reports and pytest's output.  By default a selection of tests runs whose
seed is fixed (SELECTED); `--whole` runs every file, one after the other; pytest's own arguments
replace the selection.

A report fails the run, whichever process wrote it: each writes to a file of its own, because the
status and the output of a test's child are that test's, which may look at neither.  No report is
suppressed.
"""
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
SEED = 1
KINDS = {"tsan": "thread", "asan": "address"}
LIBRARIES = {"thread": "libtsan.so", "address": "libasan.so"}
# Reports go to files; everything else is what lets Python and a SIGBUS handler live with them:
# leaks are Python's own, which frees little at exit, SIGBUS is how a heap is told of a fault, and a
# thread that is cancelled gives no signal stack back.  SIGILL and SIGTRAP are UBSan's (setup.py).
OPTIONS = {
    "thread": {"TSAN_OPTIONS": "halt_on_error=0:report_signal_unsafe=0:handle_sigbus=0:"
                               "die_after_fork=0:log_path={log}"},
    "address": {"ASAN_OPTIONS": "detect_leaks=0:handle_sigbus=0:handle_sigill=1:handle_sigtrap=1:"
                                "use_sigaltstack=0:log_path={log}"},
}
REPORT = "(WARNING|ERROR|FATAL): .*Sanitizer|CHECK failed|Dying"
SELECTED = {
    "tsan": ["test_sanitizer_builds.py", "test_stress_combinations.py", "embedding",
             "lox/test_programs.py::test_threads"],
    "asan": ["test_sanitizer_builds.py", "test_stress_combinations.py", "embedding",
             "lox/test_mutations.py", "lox/test_limits.py"],
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

    def faults(self) -> list[str]:
        """Why it did not pass; nothing when it did."""
        found = []
        if self.status != 0:
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
            "LD_PRELOAD": library(LIBRARIES[self.kind])}

    def run(self, name: str, arguments: list[str], seed: int) -> Chunk:
        """One pytest process.  Its output is in build/VARIANT/NAME/output.txt."""
        place = self.home / "runs" / name
        subprocess.run(["rm", "-rf", place], check=True)
        place.mkdir(parents=True)
        begun = time.monotonic()
        with open(place / "output.txt", "w") as output:
            status = subprocess.run(
                # faulthandler's handlers would take the place of the sanitizer's.
                [sys.executable, "-m", "pytest", "-p", "no:faulthandler", "-p", "no:cacheprovider",
                 "-q", "-W", "ignore::pytest.PytestConfigWarning", "--durations=15",
                 f"--seed={seed}", f"--junit-xml={place / 'result.xml'}", *arguments],
                cwd=TESTS, env=self.environment(place), stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL).returncode
        return Chunk(name, status, counts_of(place / "result.xml"), reports_in(place),
                     time.monotonic() - begun)

    def chunks(self, whole: bool, arguments: list[str]) -> dict[str, list[str]]:
        """Pytest's arguments by the name of the process."""
        if whole:
            return {path.stem: [str(path), *arguments] for path in sorted(TESTS.rglob("test_*.py"))}
        return {"selected": arguments or SELECTED[self.name]}

    def run_all(self, whole: bool, arguments: list[str], seed: int) -> list[Chunk]:
        done = []
        for name, wanted in self.chunks(whole, arguments).items():
            done.append(self.run(name, wanted, seed))
            self.say(done[-1])
        return done

    def say(self, chunk: Chunk) -> None:
        counts = chunk.counts
        print(f"{self.name} {chunk.name}: {counts.passed} passed, {counts.failed} failed, "
              f"{counts.skipped} skipped, {len(chunk.reports)} reports, {chunk.seconds:.0f} s",
              flush=True)
        if chunk.faults():
            output = (self.home / "runs" / chunk.name / "output.txt").read_text(errors="replace")
            print(f"{self.name} {chunk.name}: {'; '.join(chunk.faults())}\n{output[-8000:]}\n"
                  + "\n\n".join(chunk.reports)[:20_000], flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--variant", action="append", choices=KINDS, help="only this one")
    parser.add_argument("--whole", action="store_true", help="every test, a process per file")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--no-build", action="store_true", help="run what was built before")
    args, rest = parser.parse_known_args(argv)
    variants = [Variant(name) for name in args.variant or KINDS]
    for variant in [] if args.no_build else variants:
        begun = time.monotonic()
        variant.build()
        print(f"{variant.name}: built in {time.monotonic() - begun:.0f} s", flush=True)
    with ThreadPoolExecutor(len(variants)) as pool:
        done = list(pool.map(lambda v: v.run_all(args.whole, rest, args.seed), variants))
    for variant, chunks in zip(variants, done, strict=True):
        total = sum((chunk.counts for chunk in chunks), Counts())
        print(f"{variant.name}: {total.passed} tests passed, {total.failed} failed, "
              f"{total.skipped} skipped, {sum(len(c.reports) for c in chunks)} reports, seed "
              f"{args.seed}, no suppressions")
    return int(any(chunk.faults() for chunks in done for chunk in chunks))


if __name__ == "__main__":
    sys.exit(main())
