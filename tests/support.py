"""Helpers that several test files share: threads that are mutators, graphs, subprocesses."""
from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import gcheap
from gcheap import failpoints
from gcheap.core import _testing
from gcheap.core._testing_sanitizer import sanitizer
from gcheap.stress import StressConfig, run_stress

PAGE = os.sysconf("SC_PAGESIZE")
NODE = 48                       # bytes of a Node (node_shape)
COMBINATIONS = [("move", "sigbus"), ("copy", "sigbus"), ("move", "handler"), ("copy", "handler"),
                ("stw", "sigbus")]
PATIENCE = 60.0                 # seconds until a test gives up on an event (never a measurement)
ROOT = Path(__file__).resolve().parent.parent
HOME = str(Path(gcheap.__path__[0]).resolve().parent)   # where the gcheap under test is

# From the uABI (linux/userfaultfd.h), so that the tests know what the kernel has without
# asking the code under test.
_SYS_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_UFFDIO_API_IOCTL = 0xC018AA3F
_USER_MODE_ONLY = 1
_FEATURE_SIGBUS = 1 << 7
_FEATURE_MOVE = 1 << 16


def kernel_offers(backend: str) -> str | None:
    """None when this kernel and these permissions allow `backend`; else the reason."""
    if backend == "stw":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYS_USERFAULTFD[os.uname().machine]
    fd = libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
    if fd < 0:
        return f"userfaultfd: {errno.errorcode[ctypes.get_errno()]}"
    try:
        wanted = _FEATURE_SIGBUS | (_FEATURE_MOVE if backend == "move" else 0)
        fcntl.ioctl(fd, _UFFDIO_API_IOCTL, bytearray(struct.pack("QQQ", 0xAA, wanted, 0)))
    except OSError as e:
        return f"UFFDIO_API with features {wanted:#x}: {e.strerror}"
    finally:
        os.close(fd)
    return None


def wait_until(fact, what: str) -> None:
    """Returns once `fact()` is true; fails the test when it never becomes true."""
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not fact():
        assert time.monotonic() < deadline, f"never happened: {what}"
        pause.wait(0.001)


class MutatorThread:
    """A thread attached to `heap` that runs what it is given, one after the other.

    `start(f, *args)` returns a Future of `f(mutator, *args)`; `call` waits for it.
    """

    def __init__(self, heap, name: str | None = None) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._mutator = self._pool.submit(heap.attach, name).result(PATIENCE)

    def start(self, function, *args) -> Future:
        return self._pool.submit(function, self._mutator, *args)

    def call(self, function, *args):
        return self.start(function, *args).result(PATIENCE)

    def detach(self) -> None:
        self.call(lambda m: m.detach())

    def __enter__(self) -> MutatorThread:
        return self

    def __exit__(self, *exc: object) -> None:
        self.detach()
        self._pool.shutdown()


def alone(function, *args):
    """Runs in a thread that is attached to nothing, without keeping the GIL from others."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(function, *args).result(PATIENCE)


def interleaved(m, shape, count: int, slot: str = "next"):
    """A slot array of `count` nodes, key i at index i, with as much garbage between them.

    Node i links to node i - 1 through `slot`.  A collection has to slide all but the first.
    """
    nodes = m.new_slots(count)
    before = None
    for i in range(count):
        m.new(shape, key=0xDEAD)            # garbage
        before = m.new(shape, key=i, **{slot: before})
        nodes[i] = before
    return nodes


def check_interleaved(nodes, order=None, slot: str = "next") -> int:
    """Reads every node (in `order`) and its link; returns how many were read."""
    read = 0
    for i in range(len(nodes)) if order is None else order:
        node = nodes[i]
        assert node.key == i
        link = getattr(node, slot)
        assert link is None if i == 0 else link.key == i - 1
        read += 1
    return read


def stress_until(enough, attempts: int = 60, seed: int = 1, progress=None,
                 **config) -> list[dict]:
    """Short runs of a workload, each with the next seed and every one verified, until
    `enough(documents)`: what a machine does in a time of one's choice is no fact."""
    documents: list[dict] = []
    while not enough(documents):
        assert len(documents) < attempts, f"not even in {attempts} runs: {documents[-1]}"
        documents.append(run_stress(StressConfig(
            seed=seed + len(documents), noise_seconds=0, **config), progress))
        assert documents[-1]["verified"] is True, documents[-1]["failure"]
    return documents


