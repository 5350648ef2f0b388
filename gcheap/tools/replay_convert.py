"""`gcheap replay-convert LTRACE OUT`: the output of ltrace as a trace for the workload `replay`."""
import io

from rich.text import Text

from gcheap.errors import OptionError
from gcheap.text import shown
from gcheap.tools.consoles import result_console
from gcheap.tools.output import called, check_targets, emit
from gcheap.workloads import ltrace, traces


def add(commands):
    parser = commands.add_parser(
        "replay-convert", help="a trace for the workload replay, from the output of ltrace",
        description="Turn the output of `ltrace -e malloc+calloc+realloc+free -o FILE PROGRAM` "
                    "into a trace that `gcheap stress replay` takes. Exit status: 0, or 2 when "
                    "it is none.")
    parser.add_argument("source", metavar="LTRACE", help="what ltrace wrote")
    parser.add_argument("target", metavar="OUT",
                        help="the trace; .npz is the binary format, anything else the text; - is "
                             "standard output")
    parser.set_defaults(run=run)


def run(args):
    check_targets([("OUT", args.target)], [args.source])
    console = result_console(args.target)
    try:
        with open(args.source, encoding="ascii", errors="replace") as lines:
            converted = ltrace.convert(lines)
    except OSError as error:
        raise OptionError(f"{shown(args.source)}: {error.strerror}") from None
    if not converted.rows:
        raise OptionError(f"{shown(args.source)}: no call of malloc, calloc or realloc in it; "
                          f"expected lines such as 'malloc(24) = 0x5581'")
    trace = traces.compiled(converted.rows, args.target)
    write = traces.write_npz if args.target.endswith(".npz") else traces.write_text
    content = io.BytesIO()
    write(converted.rows, content)
    binary = write is traces.write_npz
    emit(content.getvalue() if binary else content.getvalue().decode(), args.target)
    console.print(Text(
        f"{called(args.target)}: {len(trace.objects):,} objects, "
        f"{trace.peak_bytes:,} bytes at the peak; "
        f"{converted.unknown:,} calls with an address that nothing had returned, "
        f"{converted.skipped:,} other lines"))
    return 0
