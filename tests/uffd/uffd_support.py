"""Scratch memory, threads that fault, forked children: what the userfaultfd tests share.

Missing pages are touched by threads that do not hold the GIL (`ctypes.CDLL` releases it), never
by `memory[0]`, which would stop every other Python thread.
"""
from __future__ import annotations

import ctypes
import errno
import mmap
import os
import pickle
import re
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from support import PATIENCE, wait_until

from gcheap.userfaultfd import read_memory, write_memory

PAGE = mmap.PAGESIZE
HUGE = 2 << 20                          # what a PMD maps with 4 KiB pages
MAP_FIXED = 0x10
PROT_NONE = 0
PROT_RW = mmap.PROT_READ | mmap.PROT_WRITE
MADV_FREE, MADV_COLLAPSE, MADV_PAGEOUT = 8, 25, 21

libc = ctypes.CDLL(None, use_errno=True)
for _name, _result, *_arguments in (
        ("mmap", "p", "p", "z", "i", "i", "i", "l"), ("munmap", "i", "p", "z"),
        ("mprotect", "i", "p", "z", "i"), ("madvise", "i", "p", "z", "i"),
        ("mlock2", "i", "p", "z", "i"), ("mremap", "p", "p", "z", "z", "i", "p"),
        ("write", "z", "i", "p", "z"), ("read", "z", "i", "p", "z")):
    _types = {"p": ctypes.c_void_p, "z": ctypes.c_size_t, "i": ctypes.c_int, "l": ctypes.c_long}
    getattr(libc, _name).restype = ctypes.c_ssize_t if _result == "z" else _types[_result]
    getattr(libc, _name).argtypes = [_types[argument] for argument in _arguments]


def checked(result: int | None) -> int:
    """The result of a libc call; OSError for -1 (mmap's too)."""
    if result in (-1, (1 << 64) - 1):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result or 0


def page_of(byte: int) -> bytes:
    return bytes([byte]) * PAGE


class Scratch:
    """Mappings by address, unmapped at the end whatever became of them."""

    def __init__(self) -> None:
        self._mapped: list[tuple[int, int]] = []

    def map(self, length: int, *, flags: int = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
            fd: int = -1, prot: int = PROT_RW) -> int:
        """An address with nothing around it, so that it stays a mapping of its own."""
        hole = checked(libc.mmap(None, length + 2 * PAGE, PROT_NONE,
                                 mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0))
        self._mapped.append((hole, length + 2 * PAGE))
        return checked(libc.mmap(hole + PAGE, length, prot, flags | MAP_FIXED, fd, 0))

    def map_aligned(self, length: int, align: int = HUGE) -> int:
        """The same at a multiple of `align`."""
        area = self.map(length + 2 * align, prot=PROT_NONE)
        start = -(-area // align) * align
        libc.munmap(start, length)
        return checked(libc.mmap(start, length, PROT_RW,
                                 mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED, -1, 0))

    def filled(self, pages: int, first: int = 1) -> int:
        """Private memory whose pages hold `first`, `first + 1`, ..."""
        start = self.map(pages * PAGE)
        fill(start, pages, first)
        return start

    def close(self) -> None:
        for start, length in self._mapped:
            libc.munmap(start, length)


def fill(start: int, pages: int, first: int = 1) -> None:
    for i in range(pages):
        write_memory(start + i * PAGE, page_of((first + i) % 255 + 1))


def content(first: int, pages: int) -> bytes:
    """What `fill` wrote."""
    return b"".join(page_of((first + i) % 255 + 1) for i in range(pages))


def advise(start: int, length: int, advice: int) -> None:
    checked(libc.madvise(start, length, advice))


class Worker:
    """One daemon thread that runs `job()`; `tid` is its kernel id, `result()` waits."""

    def __init__(self, job: Callable[[], object]) -> None:
        self._job = job
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._value: object = None
        self._error: BaseException | None = None
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def _run(self) -> None:
        self.tid = threading.get_native_id()
        self._ready.set()
        try:
            self._value = self._job()
        except BaseException as error:      # noqa: BLE001  (handed to whoever asks)
            self._error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> object:
        self._thread.join(PATIENCE)
        assert self.done, f"the thread never finished; it waits in {self.wchan()!r}"
        if self._error is not None:
            raise self._error
        return self._value

    def _proc(self, name: str) -> str:
        return Path(f"/proc/self/task/{self.tid}/{name}").read_text()

    def wchan(self) -> str:
        """The kernel function in which it sleeps; "0" when it runs or that is hidden."""
        return self._proc("wchan")

    def sleeps(self) -> bool:
        return self._proc("stat").rpartition(")")[2].split()[0] in "SD"

    def switches(self) -> int:
        """How often it gave up the CPU by itself: one more each time it slept and ran."""
        return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", self._proc("status"),
                             re.MULTILINE)[1])

    def wait_blocked(self) -> int:
        """Returns `switches()` once it sleeps in the page fault."""
        wait_until(lambda: self.sleeps() and self.wchan() in ("handle_userfault", "0"),
                   "the thread waits for its page")
        return self.switches()


