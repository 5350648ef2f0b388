"""Manners: imports are quiet, Ctrl-C is heard, interpreters end cleanly, heaps close."""
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from support import (
    ROOT,
    MutatorThread,
    check_interleaved,
    interleaved,
    kernel_offers,
    node_shape,
    run_cleanly,
    run_python,
    wait_until,
)

import gcheap
from gcheap import failpoints

POINTS = ["mark.before", "plan.done", "flip.before", "flip.after", "relocate.done", "cycle.end"]


def test_importing_starts_no_thread_and_opens_no_descriptor():
    run_cleanly("""
        import os, signal, sys
        import numpy                            # its own threads are not ours
        before = sorted(os.listdir("/proc/self/task")), sorted(os.listdir("/proc/self/fd"))
        import gcheap, gcheap.failpoints, gcheap.cli, gcheap.stress
        import gcheap.core._testing
        after = sorted(os.listdir("/proc/self/task")), sorted(os.listdir("/proc/self/fd"))
        assert before == after, (before, after)
        assert signal.getsignal(signal.SIGBUS) is signal.SIG_DFL
        assert "matplotlib" not in sys.modules
    """)


def test_the_version():
    done = subprocess.run([sys.executable, "-m", "gcheap", "--version"], capture_output=True,
                          text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stderr == ""
    assert re.fullmatch(r"gcheap \d+\.\d+\S*\n", done.stdout)
    assert gcheap.__version__ in done.stdout


# ---- Ctrl-C ------------------------------------------------------------------------------

@pytest.mark.parametrize("point", POINTS)
def test_ctrl_c_during_collect(make_heap, point):
    heap = make_heap()
    if heap.backend == "stw" and point == "relocate.done":
        pytest.skip("under stw nothing waits between the pause and its end")
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 3000)
        with failpoints.pause(point, times=1) as held:
            def press():
                held.wait()
                os.kill(os.getpid(), signal.SIGINT)
            thread = threading.Thread(target=press)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                heap.collect()
            thread.join()
        assert check_interleaved(nodes) == 3000
        heap.collect()
        assert check_interleaved(nodes) == 3000


# ---- the end of the interpreter ----------------------------------------------------------

PRELUDE = """
    import os, sys, threading
    import gcheap
    from gcheap import failpoints
    heap = gcheap.Heap("4MiB", backend=sys.argv[1])
    Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
"""
ENDINGS = {
    "a live heap": """
        m = heap.attach()
        kept = [m.new(Node, key=i) for i in range(5000)]
    """,
    "an unused heap": "",
    "a cycle in flight": """
        m = heap.attach()
        kept = [(m.new(Node), m.new(Node, key=i))[1] for i in range(5000)]
        failpoints.delay("flip.after", ns=300_000_000).__enter__()
        heap.collect(wait=False)
    """,
    "a cycle being asked for": """
        m = heap.attach()
        kept = [(m.new(Node), m.new(Node, key=i))[1] for i in range(5000)]
        heap.collect(wait=False)
    """,
    "an attached daemon thread": """
        ready = threading.Event()
        def run():
            with heap.attach() as m:
                mine = m.new(Node, key=1)
                ready.set()
                threading.Event().wait()
        threading.Thread(target=run, daemon=True).start()
        ready.wait()
    """,
    "a daemon thread that allocates": """
        ready = threading.Event()
        def run():
            with heap.attach() as m:
                while True:
                    mine = m.new(Node, key=1)
                    ready.set()
        threading.Thread(target=run, daemon=True).start()
        ready.wait()
    """,
    "a daemon thread in collect()": """
        ready = threading.Event()
        def run():
            while True:
                ready.set()
                heap.collect()
        threading.Thread(target=run, daemon=True).start()
        ready.wait()
    """,
    "a thread that was attached": """
        def run():
            global ref
            ref = heap.attach().new(Node, key=1)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    """,
    "a reference cycle that holds everything": """
        class Holder: pass
        holder = Holder()
        holder.me, holder.heap, holder.m = holder, heap, heap.attach()
        holder.ref = holder.m.new(Node)
        del heap
    """,
    "a closed heap": """
        m = heap.attach()
        ref = m.new(Node)
        heap.close()
    """,
    "os._exit": """
        m = heap.attach()
        kept = m.new(Node)
        heap.collect(wait=False)
        os._exit(0)
    """,
    "sys.exit with heap in a with block": """
        with heap, heap.attach() as m:
            kept = m.new(Node)
            sys.exit(0)
    """,
}


@pytest.mark.sigbus_only("test_handler.py has those endings that matter to its thread")
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_the_interpreter_ends_cleanly(combination, ending):
    script = textwrap.dedent(PRELUDE) + textwrap.dedent(ending)
    assert run_cleanly(script, arguments=(combination["backend"],)) == ""


def test_an_uncaught_exception_is_reported_as_ever():
    done = run_python("""
        import gcheap
        with gcheap.Heap("1MiB") as heap, heap.attach() as m:
            heap.collect(wait=False)
            raise LookupError("mine")
    """)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("LookupError: mine")


# ---- closing -----------------------------------------------------------------------------

@pytest.mark.parametrize("point", POINTS)
def test_closing_with_a_cycle_in_flight(combination, point):
    threads = len(os.listdir("/proc/self/task"))
    heap = gcheap.Heap("4MiB", **combination)
    m = heap.attach()
    nodes = interleaved(m, node_shape(heap), 5000)
    with failpoints.delay(point, ns=50_000_000):
        heap.collect(wait=False)
        heap.close()
    assert heap.closed
    with pytest.raises(gcheap.HeapClosed):
        nodes[0]                                            # noqa: B018
    wait_until(lambda: len(os.listdir("/proc/self/task")) <= threads, "the collector's end")


