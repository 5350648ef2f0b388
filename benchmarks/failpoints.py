"""What unused failpoints cost: gcheap with and without them compiled in, in turns.

    python benchmarks/failpoints.py [--rounds 7] [--seconds 2] [--no-build]

Builds both variants under build/ (minutes), then runs each measurement in a process of its own, A B
A B ..., and prints medians with the least and greatest value as the table of
docs/reference/failpoints.md.  With valgrind it counts instructions of one operation as well, which
a busy machine does not disturb.
"""
from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile

from variants import built, environment_of, everything, in_turns, spread, unit_of

VARIANTS = {"with": "0", "without": "1"}        # -> GCHEAP_NO_FAILPOINTS

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


def main() -> None:
    options = built(__doc__.splitlines()[0], "GCHEAP_NO_FAILPOINTS", VARIANTS)
    found = in_turns(VARIANTS, options.rounds,
                     lambda variant: everything(variant, options.seconds))
    print("| | with | without | medians' ratio |")
    print("|---|---|---|---|")
    for name, both in found.items():
        digits, unit = unit_of(name)
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
