"""`gcheap report RUN.json… -o FILE.html`: the page of one or several stress runs."""
from rich.text import Text

from gcheap.report import read_runs, write_report
from gcheap.report.svg import MOST_RUNS, check_drawing
from gcheap.tools.arguments import file_name
from gcheap.tools.consoles import result_console
from gcheap.tools.output import called, check_targets
from gcheap.units import counted

DEFAULT = "gcheap-report.html"


def add(commands):
    parser = commands.add_parser(
        "report", help="one self-contained HTML page of one or several stress runs",
        description="Write one HTML page, which needs no network, of the documents that `gcheap "
                    "stress --json` wrote: percentiles, utilization, cycles, memory, page maps, "
                    f"and the runs side by side. At most {MOST_RUNS} runs. Exit status: 0 written, "
                    "2 a file is none of gcheap's, or cannot be written.")
    parser.add_argument("runs", nargs="+", metavar="RUN.json",
                        help="a file that `gcheap stress --json` wrote")
    parser.add_argument("-o", "--output", type=file_name, metavar="FILE.html|-", default=DEFAULT,
                        help="written whole or not at all; - is standard output (default "
                             "%(default)s)")
    parser.set_defaults(run=run)


def run(args):
    check_drawing()
    check_targets([("-o", args.output)], args.runs)
    console = result_console(args.output)
    runs = read_runs(args.runs)
    write_report(runs, args.output)
    console.print(Text(report_line(args.output, len(runs))))
    return 0


def report_line(target, count):
    """What is said of a page that was written."""
    return f"{called(target)}: the page of {counted(count, 'run')}"
