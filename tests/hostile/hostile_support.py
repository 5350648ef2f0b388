"""Child processes in hostile surroundings: how these tests start, watch and end them."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from support import PATIENCE, ROOT, run_cleanly, run_python, wait_until

HERE = Path(__file__).resolve().parent
PRELUDE = """
import ctypes, errno, os, resource, signal, sys, threading, time
import gcheap
from gcheap import failpoints
from gcheap.core import _testing
from hostile_child import *
"""
# Nothing here is told to be quick: stalls and stops are long on purpose.
QUIET = {"GCHEAP_SAFEPOINT_WARNING_MS": "0", "GCHEAP_STALL_WARNING_MS": "0"}


def _arguments(options: dict, seed: int) -> tuple[str, str]:
    return json.dumps(options), str(seed)


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "tests"), str(HERE),
                                         os.environ.get("PYTHONPATH", "")]))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GCHEAP_")}
    clean["GCHEAP_PAUSE_WARNING_MS"] = "0"      # on a machine that is busy any pause may be long
    clean.pop("PYTHONFAULTHANDLER", None)
    return clean | QUIET | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def in_child(body: str, options: dict | None = None, seed: int = 1, env_more=None,
             **popen) -> str:
    """Runs `body` in a fresh interpreter, which must end well and silently; what it printed."""
    return run_cleanly(PRELUDE + textwrap.dedent(body), env=_environment() | (env_more or {}),
                       arguments=_arguments(options or {}, seed), **popen)


def ended(body: str, options: dict | None = None, seed: int = 1,
          **popen) -> subprocess.CompletedProcess:
    """The same for a child that may end otherwise."""
    return run_python(PRELUDE + textwrap.dedent(body), env=_environment(),
                      arguments=_arguments(options or {}, seed), **popen)


class Running:
    """A child at work, to be disturbed from here.  It prints "ready" when it may be."""

    def __init__(self, body: str, options: dict | None = None, seed: int = 1, **popen) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(body),
             *_arguments(options or {}, seed)],
            env=_environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, **popen)
        self.pid = self._process.pid

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    @property
    def over(self) -> bool:
        return self._process.poll() is not None

    def hears(self, word: str) -> str:
        """The next line that the child prints, which begins with `word`."""
        line = self._process.stdout.readline()
        assert line.startswith(word), (line, self._process.poll() is not None
                                       and self._process.stderr.read())
        return line.strip()

    def say(self, line: str = "") -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait(self) -> tuple[int, str, str]:
        """Status, output and error, when it has ended."""
        out, err = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, out, err

    def ends_well(self) -> str:
        status, out, err = self.wait()
        assert (status, err) == (0, ""), (status, out, err)
        return out


def state_of(pid: int, thread: int | None = None) -> str:
    """The letter of /proc/…/stat: R running, S sleeping, T stopped, t traced."""
    stat = Path(f"/proc/{pid}/task/{thread or pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


def wait_for_state(pid: int, letters: str, thread: int | None = None) -> None:
    wait_until(lambda: state_of(pid, thread) in letters, f"state {letters} of {thread or pid}")
