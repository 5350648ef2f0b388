"""Which stream people read: rich consoles for results and for progress."""
import sys

from rich.console import Console
from rich.segment import Segment

from gcheap.text import printable_lines

PLAIN_WIDTH = 100               # columns when the output is no terminal
LEAST_WIDTH = 80                # a narrower terminal wraps the lines


class PlainConsole(Console):
    """Shows text as it is: nothing in it is markup, and no terminal obeys any of it."""

    def print(self, *objects, **options):
        """As rich's; what no terminal shows is never cropped."""
        super().print(*objects, **{"crop": self.is_terminal} | options)

    def render(self, renderable, options=None):
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(
                printable_lines(segment.text), segment.style)


def result_console(json_target=None):
    """Where tables go: standard output, or standard error when that carries JSON."""
    return _console(sys.stderr if json_target == "-" else sys.stdout)


def progress_console():
    """Where progress goes: always standard error, so that results can be piped."""
    return _console(sys.stderr)


def _console(stream):
    console = PlainConsole(file=stream, highlight=False, markup=False, emoji=False)
    console.width = max(LEAST_WIDTH, console.width) if stream.isatty() else PLAIN_WIDTH
    return console
