"""The `gcheap` command line: one module per command under gcheap/tools.

Exit status of every command: 0 done, 1 it ran and something was wrong, 2 it could not run
(bad usage, bad values, a file that cannot be written), 130 interrupted.  `gcheap doctor` and
`gcheap lox` state their own.
"""
import sys
import traceback
from importlib import import_module

import gcheap
from gcheap.errors import GcheapError, HeapExhausted, WorkloadError
from gcheap.text import printable_lines
from gcheap.tools.arguments import Parser
from gcheap.tools.output import StdoutError, abandon_stdout, complain, writing_stdout

COMMANDS = ("stress", "report", "stats", "lox", "minheap", "bench", "compare", "doctor",
            "options", "config", "replay_convert")
# Of `gcheap config`; build scripts ask for them as `python -m gcheap --cflags --libs`, too.
CONFIG = ("--include", "--cflags", "--libs")

EXIT_WRONG = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def build_parser(only=None):
    """The parser of every command, or of one: the others are not imported then."""
    parser = Parser(
        prog="gcheap", description="A heap whose live pages move under running mutators.")
    parser.add_argument("--version", action="version", version=f"gcheap {gcheap.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS if only is None else (only,):
        import_module(f"gcheap.tools.{command}").add(commands)
    return parser


def main(argv=None):
    """Run one command; returns its exit status (argparse exits by itself on bad usage)."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in CONFIG:
        words = ["config", *words]
    only = words[0] if words and words[0] in COMMANDS else None
    args = build_parser(only).parse_args(words)
    try:
        status = args.run(args)
        if sys.stdout is not None:      # None: closed from the start, and nothing was written
            with writing_stdout():
                sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return fail("interrupted", EXIT_INTERRUPTED)
    except HeapExhausted as error:
        return fail(error, EXIT_WRONG)
    except WorkloadError as error:      # whoever wrote the workload wants to know where
        told = "".join(traceback.format_exception(error.__cause__))
        sys.stderr.write(printable_lines(told))
        return fail(error, EXIT_WRONG)
    except GcheapError as error:
        if isinstance(error, StdoutError):
            abandon_stdout()
        return fail(error, EXIT_USAGE)
    except BrokenPipeError:
        # Whoever read our output has seen enough (`gcheap ... | head`): no complaint.
        abandon_stdout()
        return EXIT_WRONG
    except OSError as error:
        abandon_stdout()
        return fail(error, EXIT_USAGE)


def fail(message, status):
    """One line on standard error; returns `status`."""
    complain(message)
    return status
