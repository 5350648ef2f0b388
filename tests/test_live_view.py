"""`gcheap stress --live-view`: the map on a terminal, plain lines elsewhere."""
from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from support import HOME, PATIENCE, run_python

from gcheap.pagemap import KINDS, OWNERS, STATES
from gcheap.stress import Progress as Glance
from gcheap.tools.consoles import PlainConsole
from gcheap.tools.liveview import LOOKS, LiveView

pytestmark = pytest.mark.sigbus_only("the same is shown, whoever serves faults")

COMMAND = ("stress", "--live-view", "--seconds", "1", "--live", "8MiB")
MAIN = "import sys; from gcheap.cli import main; sys.exit(main(sys.argv[1:]))"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(columns, lines, encoding="utf-8", command=COMMAND, term="xterm-256color"):
    """The bytes that the command writes to a terminal of so many columns and lines."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GCHEAP_")}
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *command], stdin=child, stdout=child, stderr=child,
        close_fds=True, env=clean | {"PYTHONPATH": HOME, "TERM": term, "COLUMNS": "",
                                     "LINES": "", "PYTHONIOENCODING": encoding})
    os.close(child)
    written, deadline = b"", time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if select.select([parent], [], [], 0.1)[0]:
            try:
                piece = os.read(parent, 1 << 16)
            except OSError:                 # EIO: the other end is closed
                break
            if not piece:
                break
            written += piece
    os.close(parent)
    assert process.wait(PATIENCE) == 0
    return written.decode(encoding, "replace")


def test_on_a_terminal_the_map_moves_and_the_tables_follow():
    text = on_a_terminal(100, 40)
    frames = text.split("placed by mutator")
    assert len(frames) > 4, "several frames"
    assert "half 0:" in text and "half 1:" in text and "█" in text
    assert "mark start" in text and "relocate start" in text and "allocation stalls" in text
    assert "verified: every check passed" in text.rsplit("\x1b[?1049l", 1)[1]
    # Nothing wraps: no line between the halves is longer than the terminal.
    shown = ESCAPE.sub("", text)
    assert max(len(line) for line in re.split(r"[\r\n]+", shown) if "█" in line) <= 100


@pytest.mark.parametrize("size", [(60, 40), (100, 12)])
def test_a_terminal_that_is_too_small_gets_the_line(size):
    text = on_a_terminal(*size)
    assert "half 0:" not in text and "verified" in text
    assert f"no live view, but lines: the terminal is {size[0]} x {size[1]}, and it takes" in text


@pytest.mark.parametrize("command", [COMMAND, (COMMAND[0], *COMMAND[2:])])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(command):
    text = on_a_terminal(100, 40, command=command, term="dumb")
    assert "churn: run" in text and "verified" in text and "\x1b" not in text
    assert ("no live view, but lines: a terminal with TERM=dumb" in text) == (
        "--live-view" in command)


def test_without_a_terminal_there_are_plain_lines():
    done = run_python(MAIN, arguments=COMMAND)
    assert done.returncode == 0 and "verified" in done.stdout
    assert "churn: run" in done.stderr and "half 0:" not in done.stderr
    assert "no live view, but lines: standard error is no terminal" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


# ---- a frame -----------------------------------------------------------------------------------

class Stats:
    """Counters that are all 7."""

    def __getattr__(self, name):
        return 7


class FakeHeap:
    def __init__(self, rows, pauses):
        self.page_map, self.pauses, self.stats = lambda: rows, lambda: pauses, Stats


def frame(rows, encoding="utf-8", **glance):
    """What one glance shows, without colours."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding, "backslashreplace", write_through=True)
    console = PlainConsole(file=stream, force_terminal=True, width=80, height=24, color_system=None,
                           highlight=False, markup=False, emoji=False)
    pauses = np.array([(3, "mark_end", 10, 20_000, 5_000)], [
        ("cycle", "u8"), ("phase", "U16"), ("start_ns", "u8"), ("reach_ns", "u8"),
        ("work_ns", "u8")])
    with LiveView(console, "churn") as view:
        view(Glance(**({"phase": "run", "elapsed": 1.0, "seconds": 5.0, "ops": 1000, "cycles": 3,
                        "faults": 4, "last_pause_ns": 5000, "heap": FakeHeap(rows, pauses)}
                       | glance)))
        stream.seek(0)
        return ESCAPE.sub("", stream.read())


def made_up(*parts):
    """Rows from (current, [state or owner, ...]) of half 0 and half 1."""
    rows = []
    for half, (current, units) in enumerate(parts):
        for unit, name in enumerate(units):
            state = STATES.index(name if name in STATES else "placed")
            by = OWNERS.index(name) if name in OWNERS else 0
            rows.append((unit, 0, half, current, state, by, 50 if name == "empty" else -1))
    return np.array(rows, [("unit", "u4"), ("space", "u1"), ("half", "u1"), ("current", "?"),
                           ("state", "u1"), ("by", "u1"), ("live_bytes", "i4")])


TO = ["compactor", "mutator", "assembling", "unclaimed", "used"]


def test_a_frame_during_a_relocation():
    text = frame(made_up((False, ["taken", "evacuated", "source"]), (True, TO)))
    assert "half 0: from-space" in text and "half 1: to-space" in text
    assert ".□■" in text and "█▓▞░▒" in text
    assert "mark end" in text and "20 µs" in text and "50.0 % of 2 units" in text


def test_a_frame_between_two_cycles_shows_how_full_the_old_half_was():
    text = frame(made_up((True, ["compactor", "used"]), (False, ["empty", "empty"])))
    assert "half 0: in use" in text and "half 1: free; how full" in text
    assert "█▒" in text and "██" in text


def test_a_terminal_without_our_glyphs_gets_letters():
    text = frame(made_up((False, ["taken", "evacuated", "source"]), (True, TO)), encoding="latin-1")
    assert "CMh-u" in text and ".es" in text


def test_every_kind_has_a_look_of_its_own():
    assert set(LOOKS) == set(KINDS) and "…" not in frame(made_up((True, TO), (False, [])))
    for at in (0, 1):
        assert len({look[at] for look in LOOKS.values()}) == len(LOOKS)
