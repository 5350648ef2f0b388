"""`gcheap bench SUITE`: measurements that compare configurations, one module a suite."""
from gcheap.tools import (
    bench_alloc,
    bench_backends,
    bench_lbo,
    bench_lox,
    bench_marking,
    bench_pauses,
    bench_peers,
    bench_roots,
    bench_uffd,
)

SUITES = (bench_alloc, bench_backends, bench_lbo, bench_lox, bench_marking, bench_pauses,
          bench_peers, bench_roots, bench_uffd)


def add(commands):
    parser = commands.add_parser(
        "bench", help="compare configurations with interleaved, repeated runs",
        description="Compare configurations with interleaved, repeated runs.")
    suites = parser.add_subparsers(title="suites", metavar="SUITE", required=True)
    for suite in SUITES:
        suite.add(suites)
