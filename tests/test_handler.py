"""Fault mode `handler`: a thread of the heap serves faults; what that means for the process."""
from __future__ import annotations

import errno
import os
import signal
import textwrap
import threading
from contextlib import ExitStack

import pytest
from handler_support import ARRAY, COUNT, holes
from support import (
    PATIENCE,
    check_interleaved,
    descriptors,
    interleaved,
    node_shape,
    run_cleanly,
    run_python,
    stress_until,
    wait_until,
)

import gcheap
from gcheap import failpoints


def thread_names() -> list[str]:
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                names.append(comm.read().strip())
        except OSError:
            pass
    return names


# ---- what it is --------------------------------------------------------------------------

def test_a_heap_with_a_handler_says_so_and_has_its_thread(make_served):
    before = thread_names().count("gcheap-faults")
    heap = make_served()
    assert heap.fault_mode == heap.stats().fault_mode == "handler"
    wait_until(lambda: thread_names().count("gcheap-faults") == before + 1, "the thread")
    heap.close()
    assert thread_names().count("gcheap-faults") == before


def test_stw_has_no_faults_to_serve():
    before = thread_names().count("gcheap-faults")
    with gcheap.Heap("1MiB", backend="stw", faults="handler") as heap:
        assert heap.fault_mode == "none"
        assert thread_names().count("gcheap-faults") == before


def test_closing_gives_every_descriptor_back(by_handler):
    before = descriptors()
    for _ in range(3):
        gcheap.Heap("1MiB", **by_handler).close()
    assert descriptors() == before


@pytest.mark.parametrize("room", [0, 1])
def test_without_descriptors_a_heap_is_refused_and_nothing_is_left(by_handler, room):
    """The heap needs two: the userfaultfd and what stops the thread."""
    assert run_cleanly("""
        import os, resource, sys
        import gcheap
        from gcheap.core import probe
        gcheap.Heap("1MiB", backend=sys.argv[1], faults="handler").close()
        before = set(os.listdir("/proc/self/fd"))
        free = os.open("/dev/null", os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + int(sys.argv[2]), 4096))
        try:
            gcheap.Heap("1MiB", backend=sys.argv[1], faults="handler")
        except gcheap.GcheapError as e:
            print("refused")
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
        assert set(os.listdir("/proc/self/fd")) == before
        with gcheap.Heap("1MiB", backend=sys.argv[1], faults="handler") as heap:
            heap.collect()
    """, arguments=(by_handler["backend"], str(room))) == "refused\n"


def test_sigbus_stays_the_programs_own(by_handler):
    """No handler is installed, and a SIGBUS that is blocked hurts nobody."""
    assert run_cleanly("""
        import ctypes, signal, sys
        from support import check_interleaved, interleaved, node_shape
        import gcheap
        from gcheap import failpoints
        libc = ctypes.CDLL(None)

        def sigbus_action():
            action = (ctypes.c_char * 152)()
            assert libc.sigaction(signal.SIGBUS, None, action) == 0
            return action.raw[:16]      # the function and what follows; libc leaves the rest as is

        before = sigbus_action()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS])
        with gcheap.Heap("4MiB", backend=sys.argv[1], faults="handler") as heap:
            with heap.attach() as m:
                nodes = interleaved(m, node_shape(heap), 5000)
                with failpoints.pause("flip.after") as point:
                    heap.collect(wait=False)
                    point.wait()
                    assert sigbus_action() == before
                    assert check_interleaved(nodes) == 5000
                heap.collect()
                assert heap.stats().faults > 0
                assert heap.stats().handler_reinstalls == 0
        assert signal.SIGBUS in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert sigbus_action() == before
        print("untouched")
    """, arguments=(by_handler["backend"],)) == "untouched\n"


def test_the_modes_live_side_by_side(by_handler):
    with (gcheap.Heap("8MiB", **by_handler) as served,
          gcheap.Heap("8MiB", **(by_handler | {"faults": "sigbus"})) as own):
        for _ in range(2):
            with served.attach() as m1, own.attach() as m2, failpoints.pause("flip.after") as point:
                graphs = [interleaved(m, node_shape(m_heap), 3000)
                          for m, m_heap in ((m1, served), (m2, own))]
                served.collect(wait=False)
                own.collect(wait=False)
                point.wait()
                assert [check_interleaved(nodes) for nodes in graphs] == [3000, 3000]
            served.collect()
            own.collect()
        assert served.stats().faults > 0 and own.stats().faults > 0


def test_a_wild_pointer_into_to_space_is_named(by_handler):
    done = run_python("""
        import sys
        from handler_support import word_at
        from support import interleaved, new_halves, node_shape, writable_mappings
        import gcheap
        from gcheap import failpoints
        before = writable_mappings()
        heap = gcheap.Heap("8MiB", backend=sys.argv[1], faults="handler")
        halves = new_halves(heap, before)
        with heap.attach() as m, failpoints.pause("plan.done", times=1) as planned, \\
                failpoints.pause("flip.after", times=1) as flip:
            interleaved(m, node_shape(heap), 3000)
            heap.collect(wait=False)
            planned.wait()
            planned.release()
            flip.wait()
            # Planned for black allocation, of which there was none: registered, and no object's.
            for half in halves:
                word_at(half + (256 << 10))
            print("not reached", flush=True)
    """, arguments=(by_handler["backend"],))
    assert done.returncode == -signal.SIGABRT, done
    assert "wild pointer" in done.stderr and done.stdout == ""


