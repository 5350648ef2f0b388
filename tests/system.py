"""Settings of the whole machine that a test changes for a moment, as root; they come back even when
the test is killed."""
from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import PATIENCE

KSM = Path("/sys/kernel/mm/ksm")
ZRAM_CONTROL = Path("/sys/class/zram-control")
libc = ctypes.CDLL(None, use_errno=True)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def status_kb(name: str, pid: int | str = "self") -> int:
    """A line of /proc/PID/status; 0 when it has none."""
    match = re.search(rf"^{name}:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


class Janitor:
    """Undoes changes to the system even when this process is killed.

    A process of its own session waits for the end of a pipe that only we hold; then it runs
    the steps, last one first: ("write", path, text), ("swapoff", path), ("unlink", path),
    ("rmdir", path).
    """

    CODE = """
        import ctypes, errno, json, os, signal, sys, time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        libc = ctypes.CDLL(None, use_errno=True)

        def swapoff(path):
            # The kernel may refuse for a moment, and tells nobody when it would not.  EINVAL: it
            # was never on.
            for _ in range(100):
                if libc.swapoff(path.encode()) == 0 or ctypes.get_errno() == errno.EINVAL:
                    return
                time.sleep(0.05)
            raise OSError(ctypes.get_errno(), "swapoff")

        steps = [json.loads(line) for line in sys.stdin]
        for kind, path, *text in reversed(steps):
            try:
                if kind == "write":
                    with open(path, "w") as file:
                        file.write(text[0])
                elif kind == "swapoff":
                    swapoff(path)
                elif kind == "unlink":
                    os.unlink(path)
                elif kind == "rmdir":
                    os.rmdir(path)
            except OSError as error:
                print(path, error)
    """

    # Two processes of tests would put back what the other had changed, so one waits for the other:
    # by a lock of a directory that all users have.  A test may have janitors within janitors.
    _lock = -1
    _at_work = 0

    def __enter__(self) -> Janitor:
        if Janitor._at_work == 0:
            Janitor._lock = os.open("/tmp", os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(Janitor._lock, fcntl.LOCK_EX)
        Janitor._at_work += 1
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(self.CODE)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True)
        return self

    def promise(self, kind: str, path: str, *text: str) -> None:
        """Say it before doing what it undoes."""
        self._process.stdin.write(json.dumps([kind, path, *text]) + "\n")
        self._process.stdin.flush()

    def __exit__(self, *exc: object) -> None:
        try:
            troubles, _ = self._process.communicate(timeout=PATIENCE)
        finally:
            Janitor._at_work -= 1
            if Janitor._at_work == 0:
                os.close(Janitor._lock)
        assert not troubles, troubles

    def write(self, path: Path, text: str) -> None:
        """Writes a setting; what it was comes back."""
        before = path.read_text().strip()
        chosen = re.search(r"\[(\w+)\]", before)           # "always [madvise] never"
        self.promise("write", str(path), chosen[1] if chosen else before)
        path.write_text(text)


# ---- KSM -----------------------------------------------------------------------------------

@contextmanager
def ksm_at_work() -> Iterator[None]:
    """Inside, the kernel looks for pages to merge, without a rest.  What is merged stays so."""
    if not KSM.is_dir():
        pytest.skip("this kernel was built without KSM")
    with Janitor() as janitor:
        for name, value in (("pages_to_scan", "10000"), ("sleep_millisecs", "0"), ("run", "1")):
            janitor.write(KSM / name, value)
        yield


# ---- swap ----------------------------------------------------------------------------------

def _make_zram(janitor: Janitor, nbytes: int) -> str:
    number = (ZRAM_CONTROL / "hot_add").read_text().strip()
    janitor.promise("write", str(ZRAM_CONTROL / "hot_remove"), number)
    Path(f"/sys/block/zram{number}/disksize").write_text(str(nbytes))
    device = Path(f"/dev/zram{number}")
    if not device.exists():
        pytest.skip(f"{device} does not appear (no devtmpfs here)")
    return str(device)


def _make_file(janitor: Janitor, nbytes: int) -> str:
    fd, path = tempfile.mkstemp(prefix="gcheap-swap-", dir=Path(__file__).parent)
    janitor.promise("unlink", path)
    with os.fdopen(fd, "wb") as file:
        # Written out, not truncated: a swap file must have no holes.
        for _ in range(nbytes >> 20):
            file.write(bytes(1 << 20))
        os.fsync(file.fileno())
    return path


@contextmanager
def swap_space(kind: str, nbytes: int) -> Iterator[str]:
    """Some swap space more, of kind "zram" or "file"; skips the test where there can be none."""
    if not shutil.which("mkswap"):
        pytest.skip("mkswap is not installed")
    if kind == "zram" and not (ZRAM_CONTROL / "hot_add").exists():
        pytest.skip("this kernel has no zram")
    with Janitor() as janitor:
        path = (_make_zram if kind == "zram" else _make_file)(janitor, nbytes)
        subprocess.run(["mkswap", path], check=True, capture_output=True)
        janitor.promise("swapoff", path)
        if libc.swapon(path.encode(), 0):
            pytest.skip(f"swapon {path}: {os.strerror(ctypes.get_errno())}")
        yield path
