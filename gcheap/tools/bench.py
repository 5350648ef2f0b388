"""`gcheap bench SUITE`: measurements that compare configurations, one module a suite."""
from gcheap.tools import bench_backends, bench_lox, bench_pauses, bench_uffd

SUITES = (bench_backends, bench_pauses, bench_uffd, bench_lox)


def add(commands):
    parser = commands.add_parser(
        "bench", help="compare configurations with interleaved, repeated runs",
        description="Compare configurations with interleaved, repeated runs.")
    suites = parser.add_subparsers(title="suites", metavar="SUITE", required=True)
    for suite in SUITES:
        suite.add(suites)
