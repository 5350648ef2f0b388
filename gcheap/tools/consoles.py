"""Which stream people read: rich consoles for results and for progress."""
import os
import sys

from rich.console import Console
from rich.segment import Segment

from gcheap.text import printable_lines
from gcheap.tools.output import STDOUT, need_stdout, writing_stdout

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


class Results:
    """Standard output for a console: what cannot be written says where it was to go."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        with writing_stdout():
            return self._stream.write(text)

    def flush(self):
        with writing_stdout():
            self._stream.flush()


def result_console(*targets):
    """Where tables go: standard output, or standard error when that carries one of the `targets`
    (as "-").  OutputError when standard output is closed."""
    return progress_console() if STDOUT in targets else _console(Results(need_stdout()))


def progress_console():
    """Where progress goes: always standard error, so that results can be piped."""
    # Without one (`2>&-`) nobody sees it.
    return _console(sys.stderr or open(os.devnull, "w"))        # noqa: SIM115


def _console(stream):
    console = PlainConsole(file=stream, highlight=False, markup=False, emoji=False)
    console.width = max(LEAST_WIDTH, console.width) if stream.isatty() else PLAIN_WIDTH
    return console
