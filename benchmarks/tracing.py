"""What tracing costs: compiled out, compiled in and off, and on, in turns.

    python benchmarks/tracing.py [--rounds 7] [--seconds 2] [--no-build]

Builds two variants under build/ (minutes), then runs each measurement in a process of its own, A B
C, C B A, ..., and prints medians with the least and greatest value, and ratios to "out", as the
table of docs/reference/trace.md.  Loops are in ns an operation (less is better), workloads in
operations a second (more is better); the ratios are such that above 1 is slower.  Writing a trace's
file is not in it: that comes after the run.
"""
from __future__ import annotations

import statistics
import tempfile

from variants import built, everything, in_turns, spread, unit_of

BUILDS = {"untraceable": "1", "traceable": "0"}         # -> GCHEAP_NO_TRACING
CASES = {"out": "untraceable", "off": "traceable", "on": "traceable"}


def main() -> None:
    options = built(__doc__.splitlines()[0], "GCHEAP_NO_TRACING", BUILDS)
    with tempfile.TemporaryDirectory() as place:
        on = {"GCHEAP_TRACE": f"{place}/%p-%h.json"}

        def measure(case: str) -> dict[str, float]:
            return everything(CASES[case], options.seconds, on if case == "on" else None)

        found = in_turns(CASES, options.rounds, measure)
    print("| | out | off | on | off / out | on / out |")
    print("|---|---|---|---|---|---|")
    for name, cases in found.items():
        digits, unit = unit_of(name)
        middle = {case: statistics.median(values) for case, values in cases.items()}
        ratios = [middle[case] / middle["out"] if unit == "ns" else middle["out"] / middle[case]
                  for case in ("off", "on")]
        print(f"| {name}, {unit} | "
              + " | ".join(spread(cases[case], digits) for case in CASES)
              + f" | {ratios[0]:.3f} | {ratios[1]:.3f} |")


if __name__ == "__main__":
    main()