def test_closing_while_another_thread_waits_in_collect(combination):
    heap = gcheap.Heap("4MiB", **combination)
    # A point outside pauses: a mutator may wait for the end of a pause with the GIL held.
    with failpoints.pause("cycle.end", times=1) as point:
        outcome: list = []

        def wait_for_it():
            try:
                heap.collect()
                outcome.append("done")
            except gcheap.HeapClosed:
                outcome.append("closed")
        thread = threading.Thread(target=wait_for_it)
        thread.start()
        point.wait()
        closer = threading.Thread(target=heap.close)
        closer.start()
        point.release()
        closer.join(30)
        thread.join(30)
        assert not closer.is_alive() and not thread.is_alive()
    assert outcome in (["done"], ["closed"])


def test_closing_while_another_thread_allocates(combination):
    heap = gcheap.Heap("2MiB", **combination)
    node = node_shape(heap)
    t = MutatorThread(heap)
    started = threading.Event()

    def allocate(m):
        with pytest.raises(gcheap.HeapClosed):
            while True:
                m.new(node, key=1)
                started.set()
        return "closed"

    work = t.start(allocate)
    started.wait()
    heap.close()
    assert work.result(30) == "closed"
    t.__exit__()


def test_heaps_are_independent(combination):
    heaps = [gcheap.Heap("2MiB", **combination) for _ in range(8)]
    mutators = [heap.attach() for heap in heaps]
    graphs = [interleaved(m, node_shape(heap), 1000 + k)
              for k, (heap, m) in enumerate(zip(heaps, mutators, strict=True))]
    for k in (3, 0, 7):
        heaps[k].close()
    for k, heap in enumerate(heaps):
        if k not in (3, 0, 7):
            heap.collect()
            assert check_interleaved(graphs[k]) == 1000 + k
            assert heap.stats().cycles == 1
            heap.close()


def test_many_heaps_one_after_the_other(combination):
    threads = len(os.listdir("/proc/self/task"))
    for _ in range(50):
        with gcheap.Heap("1MiB", **combination) as heap, heap.attach() as m:
            ref = m.new(node_shape(heap), key=1)
            heap.collect(wait=False)
            assert ref.key == 1
    wait_until(lambda: len(os.listdir("/proc/self/task")) <= threads, "the collectors' ends")


# ---- other things that processes do -----------------------------------------------------

def test_a_process_that_locks_its_memory():
    """mlockall populates every new mapping: a to-space that starts out full would be useless."""
    assert run_cleanly("""
        import ctypes, resource, sys
        MCL_CURRENT, MCL_FUTURE = 1, 2
        sys.path.insert(0, sys.argv[1])
        from support import check_interleaved, interleaved, node_shape
        import gcheap
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlockall(MCL_FUTURE) != 0:
            print("skipped")
            sys.exit()
        with gcheap.Heap("8MiB") as heap, heap.attach() as m:
            nodes = interleaved(m, node_shape(heap), 10_000)
            for _ in range(4):
                heap.collect()
                assert check_interleaved(nodes) == 10_000
                interleaved(m, node_shape(heap), 100)
        print("fine")
    """, arguments=(str(ROOT / "tests"),)) in ("fine\n", "skipped\n")


def test_a_forked_child_is_told_that_the_heap_is_not_its_own(make_heap):
    """Never silent zeros, never a hang; the parent goes on."""
    heap = make_heap(fork="none")
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 3000)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            answers = []
            for use in (heap.collect, lambda: m.new_slots(1), lambda: nodes[0], heap.attach):
                try:
                    use()
                    answers.append("worked")
                except gcheap.GcheapError as e:
                    answers.append("told" if "fork" in str(e) else repr(e))
                except BaseException as e:                  # noqa: BLE001
                    answers.append(repr(e))
            os.write(write, " ".join(answers).encode())
            os._exit(0)
        os.close(write)
        with open(read, "rb") as pipe:
            assert pipe.read() == b"told told told told"
        assert os.waitpid(pid, 0)[1] == 0
        heap.collect()
        assert check_interleaved(nodes) == 3000


# ---- what a heap says of itself ----------------------------------------------------------

def test_a_heap_says_what_it_is(make_heap, combination):
    heap = make_heap("3MiB")
    assert heap.capacity == 3 << 20
    assert heap.backend == combination["backend"]
    assert heap.fault_mode == ("none" if heap.backend == "stw" else combination["faults"])
    assert heap.backend in repr(heap) and not heap.closed
    assert len(heap.why) > 10


def test_auto_takes_the_best_backend_that_the_kernel_offers():
    best = next(b for b in ("move", "copy", "stw") if kernel_offers(b) is None)
    with gcheap.Heap("1MiB") as heap:
        assert heap.backend == best
        assert heap.stats().backend == best and heap.stats().why == heap.why


def test_pauses_and_cycles_are_recorded(make_heap):
    heap = make_heap()
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 3000)
        for _ in range(3):
            heap.collect()
        pauses, cycles = heap.pauses(), heap.cycles()
        assert len(cycles) == heap.stats().cycles == 3
        assert list(cycles["cycle"]) == sorted(set(cycles["cycle"]))
        phases = set(pauses["phase"])
        assert phases == ({"full"} if heap.backend == "stw"
                          else {"mark_start", "mark_end", "relocate_start"})
        assert (pauses["work_ns"] > 0).all() and (pauses["mutators"] == 1).all()
        first = cycles[0]
        assert first["relocated"] == 1 and first["live_bytes"] < first["used_before"]
        assert set(pauses["cycle"]) <= set(cycles["cycle"])
        assert check_interleaved(nodes) == 3000