def touch_holes(heap, m) -> None:
    """Reads pages that nobody has ever touched, in units that have just been moved."""
    heap.disable()                      # collect(wait=False) would join an automatic cycle,
    heap.collect()                      # or one that has begun
    nodes = interleaved(m, node_shape(heap), 2000)
    arrays = [m.new_array("u8", 40_000) for _ in range(8)]
    with failpoints.pause("flip.after", times=1) as flipped:
        heap.collect(wait=False)
        flipped.wait()
        assert not any(array[i] for array in arrays for i in range(0, 40_000, 512))
        assert check_interleaved(nodes) == 2000
    heap.enable()
    heap.collect()
    assert check_interleaved(nodes) == 2000


def node_shape(heap):
    return heap.shape("Node", refs=("next", "other"), raw=[("key", "u8"), ("filler", "u8", 2)])


@contextmanager
def marking(heap, where: str = "mark.concurrent"):
    """A cycle that is held right after Pause Mark Start, or at "mark.traced": right before Pause
    Mark End is asked for; it has ended when this is left."""
    cycles = heap.stats().cycles
    with failpoints.pause(where, times=1) as point:
        heap.collect(wait=False)
        point.wait()
        yield point
    wait_until(lambda: heap.stats().cycles > cycles, "the end of the cycle")


def slots_bytes(n: int) -> int:
    """Bytes of a slot array."""
    return 16 + 8 * n


def counts(census) -> dict[str, tuple[int, int]]:
    """Objects and bytes by shape of a census."""
    return {str(row["shape"]): (int(row["objects"]), int(row["bytes"])) for row in census}


