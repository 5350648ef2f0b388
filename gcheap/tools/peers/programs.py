"""The peer programs: where their sources are, and how one is built.

Sources are in benchmarks/peers of a checkout and in gcheap/peers of an installation.
"""
import os
import shutil
import subprocess
from pathlib import Path

from gcheap.errors import GcheapError

PACKAGE = Path(__file__).resolve().parents[2]
PLACES = (PACKAGE / "peers", PACKAGE.parent / "benchmarks/peers")
BUILD_SECONDS = 300


class Unavailable(Exception):
    """A system that cannot be measured here; says why, in a few words.

    version     of the system, where it told that much
    """

    def __init__(self, why, version=None):
        super().__init__(why)
        self.version = version


def sources():
    """The directory of the peer programs' sources; GcheapError when it was not installed."""
    for place in PLACES:
        if (place / "peer.c").is_file():
            return place
    raise GcheapError(f"the peer programs are not installed: expected them in {PLACES[0]}")


def need(*names):
    """The path of the first of some commands that is there; Unavailable."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise Unavailable(f"no {' or '.join(names)} on PATH")


def build(command, environment=None):
    """Runs a compiler; Unavailable with the first line that it complains with."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace",
                              timeout=BUILD_SECONDS, env={**os.environ, **(environment or {})})
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from None
    if done.returncode:
        complaint = next((line for line in done.stderr.splitlines() if "error" in line),
                         done.stderr.strip() or "failed")
        raise Unavailable(f"{os.path.basename(command[0])}: {complaint.strip()[:120]}")
