"""Stopped, watched and read from outside: SIGSTOP, gdb, process_vm_readv, /proc/PID/mem."""
from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time

import pytest
from hostile_support import Running, wait_for_state
from support import PAGE, PATIENCE
from system import libc

AT_WORK = """
def progress(p):
    if p.phase == "run" and not said:
        said.append(1)
        print("ready", flush=True)
said = []
document = workload(progress=progress, seconds=SECONDS)
print(document["cycles"], document["faults"]["count"])
"""
# A heap with the compactor stopped right after the flip: nothing has arrived yet.
FLIPPED = """
from support import new_halves, writable_mappings
before = writable_mappings()
with gcheap.Heap("8MiB", verify=2, **options) as heap, heap.attach() as m:
    halves = new_halves(heap, before)
    nodes, check = graph(heap, m)
    for _ in range(3):
        with failpoints.pause("flip.after", times=1) as flipped:
            heap.collect(wait=False)
            flipped.wait()
            print("ready", *halves, flush=True)
            sys.stdin.readline()
            assert nodes[2999].key == 2999
        heap.collect()
        check()
    print(heap.stats().stray_pages)
"""


def at_work(seconds: float) -> str:
    return AT_WORK.replace("SECONDS", str(seconds))


class Span(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("nbytes", ctypes.c_size_t)]


def read_by_call(pid: int, address: int) -> int:
    """Bytes that process_vm_readv gets of a page of another process; -1: refused."""
    into = ctypes.create_string_buffer(PAGE)
    mine = Span(ctypes.cast(into, ctypes.c_void_p), PAGE)
    theirs = Span(address, PAGE)
    libc.process_vm_readv.restype = ctypes.c_ssize_t
    return libc.process_vm_readv(pid, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)


def read_by_file(pid: int, address: int) -> int:
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            return len(os.pread(memory.fileno(), PAGE, address))
    except OSError:
        return -1


def allowed(pid: int) -> None:
    if read_by_file(pid, pages_of(pid)[0][0]) < 0:
        pytest.skip("this user may not read the memory of another process")


def pages_of(pid: int) -> list[tuple[int, int]]:
    """Start and end of the mappings in which a heap may have its objects."""
    found = []
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            span, permissions, _, _, inode, *name = line.split()
            if permissions == "rw-p" and inode == "0" and not name:
                start, end = (int(x, 16) for x in span.split("-"))
                found.append((start, end))
    return found


def test_stopped_and_continued_again_and_again(combination, seed):
    with Running(at_work(0.8), combination, seed) as child:
        child.hears("ready")
        for _ in range(25):
            os.kill(child.pid, signal.SIGSTOP)
            wait_for_state(child.pid, "T")
            os.kill(child.pid, signal.SIGCONT)
            time.sleep(0.01)                                # so that it gets to do something
        cycles, _ = child.ends_well().split()
        assert int(cycles) > 0


def test_read_from_outside_while_it_works(combination, seed, rng):
    """Reads of the empty half install stray pages there; reads of what has not arrived fail."""
    with Running(at_work(0.6), combination, seed) as child:
        child.hears("ready")
        allowed(child.pid)
        got = 0
        while not child.over:
            try:
                spans = pages_of(child.pid)
            except (FileNotFoundError, ProcessLookupError):
                break
            if not spans:                                   # it has just ended
                break
            for _ in range(200):
                start, end = rng.choice(spans)
                address = start + rng.randrange(min(end - start, 16 << 20) // PAGE) * PAGE
                got += rng.choice([read_by_call, read_by_file])(child.pid, address) > 0
        assert got > 100
        child.ends_well()


def test_what_has_not_arrived_cannot_be_read_from_outside(concurrent, seed):
    """To-space right after the flip: an error for every page, and no page is made by asking."""
    with Running(FLIPPED, concurrent, seed) as child:
        for _ in range(3):
            _, *halves = child.hears("ready").split()
            allowed(child.pid)
            for read in (read_by_call, read_by_file):
                results = [read(child.pid, int(half) + i * PAGE)
                           for half in halves for i in range(2)]
                assert sorted(results) == [-1, -1, PAGE, PAGE], results     # to-space, from-space
            child.say()
        assert child.ends_well() == "0\n"


def gdb(pid: int, *commands: str) -> str:
    steps = [part for command in commands for part in ("-ex", command)]
    done = subprocess.run(["gdb", "-nx", "-q", "-p", str(pid), "-batch", "-iex",
                           "set auto-load off", "-iex", "set debuginfod enabled off", *steps,
                           "-ex", "detach"],
                          capture_output=True, text=True, timeout=PATIENCE,
                          env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"})
    if "ptrace: Operation not permitted" in done.stderr:
        pytest.skip("this user may not attach a debugger")
    return done.stdout + done.stderr


requires_gdb = pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed")


@requires_gdb
@pytest.mark.parametrize(("backend", "faults"), [
    ("move", "sigbus"), pytest.param("copy", "handler", marks=pytest.mark.soak("gdb is slow"))])
def test_a_debugger_attaches_in_mid_relocation(kernel, backend, faults, seed):
    """It stops every thread, prints where they are, and reads both halves."""
    kernel(backend)
    with Running(FLIPPED, {"backend": backend, "faults": faults}, seed) as child:
        for n in range(3):
            _, *halves = child.hears("ready").split()
            if n < 1:
                said = gdb(child.pid, "thread apply all bt 4",
                           *(f"x/2gx {half}" for half in halves))
                assert "gcheap-collect" in said, said
                # One half has arrived, or was never left; nothing has in the other.
                assert said.count("Cannot access memory") == 1, said
            child.say()
        child.ends_well()


@requires_gdb
@pytest.mark.soak("gdb starts for seconds")
def test_a_debugger_comes_and_goes(every_combination, seed):
    with Running(at_work(600), every_combination, seed) as child:
        child.hears("ready")
        for _ in range(3):
            assert "gcheap-collect" in gdb(child.pid, "thread apply all bt 3")
        os.kill(child.pid, signal.SIGINT)                   # it ends, and looks at what it has
        child.ends_well()


