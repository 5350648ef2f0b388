"""The `gcheap` command line: one module per command under gcheap/tools.

Exit status of every command: 0 done, 1 it ran and something was wrong, 2 it could not run
(bad usage, bad values, a file that cannot be written), 130 interrupted.  `gcheap doctor`
states its own.
"""
import os
import sys
from contextlib import suppress

import gcheap
from gcheap.errors import GcheapError, HeapExhausted
from gcheap.text import printable
from gcheap.tools import bench, config, doctor, options, report, stats, stress
from gcheap.tools.arguments import Parser

COMMANDS = (stress, report, stats, bench, doctor, options, config)

EXIT_WRONG = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def build_parser():
    parser = Parser(
        prog="gcheap", description="A heap whose live pages move under running mutators.")
    parser.add_argument("--version", action="version", version=f"gcheap {gcheap.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(argv=None):
    """Run one command; returns its exit status (argparse exits by itself on bad usage)."""
    args = build_parser().parse_args(argv)
    try:
        status = args.run(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return fail("interrupted", EXIT_INTERRUPTED)
    except HeapExhausted as error:
        return fail(error, EXIT_WRONG)
    except GcheapError as error:
        return fail(error, EXIT_USAGE)
    except BrokenPipeError:
        # Whoever read our output has seen enough (`gcheap ... | head`): no complaint.
        _abandon_output()
        return EXIT_WRONG
    except OSError as error:
        _abandon_output()
        return fail(error, EXIT_USAGE)


def fail(message, status):
    """One line on standard error; returns `status`."""
    print(f"gcheap: {printable(' '.join(str(message).split()))}", file=sys.stderr)
    return status


def _abandon_output():
    """Standard output cannot be written: the interpreter's last flush must not try again."""
    with suppress(OSError):             # it may be no file at all
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