def reader(address: int, length: int = 1) -> Worker:
    return Worker(lambda: read_memory(address, length))


def writer(address: int, data: bytes = b"w") -> Worker:
    return Worker(lambda: write_memory(address, data))


def one_event(uffd):
    """The next event."""
    events = uffd.read_events(1, timeout=PATIENCE)
    assert events, "no event came"
    return events[0]


def wait_readable(fd) -> None:
    assert select.select([fd], [], [], PATIENCE)[0], "no event came"


class Child:
    """A forked child that runs `job()` and then lives until the end of the block.

    `result` is what the job returned (an exception is raised here).
    """

    def __init__(self, job: Callable[[], object] = lambda: None) -> None:
        self._job = job

    def __enter__(self) -> Child:
        answer, answer_in = os.pipe()
        life, self._life = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self._life)
                os.close(answer)
                try:
                    outcome = (True, self._job())
                except BaseException as error:      # noqa: BLE001
                    outcome = (False, error)
                with os.fdopen(answer_in, "wb") as out:
                    pickle.dump(outcome, out)
                os.read(life, 1)                    # until the parent closes its end
                status = 0
            finally:
                os._exit(status)
        os.close(answer_in)
        os.close(life)
        with os.fdopen(answer, "rb") as into:
            assert select.select([into], [], [], PATIENCE)[0], "the child never answered"
            ok, self.result = pickle.load(into)
        if not ok:
            self.__exit__()
            raise self.result
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._life)
        os.waitpid(self.pid, 0)


def run_python(code: str, *arguments: object,
               pass_fds: Sequence[int] = ()) -> subprocess.CompletedProcess:
    """Runs a script that may die by a signal."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=PATIENCE, pass_fds=pass_fds, env=os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})


def killed_by(result: subprocess.CompletedProcess, number: signal.Signals) -> bool:
    return result.returncode == -number


def smaps(address: int) -> dict[str, int]:
    """The figures of the mapping at `address`, in kB."""
    figures: dict[str, int] = {}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if head:
            inside = int(head[1], 16) <= address < int(head[2], 16)
        elif inside and line.endswith(" kB"):
            name, value = line[:-3].split(":")
            figures[name] = int(value)
    return figures


def mappings(*spans: tuple[int, int]) -> int:
    """How many mappings there are in these spans, each an address and a number of bytes."""
    found = [tuple(int(end, 16) for end in line.split()[0].split("-"))
             for line in Path("/proc/self/maps").read_text().splitlines()]
    return sum(start < at + nbytes and at < end for start, end in found for at, nbytes in spans)


def pagemap(address: int) -> int:
    """The word of /proc/self/pagemap: 63 present, 62 swapped, 57 write-protected."""
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        file.seek(address // PAGE * 8)
        return int.from_bytes(file.read(8), sys.byteorder)


def present(address: int) -> bool:
    return bool(pagemap(address) >> 62)


def errno_name(error: OSError) -> str:
    return errno.errorcode[error.errno]
