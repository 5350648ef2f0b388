"""`gcheap lox [FILE]`: Lox programs, and a REPL, with the manners and exit statuses of the book.

Imports late, and little: an empty program must end before anybody has waited for it.
"""
import os
import signal
import sys
from contextlib import suppress

from gcheap.clock import clock_ns
from gcheap.errors import GcheapError
from gcheap.options import BY_NAME, Between
from gcheap.tools.arguments import accepted, add_heap_options, add_json, capacity_argument
from gcheap.tools.output import StdoutError, abandon_stdout, check_log, check_targets, emit_json

HEAP_OPTIONS = ("backend", "faults", "verify")
WARNINGS = ("stall_warning_ms", "safepoint_warning_ms", "pause_warning_ms")
STRESS = "--gc-stress"
MOST_SOURCE = 1 << 26           # bytes: what a device without end is told from

EXIT_USAGE = 64
EXIT_IO = 74


def add(commands):
    parser = commands.add_parser(
        "lox", help="run a Lox program on a heap, or a REPL",
        description="Run a program in Lox, the language of \"Crafting Interpreters\"; without "
                    "FILE, a REPL. What follows FILE is the program's. Exit status: 0, 64 usage, "
                    "65 the source has errors, 70 a run-time error, 74 FILE cannot be read, or "
                    "output cannot be written.")
    parser.usage_status = EXIT_USAGE
    parser.prepare = spell_out
    parser.add_argument("file", nargs="?", metavar="FILE", help="a program; none: a REPL")
    parser.add_argument("args", nargs="...", metavar="ARGS", help="what args() returns in it")
    parser.add_argument(STRESS, type=accepted(lambda text: Between(1, 2**32)(text, STRESS)),
                        metavar="[N]", default=0,
                        help="a full collection at every N-th allocation of each thread (default "
                             "every one)")
    parser.add_argument("--capacity", type=capacity_argument, metavar="SIZE|min",
                        help="bytes of objects the heap may hold (default 1GiB; environment "
                             f"{BY_NAME['capacity'].env})")
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
    hold_descriptors()
    try:
        return run_program(args)
    except StdoutError as error:
        abandon_stdout()
        return unusable(f"gcheap: {error}")
    except (GcheapError, BrokenPipeError):
        raise
    except OSError as error:
        abandon_stdout()
        return unusable(f"gcheap: output cannot be written: {error.strerror or error}")


def run_program(args):
    from gcheap.lox import Session

    if args.json:
        check_targets([("--json", args.json)], [args.file] if args.file is not None else [])
        check_log(args.json)
    source = None
    if args.file is not None:
        try:
            source = read(args.file)
        except OSError as error:
            return unusable(error)
    # As with any interpreter in C: Ctrl-C ends the process, whatever the program does.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    begun = clock_ns()
    out = 2 if args.json == "-" else 1
    with Session(path=args.file or "<repl>", args=args.args, out=out, capacity=args.capacity,
                 gc_stress=args.gc_stress, **heap_options(args)) as session:
        if source is None:
            status = repl(session, out)
        else:
            status = session.interpret(source) or session.wait()
        if args.json:
            from gcheap.lox.report import document

            seconds = (clock_ns() - begun) / 1e9
            emit_json(document(session, args.file, args.args, status, seconds), args.json)
    return status


def hold_descriptors():
    """A standard descriptor that is closed stays unusable: else the next one that is opened, the
    heap's perhaps, would have its number, and get what the program prints."""
    for fd, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)           # the lowest number that is free


def unusable(message):
    """One line on standard error, if anybody has one; the status of what was not read or written.
    """
    with suppress(OSError):
        os.write(2, f"{message}\n".encode(errors="backslashreplace"))
    return EXIT_IO


def heap_options(args):
    """As given.  The heap's warnings are off unless a variable asks for them: standard error is
    the program's, and an error there is what the book says, or one line."""
    options = {name: getattr(args, name) for name in HEAP_OPTIONS}
    return options | {name: 0 for name in WARNINGS if BY_NAME[name].env not in os.environ}


def read(path):
    """The bytes of the file; an OSError whose text is the book's message."""
    try:
        stream = open(path, "rb")                       # noqa: SIM115
    except (OSError, ValueError):                       # ValueError: a zero byte in the name
        raise OSError(f'Could not open file "{path}".') from None
    with stream:
        try:
            source = stream.read(MOST_SOURCE + 1)
        except OSError:
            raise OSError(f'Could not read file "{path}".') from None
    if len(source) > MOST_SOURCE:
        raise OSError(f'Not enough memory to read "{path}".')
    return source


def repl(session, out):
    """Reads and runs line after line; errors end none but their own.  Returns the status."""
    if not session.begun:
        return session.interpret("")
    lines = sys.stdin.buffer if sys.stdin is not None else None
    while True:
        os.write(out, b"> ")
        try:
            line = lines.readline(MOST_SOURCE + 1) if lines is not None else b""
        except OSError:
            return unusable("Could not read standard input.")
        if len(line) > MOST_SOURCE:
            return unusable("Not enough memory to read a line of standard input.")
        if not line:
            os.write(out, b"\n")
            return 0
        session.interpret(line)
