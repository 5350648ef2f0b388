"""Builds of gcheap that differ in what is left out of them, measured in turns: for the scripts
beside this one.
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

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


def library(variant: str) -> Path:
    return ROOT / "build" / f"bench-{variant}"


def build(variant: str, settings: dict[str, str]) -> None:
    """Builds gcheap for `run`, with environment variables for setup.py."""
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build", "--build-lib", str(library(variant)),
         "--build-temp", str(ROOT / "build" / f"bench-temp-{variant}")],
        cwd=ROOT, env=os.environ | settings, check=True, stdout=subprocess.DEVNULL)


def built(description: str, variable: str, variants: dict[str, str]) -> argparse.Namespace:
    """The command line: `rounds`, and `seconds` of each workload.  Builds the variants, each with
    its value of that variable, unless told that they are there."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each workload")
    parser.add_argument("--no-build", action="store_true", help="both are built already")
    options = parser.parse_args()
    if not options.no_build:
        for variant, value in variants.items():
            build(variant, {variable: value})
    return options


def environment_of(variant: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GCHEAP_")}
    return clean | {"PYTHONPATH": str(library(variant)), "PYTHONHASHSEED": "0"}


def run(variant: str, script: str, *arguments: str,
        settings: dict[str, str] | None = None) -> dict[str, float]:
    """What a script prints that runs in a process of its own with that build."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=tempfile.gettempdir(),
                          env=environment_of(variant) | (settings or {}), check=True,
                          stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def everything(variant: str, seconds: float, settings: dict[str, str] | None = None
               ) -> dict[str, float]:
    """What both scripts print: loops, then workloads."""
    return (run(variant, LOOPS, settings=settings)
            | run(variant, WORKLOADS, str(seconds), settings=settings))


def in_turns(names: Iterable[str], rounds: int, measure: Callable[[str], dict[str, float]]
             ) -> dict[str, dict[str, list[float]]]:
    """A B C, C B A, ...: {measurement: {name: values}}; says how busy the machine was."""
    found: dict[str, dict[str, list[float]]] = {}
    loads = []
    for number in range(rounds):
        for name in list(names)[::1 if number % 2 == 0 else -1]:
            loads.append(os.getloadavg()[0])
            for what, value in measure(name).items():
                found.setdefault(what, {}).setdefault(name, []).append(value)
    print(f"{rounds} rounds in turns, load average {min(loads):.1f} to {max(loads):.1f}\n")
    return found


def unit_of(measurement: str) -> tuple[int, str]:
    """Digits after the point, and the unit."""
    return (0, "operations/s") if measurement in ("churn", "trees") else (2, "ns")


def spread(values: list[float], digits: int) -> str:
    return (f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to "
            f"{max(values):,.{digits}f})")
