"""What a process of pytest had written to standard error when it died.

A broken invariant of the core is one line on standard error, and an abort.  Pytest keeps what a
test writes there in a file without a name, which it reads when the test has ended: when the process
dies instead, the line is gone with it.  So another process holds that file open too, waits for the
end of this one, and unless this one has said goodbye writes what is in the file to where standard
error really leads.  (A test that takes `capfd` has a file of its own, and is on its own.)
"""
from __future__ import annotations

import os
import subprocess
import sys

import pytest

_WAIT = """
import os, select, sys
captured, real, parent = map(int, sys.argv[1:4])
watched = os.pidfd_open(parent)
if os.fork():
    os._exit(0)                 # nobody's child: a test may wait for any child of its own
os.setsid()
select.select([0, watched], [], [])
if os.read(0, 1) if select.select([0], [], [], 0)[0] else b"":
    os._exit(0)
size = os.fstat(captured).st_size
text = os.pread(captured, 65536, max(0, size - 65536))
os.write(real, b"\\n%s died; on its standard error:\\n%s\\n" % (os.fsencode(sys.argv[4]), text))
"""


class BlackBox:
    """Of this process.  `goodbye` ends it: this process is going to end well."""

    def __init__(self, captured: int, real: int, name: str) -> None:
        ours = ("LD_PRELOAD", "PYTHON", "GCHEAP_")
        with subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _WAIT, str(captured), str(real),
                 str(os.getpid()), name],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=(captured, real),
                env={k: v for k, v in os.environ.items() if not k.startswith(ours)}) as process:
            assert process.stdin is not None
            self._bell = os.dup(process.stdin.fileno())
        self._owner = os.getpid()

    def goodbye(self) -> None:
        if os.getpid() == self._owner:
            os.write(self._bell, b".")
            os.close(self._bell)


_BOX = pytest.StashKey[BlackBox]()


def pytest_configure(config: pytest.Config) -> None:
    capture = config.pluginmanager.get_plugin("capturemanager")
    real = os.dup(2)            # nothing is captured yet
    capture.resume_global_capture()
    captured = os.dup(2)
    capture.suspend_global_capture()
    if os.fstat(captured) != os.fstat(real):
        worker = os.environ.get("PYTEST_XDIST_WORKER", "pytest")
        config.stash[_BOX] = BlackBox(captured, real, f"{worker} (process {os.getpid()})")
    os.close(captured)
    os.close(real)


def pytest_unconfigure(config: pytest.Config) -> None:
    box = config.stash.get(_BOX, None)
    if box is not None:
        box.goodbye()
