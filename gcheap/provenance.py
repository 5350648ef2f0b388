"""Where a figure comes from: the machine, the build, the command, the moment.

Every document with figures in it (`gcheap stress`, every suite of `gcheap bench`) carries it, so
that whoever compares two of them later knows what else differed.  What cannot be found out is
None.
"""
from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from gcheap.kernel_files import HUGE_PAGES, fields, kilobytes, selected, text
from gcheap.units import counted
from gcheap.version import __version__

CLOCK = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
ROOT = Path("/")
BUILT = Path(__file__).resolve().parent / "built.json"


def stamp(seed: int | None = None) -> dict:
    """What every document starts with: `version`, `machine`, `provenance`.

    Taken before anything is measured: the load average is then that of the others.  Plain data.
    """
    return {"version": __version__, "machine": machine(), "provenance": provenance(seed)}


def machine(root: Path = ROOT) -> dict:
    """What two runs share when they ran on one machine, set up in one way.

    cpus            that this process may use; `processors` are those of the machine
    governor, thp   frequency governor of the first CPU; transparent huge pages
    clock_source    what the kernel reads time from: reading one that is no counter of the CPU's
                    own (tsc) is slow, and in every latency
    """
    page = os.sysconf("SC_PAGE_SIZE")
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "processors": os.cpu_count(),
        "cpu_model": cpu_model(root),
        "architecture": platform.machine(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * page,
        "page_size": page,
        "kernel": platform.release(),
        "governor": text(root, GOVERNOR),
        "thp": selected(text(root, HUGE_PAGES)),
        "clock_source": text(root, CLOCK),
    }


def provenance(seed: int | None = None) -> dict:
    """What differs from run to run: see docs/reference/benchmarks.md."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "environment": {name: value for name, value in sorted(os.environ.items())
                        if name.startswith("GCHEAP_")},
        "seed": seed,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_average": list(os.getloadavg()),
        "available_bytes": available_bytes(),
        "build": build(),
    }


def build() -> dict | None:
    """How the native modules were built (setup.py writes it): variant, whether failpoints are in,
    commit and whether the tree differed from it, compiler and its command, Cython."""
    try:
        return json.loads(BUILT.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def cpu_model(root: Path = ROOT) -> str | None:
    """The CPU's name as the kernel reports it."""
    return fields(text(root, "/proc/cpuinfo")).get("model name")


def available_bytes(root: Path = ROOT) -> int | None:
    """What the kernel says can be had without swapping."""
    return kilobytes(fields(text(root, "/proc/meminfo")).get("MemAvailable"))


def describe(document: dict) -> str:
    """One line about the machine of a document, and its seed."""
    there = document["machine"]
    model = f"{there['cpu_model']}, " if there.get("cpu_model") else ""
    seed = document.get("provenance", {}).get("seed")
    return (f"{there['architecture']}, {model}{counted(there['cpus'], 'CPU')}, "
            f"Linux {there['kernel']}" + (f", seed {seed}" if seed is not None else ""))
