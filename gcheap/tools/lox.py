"""`gcheap lox [FILE]`: Lox programs, and a REPL, with the manners and exit statuses of the book.

Imports late, and little: an empty program must end before anybody has waited for it.
"""
import os
import signal
import sys

from gcheap.clock import clock_ns
from gcheap.options import Between
from gcheap.tools.arguments import accepted, add_heap_options, add_json, capacity_argument

HEAP_OPTIONS = ("backend", "faults", "verify")
STRESS = "--gc-stress"
DEFAULT_CAPACITY = "1GiB"

EXIT_USAGE = 64
EXIT_UNREADABLE = 74


def add(commands):
    parser = commands.add_parser(
        "lox", help="run a Lox program on a heap, or a REPL",
        description="Run a program in Lox, the language of \"Crafting Interpreters\"; without "
                    "FILE, a REPL. What follows FILE is the program's. Exit status: 0, 64 usage, "
                    "65 the source has errors, 70 a run-time error, 74 FILE cannot be read.")
    parser.usage_status = EXIT_USAGE
    parser.prepare = spell_out
    parser.add_argument("file", nargs="?", metavar="FILE", help="a program; none: a REPL")
    parser.add_argument("args", nargs="...", metavar="ARGS", help="what args() returns in it")
    parser.add_argument(STRESS, type=accepted(lambda text: Between(1, 2**32)(text, STRESS)),
                        metavar="[N]", default=0,
                        help="a full collection at every N-th allocation of each thread (default "
                             "every one)")
    parser.add_argument("--capacity", type=capacity_argument, metavar="SIZE|min",
                        default=DEFAULT_CAPACITY,
                        help="bytes of objects the heap may hold (default %(default)s)")
    add_heap_options(parser, HEAP_OPTIONS)
    add_json(parser)
    parser.set_defaults(run=run)


def spell_out(words):
    """`--gc-stress` with a number after it only if there is one: what follows may be FILE."""
    words = list(words)
    at = 0
    while at < len(words) and words[at].startswith("--"):
        if words[at] == STRESS:
            number = words[at + 1] if words[at + 1:] else ""
            given = number.isascii() and number.isdigit()
            words[at:at + 1 + given] = [f"{STRESS}={number if given else 1}"]
            at += 1
        else:
            at += 1 if "=" in words[at] else 2
    return words


def run(args):
    from gcheap.lox import Session

    if args.json:
        from gcheap.tools.output import check_log, check_targets

        check_targets([("--json", args.json)], [args.file] if args.file is not None else [])
        check_log(args.json)
    source = None
    if args.file is not None:
        try:
            source = read(args.file)
        except OSError as error:
            print(error, file=sys.stderr)
            return EXIT_UNREADABLE
    # As with any interpreter in C: Ctrl-C ends the process, whatever the program does.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    begun = clock_ns()
    with Session(path=args.file or "<repl>", args=args.args, out=2 if args.json == "-" else 1,
                 capacity=args.capacity, gc_stress=args.gc_stress,
                 **{name: getattr(args, name) for name in HEAP_OPTIONS}) as session:
        if source is None:
            repl(session)
            status = 0
        else:
            status = session.interpret(source) or session.wait()
        if args.json:
            from gcheap.lox.report import document
            from gcheap.tools.output import emit_json

            seconds = (clock_ns() - begun) / 1e9
            emit_json(document(session, args.file, args.args, status, seconds), args.json)
    return status


def read(path):
    """The bytes of the file; an OSError whose text is the book's message."""
    try:
        stream = open(path, "rb")                       # noqa: SIM115
    except (OSError, ValueError):                       # ValueError: a zero byte in the name
        raise OSError(f'Could not open file "{path}".') from None
    with stream:
        try:
            return stream.read()
        except OSError:
            raise OSError(f'Could not read file "{path}".') from None


def repl(session):
    """Reads and runs line after line; errors end none but their own."""
    lines = sys.stdin.buffer
    while True:
        os.write(1, b"> ")
        line = lines.readline()
        if not line:
            os.write(1, b"\n")
            return
        session.interpret(line)
