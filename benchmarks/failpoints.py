"""What unused failpoints cost: gcheap with and without them compiled in, in turns.

    python benchmarks/failpoints.py [--rounds 7] [--seconds 2] [--no-build]

Builds both variants under build/ (minutes), then runs each measurement in a process of its own, A B
A B ..., and prints medians with the least and greatest value as the table of
docs/reference/failpoints.md.  With valgrind it counts instructions of one operation as well, which
a busy machine does not disturb.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = {"with": "0", "without": "1"}        # -> GCHEAP_NO_FAILPOINTS

# Each prints {name: value}: loops in nanoseconds per operation, workloads in operations per second.
LOOPS = """
import json, sys
import gcheap
from gcheap.workloads import _micro

def measured(loop, *arguments, count):
    best = []
    for _ in range(5):
        heap.collect()
        best.append(loop(*arguments, count) / count)
    return sorted(best)[2]

with gcheap.Heap("512MiB", policy="fixed") as heap, heap.attach() as m:
    pair = heap.shape("Pair", refs=("first", "second"))
    n = m.native()
    print(json.dumps({
        "allocation, 24 bytes": measured(_micro.alloc_loop, n, pair.id, count=2_000_000),
        "store with barrier": measured(_micro.store_loop, n, pair.id, count=10_000_000),
        "enter and leave": measured(_micro.enter_loop, n, count=3_000_000),
        "safepoint poll": measured(_micro.poll_loop, n, count=10_000_000)}))
"""
WORKLOADS = """
import json, sys
from gcheap.stress import StressConfig, run_stress

rates = {}
for workload in ("churn", "trees"):
    document = run_stress(StressConfig(workload=workload, seconds=float(sys.argv[1]), live="32MiB",
                                       seed=1, noise_seconds=0))
    assert document["verified"]
    rates[workload] = document["ops_per_s"]
print(json.dumps(rates))
"""
# Under valgrind: no userfaultfd there.  The counts of two lengths are subtracted.
COUNTED = """
import sys
import gcheap
from gcheap.workloads import _micro

name, count = sys.argv[1], int(sys.argv[2])
with gcheap.Heap("4MiB", backend="stw", policy="fixed") as heap, heap.attach() as m:
    shape = heap.shape("Pair", refs=("first", "second")).id
    arguments = (shape,) if name in ("alloc_loop", "store_loop") else ()
    getattr(_micro, name)(m.native(), *arguments, count)
"""
COUNTED_LOOPS = {"allocation, 24 bytes": "alloc_loop", "store with barrier": "store_loop",
                 "enter and leave": "enter_loop", "safepoint poll": "poll_loop"}
COUNTS = 20_000, 120_000


def library(variant: str) -> Path:
    return ROOT / "build" / f"bench-{variant}"


def build(variant: str) -> None:
    environment = os.environ | {"GCHEAP_NO_FAILPOINTS": VARIANTS[variant]}
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build", "--build-lib", str(library(variant)),
         "--build-temp", str(ROOT / "build" / f"bench-temp-{variant}")],
        cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


def environment_of(variant: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GCHEAP_")}
    return clean | {"PYTHONPATH": str(library(variant)), "PYTHONHASHSEED": "0"}


def run(variant: str, script: str, *arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=tempfile.gettempdir(),
                          env=environment_of(variant), check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def instructions(variant: str, loop: str, count: int) -> int:
    """That a process executes, which runs `loop` so often."""
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-c",
         COUNTED, loop, str(count)],
        cwd=tempfile.gettempdir(), env=environment_of(variant), check=True,
        stderr=subprocess.PIPE, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1])


def per_operation(variant: str, loop: str) -> float:
    low, high = (instructions(variant, loop, count) for count in COUNTS)
    return (high - low) / (COUNTS[1] - COUNTS[0])


def spread(values: list[float], digits: int) -> str:
    return (f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to "
            f"{max(values):,.{digits}f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each workload")
    parser.add_argument("--no-build", action="store_true", help="both are built already")
    options = parser.parse_args()
    if not options.no_build:
        for variant in VARIANTS:
            build(variant)
    found: dict[str, dict[str, list[float]]] = {}
    loads = []
    for number in range(options.rounds):
        order = list(VARIANTS) if number % 2 == 0 else list(VARIANTS)[::-1]
        for variant in order:
            loads.append(os.getloadavg()[0])
            values = run(variant, LOOPS) | run(variant, WORKLOADS, str(options.seconds))
            for name, value in values.items():
                found.setdefault(name, {}).setdefault(variant, []).append(value)
    print(f"{options.rounds} rounds in turns, load average {min(loads):.1f} to {max(loads):.1f}\n")
    print("| | with | without | medians' ratio |")
    print("|---|---|---|---|")
    for name, both in found.items():
        digits, unit = (0, "operations/s") if name in ("churn", "trees") else (2, "ns")
        ratio = statistics.median(both["with"]) / statistics.median(both["without"])
        print(f"| {name}, {unit} | {spread(both['with'], digits)} "
              f"| {spread(both['without'], digits)} | {ratio:.3f} |")
    if shutil.which("valgrind"):
        for name, loop in COUNTED_LOOPS.items():
            both = {variant: per_operation(variant, loop) for variant in VARIANTS}
            print(f"| {name}, instructions | {both['with']:.1f} | {both['without']:.1f} "
                  f"| {both['with'] / both['without']:.3f} |")


if __name__ == "__main__":
    main()
