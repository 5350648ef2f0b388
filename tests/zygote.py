"""A fresh interpreter for each script, forked from one that has imported gcheap already.

Each script runs as `__main__` of its own process and ends as any interpreter does.  That takes some
ten milliseconds instead of a start and an import.
"""
from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

from support import PATIENCE, ROOT

_ZYGOTE = """
import json, os, resource, select, signal, sys, time, threading
import gcheap, gcheap.stress
from gcheap.core import _testing

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))        # scripts may abort
_tests, _patience = sys.argv[1:]
sys.path.insert(0, _tests)

def _serve():
    for line in sys.stdin:
        script, arguments, environment = json.loads(line)
        out, write_out = os.pipe()
        err, write_err = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(write_out, 1)
            os.dup2(write_err, 2)
            for fd in (out, err, write_out, write_err):
                os.close(fd)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.close(null)
            os.environ.update(environment)
            return script, arguments
        os.close(write_out)
        os.close(write_err)
        said = {out: b"", err: b""}
        deadline = time.monotonic() + float(_patience)
        reading, hung = {out, err}, False
        while reading:
            ready = select.select(list(reading), [], [], max(0, deadline - time.monotonic()))[0]
            if not ready:
                hung = True
                os.kill(pid, signal.SIGKILL)
                break
            for fd in ready:
                part = os.read(fd, 65536)
                said[fd] += part
                if not part:
                    reading.discard(fd)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(out)
        os.close(err)
        print(json.dumps(["hung" if hung else status, said[out].decode(), said[err].decode()]),
              flush=True)
    return "", []

_script, _arguments = _serve()
sys.argv[1:] = _arguments
exec(compile(_script, "script", "exec"))
"""


class Ended(NamedTuple):
    """How a script ended: its status (minus a signal), or "hung"; what it wrote."""

    status: int | str
    out: str
    err: str


class Zygote:
    """Runs scripts, one at a time."""

    def __init__(self) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("GCHEAP_")}
        # Of every fork in a process with a heap, from Python 3.12 on (docs/reference/versions.md).
        clean["PYTHONWARNINGS"] = "ignore:This process:DeprecationWarning"
        clean["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(ROOT), clean.get("PYTHONPATH", "")]))
        clean["PYTHONDONTWRITEBYTECODE"] = "1"
        clean["GCHEAP_STALL_WARNING_MS"] = "0"  # a machine that is busy may make any stall long
        clean.pop("PYTHONFAULTHANDLER", None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ZYGOTE, str(Path(__file__).parent), str(PATIENCE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean, text=True)

    def run(self, script: str, *arguments: str, env: dict[str, str] | None = None) -> Ended:
        """How `script` ended, with `arguments` as sys.argv[1:]."""
        request = json.dumps([textwrap.dedent(script), arguments, env or {}])
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        assert select.select([self._process.stdout], [], [], 2 * PATIENCE)[0], "no answer"
        return Ended(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends the interpreter; it has no script left."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(PATIENCE) == 0
