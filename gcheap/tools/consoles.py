"""Which stream people read: rich consoles for results and for progress."""
import sys

from rich.console import Console

PLAIN_WIDTH = 100               # columns when the output is no terminal
LEAST_WIDTH = 80                # what every table fits; a narrower terminal wraps the lines


def result_console(json_target=None):
    """Where tables go: standard output, or standard error when that carries JSON."""
    return _console(sys.stderr if json_target == "-" else sys.stdout)


def progress_console():
    """Where progress goes: always standard error, so that results can be piped."""
    return _console(sys.stderr)


def _console(stream):
    console = Console(file=stream, highlight=False)
    console.width = max(LEAST_WIDTH, console.width) if stream.isatty() else PLAIN_WIDTH
    return console