ENDINGS = {
    "a live heap": "",
    "a cycle in flight": """
        failpoints.delay("flip.after", ns=200_000_000).__enter__()
        heap.collect(wait=False)
    """,
    "a daemon thread asleep in a fault": """
        flip = failpoints.pause("flip.after")
        flip.__enter__()
        late = failpoints.pause("handler.read")
        late.__enter__()
        heap.collect(wait=False)
        flip.wait()
        from gcheap.core import _testing
        def run():
            with heap.attach() as mine:
                _testing.read_words(mine.native(), kept[2500], 4)
        threading.Thread(target=run, daemon=True).start()
        late.wait()
    """,
    "a closed heap": "heap.close()",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("by_handler", ["move"], indirect=True)
def test_the_interpreter_ends_cleanly(by_handler, ending):
    assert run_cleanly(textwrap.dedent("""
        import sys, threading
        import gcheap
        from gcheap import failpoints
        heap = gcheap.Heap("4MiB", backend=sys.argv[1], faults="handler")
        Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
        m = heap.attach()
        kept = [(m.new(Node), m.new(Node, key=i))[1] for i in range(5000)]
    """) + textwrap.dedent(ending), arguments=(by_handler["backend"],)) == ""


# ---- refusals in the handler's thread ----------------------------------------------------

REFUSALS = {
    "short": (None, 40), "EAGAIN": (errno.EAGAIN, 30), "ENOMEM": (errno.ENOMEM, 3),
    "EBUSY": (errno.EBUSY, 5), "EEXIST": (errno.EEXIST, 1),
}


@pytest.mark.parametrize(("number", "times"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_in_the_handlers_thread_lose_nothing(served, number, times):
    kind = served.backend
    if (kind, number) == ("copy", errno.EBUSY):
        pytest.skip("EBUSY is no answer of UFFDIO_COPY")
    refuse = (failpoints.short(f"place.{kind}", pages=1, times=times) if number is None
              else failpoints.fail(f"place.{kind}", number, times=times))
    with served.attach() as m:
        nodes = interleaved(m, node_shape(served), COUNT)
        with failpoints.pause("flip.after", times=1) as flip:
            served.collect(wait=False)
            flip.wait()
            with refuse:
                assert check_interleaved(nodes, range(COUNT - 1, -1, -1)) == COUNT
                assert refuse.hits == times
            flip.release()
        served.collect()
        assert check_interleaved(nodes) == COUNT


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
@holes
def test_a_zero_page_that_is_refused_at_first(by_handler, number):
    with gcheap.Heap("16MiB", **by_handler) as heap, heap.attach() as m:
        interleaved(m, node_shape(heap), 3000)
        with failpoints.pause("plan.done", times=1) as planned, \
                failpoints.pause("relocate.done", times=1) as relocated:
            heap.collect(wait=False)
            planned.wait()
            untouched = m.new_array("u1", ARRAY)
            planned.release()
            relocated.wait()
            with failpoints.fail("place.zeropage", number, times=3) as refuse:
                assert untouched.copy_out().sum() == 0
                assert refuse.hits == 3
            relocated.release()
        heap.collect()


# ---- under load --------------------------------------------------------------------------

SLOW = {
    "compactor": ("flip.after", "compactor.claimed", "compactor.assembled", "relocate.done"),
    "handler": ("handler.poll", "handler.read", "mutator.fault", "mutator.claimed",
                "mutator.assembled", "mutator.wait", "unregister.done"),
}


@pytest.mark.parametrize(("points", "unit_pages"), [
    ((), 16), (SLOW["compactor"], 1), (SLOW["handler"], 1), (SLOW["handler"], 16)],
    ids=["fast", "slow-compactor-1", "slow-handler-1", "slow-handler-16"])
def test_churn(by_handler, points, unit_pages, seed):
    with ExitStack() as slow:
        for point in points:
            slow.enter_context(failpoints.delay(point, ns=50_000, times=10_000))
        runs = stress_until(
            # A fast compactor may leave no page to fault on.
            lambda runs: any(run["relocate_ops"] and run["faults"]["count"] or not points
                             for run in runs),
            seed=seed, workload="churn", seconds=0.7, live="8MiB", mutators=2, verify=3,
            unit_pages=unit_pages, **by_handler)
    assert {run["fault_mode"] for run in runs} == {"handler"}


def test_statistics_are_read_while_faults_are_served(served):
    """Counters only grow, and every fault is in the histogram in the end."""
    stop = threading.Event()
    seen: list[tuple[int, int]] = []

    def watch():
        while not stop.is_set():
            stats = served.stats()
            seen.append((stats.faults, stats.fault_pages))
            served.histogram("fault")

    with served.attach() as m:
        watcher = threading.Thread(target=watch)
        watcher.start()
        nodes = interleaved(m, node_shape(served), COUNT)
        for _ in range(5):
            with failpoints.pause("flip.after", times=1) as flip:
                served.collect(wait=False)
                flip.wait()
                assert check_interleaved(nodes, range(0, COUNT, 5)) == COUNT // 5
                flip.release()
            served.collect()
        stop.set()
        watcher.join(PATIENCE)
    assert seen == sorted(seen)
    stats = served.stats()
    assert stats.faults > 0
    assert served.histogram("fault")[1].sum() == stats.faults
