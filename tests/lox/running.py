"""Running Lox programs in this process, or as the command does it."""
from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import COMBINATIONS, PATIENCE, kernel_offers

import gcheap.lox
from gcheap.core._testing_sanitizer import sanitizer
from lox.evaluator import Outcome

# How each program is run: as it comes, with a collection at every allocation, and once for each
# other backend and fault mode, with as many collections as make a difference.
MODES = {"plain": {}, "stressed": {"backend": "move", "faults": "sigbus", "gc_stress": 1}} | {
    "-".join(pair): {"backend": pair[0], "faults": pair[1], "gc_stress": 10}
    for pair in COMBINATIONS if pair != ("move", "sigbus")}
CAPACITY = "16MiB"


def many(examples: int) -> int:
    """So many, or a tenth of them where each takes ten times as long."""
    return examples // 10 if sanitizer() else examples


def run_bytes(source: str | bytes, **options) -> tuple[int, bytes, bytes]:
    """(status, stdout, stderr) of a program.  The sign of a NaN, which processors disagree about,
    is taken away."""
    out, err = os.memfd_create("out"), os.memfd_create("err")
    try:
        status = gcheap.lox.run(source, out=out, err=err,
                                **({"capacity": CAPACITY} | options))
        return status, *(os.pread(fd, os.fstat(fd).st_size, 0).replace(b"-nan", b"nan")
                         for fd in (out, err))
    finally:
        os.close(out)
        os.close(err)


def run(source: str | bytes, **options) -> Outcome:
    """The same as text."""
    status, out, err = run_bytes(source, **options)
    return Outcome(status, out.decode(), err.decode())


def run_for(seconds: float, source: bytes, **options) -> int:
    """The status of a program that is stopped after so long."""
    ended = threading.Event()
    with open(os.devnull, "wb") as null, gcheap.lox.Session(
            out=null.fileno(), err=null.fileno(),
            **({"capacity": CAPACITY} | options)) as session:
        def stop() -> None:
            while not ended.wait(seconds):
                session.stop()
        beside = threading.Thread(target=stop)
        beside.start()
        try:
            return session.interpret(source) or session.wait()
        finally:
            session.wait()
            ended.set()
            beside.join()


def options_of(mode: str) -> dict[str, object]:
    """The options of a mode; skips the test when this machine lacks its backend."""
    options = MODES[mode]
    reason = kernel_offers(options.get("backend", "stw"))
    if reason is not None:
        pytest.skip(f"no backend {options['backend']} here: {reason}")
    return options


def command(*arguments: str | Path, stdin: str | bytes = "", **kwargs) -> Outcome:
    """`gcheap lox ARGUMENTS`, a process of its own."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    done = subprocess.run([sys.executable, "-m", "gcheap", "lox", *map(str, arguments)],
                          input=stdin, capture_output=True, timeout=PATIENCE, **kwargs)
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"))