def run_python(script: str, *, env: dict[str, str] | None = None, timeout: float = PATIENCE,
               arguments: tuple[str, ...] = (), **popen) -> subprocess.CompletedProcess:
    """Runs `script` in a fresh interpreter, with the same gcheap and this module importable and no
    GCHEAP_* set but the one that says nothing of slow pauses."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GCHEAP_")}
    clean["PYTHONPATH"] = os.pathsep.join(
        filter(None, [HOME, str(ROOT / "tests"), clean.get("PYTHONPATH", "")]))
    clean["PYTHONDONTWRITEBYTECODE"] = "1"
    clean["GCHEAP_PAUSE_WARNING_MS"] = "0"      # on a machine that is busy any pause may be long
    # Of every fork in a process with a heap, from Python 3.12 on (docs/reference/versions.md).
    clean["PYTHONWARNINGS"] = "ignore:This process:DeprecationWarning"
    clean.pop("PYTHONFAULTHANDLER", None)
    try:
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), *arguments],
            env=clean | (env or {}), capture_output=True, text=True, timeout=timeout, **popen)
    except subprocess.TimeoutExpired as hung:
        raise AssertionError(f"did not end in {timeout} s\n{hung.stdout}\n{hung.stderr}") from hung


def run_cleanly(script: str, **kwargs) -> str:
    """Runs `script`; it must end with status 0 and write no error.  Returns its output."""
    # A machine that is busy may make any stall a long one.
    kwargs["env"] = {"GCHEAP_STALL_WARNING_MS": "0"} | (kwargs.get("env") or {})
    done = run_python(script, **kwargs)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def mappings() -> int:
    """How many mappings this process has that a heap could have made (anonymous ones)."""
    with open("/proc/self/maps") as maps:
        return sum(1 for line in maps if len(line.split()) == 5)


def writable_mappings() -> dict[int, int]:
    """Start and end of each private, writable, anonymous mapping of this process."""
    found = {}
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, permissions, _, _, inode, *name = line.split()
            if permissions == "rw-p" and inode == "0" and not name:
                start, end = (int(x, 16) for x in span.split("-"))
                found[start] = end
    return found


def new_halves(heap, before: dict[int, int]) -> list[int]:
    """Where the halves of `heap` for small objects start; `before` it was made, there were these
    writable mappings.  Each space is two mappings of one size, and theirs is the smallest."""
    made = {start: end - start for start, end in writable_mappings().items()
            if start not in before and end - start >= heap.capacity * 9 // 8}
    size = min(size for size in made.values() if list(made.values()).count(size) == 2)
    return [start for start in made if made[start] == size]


class MappingsUsedUp:
    """Leaves this process no mapping (vm.max_map_count) until the end; some can be given back."""

    def __enter__(self) -> MappingsUsedUp:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3,
                                    ctypes.c_long]
        self._libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self._libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._pages = 2 * int(Path("/proc/sys/vm/max_map_count").read_text()) + 10
        self._strip = self._libc.mmap(None, self._pages * PAGE, 1, 0x4022, -1, 0)
        # Every second page of it becomes a mapping of its own.
        self._end = 0
        while self._end < self._pages and self._protect(self._end, 3) == 0:
            self._end += 2
        assert self._end < self._pages
        return self

    def _protect(self, page: int, protection: int) -> int:
        return self._libc.mprotect(self._strip + page * PAGE, PAGE, protection)

    def give_back(self) -> None:
        """Two mappings are free again."""
        self._end -= 2
        assert self._protect(self._end, 1) == 0

    def __exit__(self, *exc: object) -> None:
        assert self._libc.munmap(self._strip, self._pages * PAGE) == 0


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


# ---- forks -------------------------------------------------------------------------------

COUNT = 4000                    # nodes of the graphs that forks are tried with
TSAN_ENDED = 66                 # the status of a process that ThreadSanitizer ends


def status_of_child(pid: int) -> int:
    """Waits for a forked child: 0 when it ended well, else its exit code or minus its signal."""
    return judged_status(pid)[0]


def judged_status(pid: int) -> tuple[int, bool]:
    """The same, and whether the child is judged.

    Under ThreadSanitizer a child that its runtime has ended is not judged, which a warning says:
    after a fork of a process with threads it checks nothing, and takes the child's first new thread
    for one of the parent's ("dup thread with used id").
    """
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == TSAN_ENDED and sanitizer() == "thread":
        warnings.warn("ThreadSanitizer ended a forked child: not judged", stacklevel=3)
        return 0, False
    return status, True


class Child:
    """A forked child that runs `body()`; `join` fails with its traceback unless it ended well, and
    says whether the child is judged."""

    def __init__(self, body, *args) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self._read)
                body(*args)
                status = 0
            except BaseException:                           # noqa: BLE001
                os.write(write, traceback.format_exc().encode())
            finally:
                os._exit(status)
        os.close(write)

    def join(self, patience: float = PATIENCE) -> bool:
        with open(self._read, "rb") as pipe:
            if not select.select([pipe], [], [], patience)[0]:
                os.kill(self.pid, signal.SIGKILL)
            said = pipe.read().decode()
        status, judged = judged_status(self.pid)
        assert (status, said) == (0, ""), f"the child ended with {status}\n{said}"
        return judged


@contextmanager
def released_while_forking(*names: str):
    """A native thread that releases the failpoints `names` when a fork has barred new cycles."""
    indexes = [failpoints.NAMES.index(name) for name in names]
    before = _testing.awaited_forks()
    thread = threading.Thread(target=_testing.release_while_forking, args=(indexes,))
    thread.start()
    wait_until(lambda: _testing.awaited_forks() > before, "a thread that waits for the fork")
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive()


def go_on(heap, m, nodes, count: int = COUNT, rounds: int = 3) -> None:
    """Everything is there, and collections go on."""
    shape = node_shape(heap)
    assert check_interleaved(nodes) == count
    for _ in range(rounds):
        before = heap.stats()
        interleaved(m, shape, 300)
        heap.collect()
        after = heap.stats()
        assert after.cycles > before.cycles and after.relocations > before.relocations
        assert check_interleaved(nodes) == count


def as_a_child(heap, m, nodes, count: int = COUNT, rounds: int = 3) -> None:
    assert heap.stats().mutators == 1
    go_on(heap, m, nodes, count, rounds)
    heap.close()


def descriptors_of_userfaultfd() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            if "userfaultfd" in os.readlink(f"/proc/self/fd/{fd}"):
                found.append(fd)
        except FileNotFoundError:
            pass                                            # listdir's own
    return found


def threads() -> int:
    return len(os.listdir("/proc/self/task"))
