"""Configurations of heaps, drawn by hypothesis: what may be combined is combined."""
from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from support import kernel_offers

# Each stress mode alone or with others; how often, so that an example still ends soon.
CAPACITIES = ["8MiB", "8MiB", "2MiB", "512KiB", "min"]
POLICIES = ["fixed", "factor:3.0,minimum=16MiB", "factor:1.1,minimum=64KiB",
            "membalancer:3e-10,minimum=64KiB"]


def backends() -> list[tuple[str, str]]:
    return [pair for pair in (("move", "sigbus"), ("copy", "sigbus"), ("move", "handler"),
                              ("copy", "handler"), ("stw", "sigbus"))
            if kernel_offers(pair[0]) is None]


@st.composite
def options(draw: Any, capacities: Any = CAPACITIES, verify: Any = (0, 1, 2, 3, 4),
            calm: bool = False, unlike: dict | None = None) -> dict:
    """Of one heap.  `calm`: nothing that makes an allocation wait for a cycle, so that a collector
    may be held for long while the program goes on.  `unlike` another heap: of another backend or
    fault mode, where this machine has one, and with units of another size."""
    unlike = unlike or {}
    offered = [pair for pair in backends() if not calm or pair[0] != "stw"]
    others = [pair for pair in offered
              if pair != (unlike.get("backend"), unlike.get("faults"))]
    backend, faults = draw(st.sampled_from(others or offered))
    unit_pages = draw(st.sampled_from(
        [pages for pages in (1, 16, 2, 4, 64) if pages != unlike.get("unit_pages")]))
    if calm:
        capacities = [size for size in capacities if size not in ("min", "512KiB")]
    chosen = {
        "backend": backend, "faults": faults, "unit_pages": unit_pages,
        "capacity": draw(st.sampled_from(capacities)) if unit_pages <= 16 else "8MiB",
        "verify": draw(st.sampled_from(verify)),
        "policy": draw(st.sampled_from(POLICIES)),
        "batch_units": draw(st.sampled_from([0, 0, 1, 3])),
        "relocate": draw(st.sampled_from(["worth", "always"])),
        "collect_every": draw(st.sampled_from([0, 0, 0, 7, 100, 1])),
        "delay_placements_us": draw(st.sampled_from([0, 0, 0, 20, 200])),
        "mark_threads": draw(st.sampled_from([1, 1, 2, 4])),
        # A machine that is busy may make any stall and any pause a long one.
        "stall_warning_ms": 0, "safepoint_warning_ms": 0}
    if calm:
        chosen["collect_every"] = 0
    if chosen["verify"] >= 2 and chosen["collect_every"] == 1:
        chosen["collect_every"] = 7
    return chosen


@st.composite
def pairs(draw: Any, first: Any, second: Any, capacities: Any = CAPACITIES) -> list[dict]:
    """Of two heaps that are unlike, with these levels of verification."""
    calm = draw(st.booleans()) and backends()[0][0] != "stw"
    one = draw(options(capacities, first, calm))
    return [one, draw(options(capacities, second, calm, unlike=one))]
