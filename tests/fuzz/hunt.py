"""The hunt: faults planted in the core, to see whether the fuzzer finds them.

    python tests/fuzz/hunt.py [--seconds 120] [--seed 1] [FAULT...]

A copy of this tree in build/hunt is built with one fault at a time, and the long fuzzers of
test_soak.py run against it until one fails or the time is over.  The table says which seed found it
and by what.  Exit status 1 when a fault was missed.
"""
from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TREE = ROOT / "build" / "hunt"
GRACE = 300                         # seconds that a fuzzer may take beyond what it was given
FUZZERS = ("two_heaps", "freely")


@dataclass(frozen=True)
class Fault:
    """In `file`, `right` becomes `wrong`."""

    file: str
    right: str
    wrong: str

    def plant(self, text: str) -> str:
        assert text.count(self.right) == 1, f"{self.file} has not once: {self.right}"
        return text.replace(self.right, self.wrong)


FAULTS = {
    "no barrier of slot arrays": Fault(
        "face/ref.pyx", "    store_slot(m, obj, <word*>(obj + offset), new)\n",
        "    if shape.kind == SHAPE_SLOTS:\n"
        "        (<word*>(obj + offset))[0] = new\n"
        "    else:\n"
        "        store_slot(m, obj, <word*>(obj + offset), new)\n"),
    "weak reads are not blocked after Mark End": Fault(
        "core/nonstrong.pyx", "store32_relaxed(&weak_state(h).blocked, 1)",
        "store32_relaxed(&weak_state(h).blocked, 0)"),
    "the last slot of a large grain is not fixed": Fault(
        "core/large.pyx", "source) + begin, end - begin)", "source) + begin, end - begin - 1)"),
    "pinned arrays are never swept": Fault(
        "core/pinned.pyx", "if run.bytes and run.epoch != h.epoch:", "if False:"),
    "weak cells are not forwarded": Fault(
        "core/nonstrong.pyx", "    forward_cells(h, rehearse)\n", ""),
    "a guardian's object is not traced": Fault(
        "core/nonstrong.pyx", "    trace(k, <uint64_t>NO_LIMIT)\n", ""),
    "a pinned array of this cycle has no mark": Fault(
        "core/pinned.pyx", "store32_relaxed(&run.epoch, h.epoch)",
        "store32_relaxed(&run.epoch, h.epoch - 1)"),
    "what is dropped in a handle stays": Fault(
        "core/roots.pyx", "    push_chain(h, index, index)\n", ""),
}


def copy_tree() -> None:
    """What is built already comes along, so that one module at a time is compiled."""
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    for name in ("gcheap", "tests", "benchmarks", "setup.py", "pyproject.toml", "README.md",
                 "LICENSE", "build/cython", "build/release"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, TREE / name, symlinks=True)
        elif (ROOT / name).exists():
            shutil.copy2(ROOT / name, TREE / name)


def build() -> None:
    subprocess.run([sys.executable, "setup.py", "--quiet", "build", "--build-lib", "lib"],
                   cwd=TREE, check=True, stdout=subprocess.DEVNULL)


def fuzz(test: str, seconds: float, seed: int) -> str | None:
    """How one of the long fuzzers failed, with the seed that did it; None when it did not."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GCHEAP_")} | {
        "PYTHONPATH": str(TREE / "lib"), "PYTHONSAFEPATH": "1", "GCHEAP_FUZZ_SEED": str(seed),
        "GCHEAP_FUZZ_SECONDS": str(seconds)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-m", "soak", "-p", "no:cacheprovider",
             "tests/fuzz/test_soak.py", "-k", test], cwd=TREE, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds + GRACE)
    except subprocess.TimeoutExpired as hung:
        return f"a hang: {(hung.stdout or b'')[-300:]!r}"
    seeds = re.findall(r"GCHEAP_FUZZ_SEED=(\d+)", done.stdout)
    if done.returncode == 0:
        return None
    # The last is what a group of exceptions looks like, which hypothesis raises for a failure that
    # is not the same each time.
    lines = re.findall(
        r"(?m)^(?:E  +|gcheap: fatal: |Fatal Python error: | *\| (?=\w*Error: ))(.+)$", done.stdout)
    return f"seed {seeds[-1]}: {lines[0] if lines else done.stdout[-300:]}"


def hunt(name: str, seconds: float, seed: int) -> bool:
    fault = FAULTS[name]
    path = TREE / "gcheap" / fault.file
    right = path.read_text()
    path.write_text(fault.plant(right))
    try:
        build()
        begun = time.monotonic()
        found = None
        for test in FUZZERS:
            found = found or fuzz(test, seconds, seed)
        print(f"| {name} | {f'by {test}, {found}' if found else 'missed'} | "
              f"{time.monotonic() - begun:.0f} s |", flush=True)
    finally:
        path.write_text(right)
    return found is not None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120, help="of each fuzzer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("fault", nargs="*", metavar="FAULT", help="only these")
    args = parser.parse_args()
    unknown = set(args.fault) - set(FAULTS)
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    copy_tree()
    print("| fault | found | after |\n|---|---|---|", flush=True)
    missed = [name for name in args.fault or FAULTS if not hunt(name, args.seconds, args.seed)]
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
