"""Fault mode `handler`: a thread of the heap serves faults, in every order of events.

The failpoint "handler.poll" stops that thread before it reads, "handler.read" with messages in
its hands.  A thread that sleeps in a fault shows as `userfaultfd` in its /proc entry.
"""
from __future__ import annotations

import ctypes
import errno
import os
import signal
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from support import (
    PATIENCE,
    MutatorThread,
    check_interleaved,
    descriptors,
    interleaved,
    kernel_offers,
    new_halves,
    node_shape,
    run_cleanly,
    run_python,
    wait_until,
    writable_mappings,
)

import gcheap
from gcheap import failpoints
from gcheap.core import _testing
from gcheap.stress import StressConfig, run_stress

COUNT = 20_000                  # nodes of 48 bytes: about fifteen units of 16 pages
KEY = 3                         # among the words of a Node: the header and two slots come first
ARRAY = 400_000                 # bytes of an array that nobody has touched: holes


@pytest.fixture(params=["move", "copy"])
def options(request):
    reason = kernel_offers(request.param)
    if reason is not None:
        pytest.skip(f"no backend {request.param} here: {reason}")
    return {"backend": request.param, "faults": "handler"}


@pytest.fixture
def make_served(options):
    with ExitStack() as stack:
        yield lambda capacity="16MiB", **more: stack.enter_context(
            gcheap.Heap(capacity, **(options | more)))


@pytest.fixture
def served(make_served):
    return make_served()


def words_of(m, ref) -> list[int]:
    """Reads without the GIL: a reader that sleeps in its fault must not stop the interpreter."""
    return _testing.read_words(m.native(), ref, KEY + 1)


def word_at(address: int) -> int:
    """Reads a word as any native thread may, without the GIL."""
    memcpy = ctypes.CDLL(None).memcpy
    memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    word = ctypes.c_uint64()
    memcpy(ctypes.byref(word), address, 8)
    return word.value


def sleeping_in_faults() -> int:
    """Threads of this process that the kernel holds in a userfault."""
    found = 0
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/wchan") as wchan:
                found += "userfault" in wchan.read()
        except OSError:                                     # it has just ended
            pass
    return found


def thread_names() -> list[str]:
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                names.append(comm.read().strip())
        except OSError:
            pass
    return names


requires_wchan = pytest.mark.skipif(
    not os.access("/proc/self/wchan", os.R_OK), reason="no /proc/self/wchan to see a sleeper in")


holes = pytest.mark.parametrize("options", ["move"], indirect=True)      # COPY leaves none


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


def test_closing_gives_every_descriptor_back(options):
    before = descriptors()
    for _ in range(3):
        gcheap.Heap("1MiB", **options).close()
    assert descriptors() == before


@pytest.mark.parametrize("room", [0, 1])
def test_without_descriptors_a_heap_is_refused_and_nothing_is_left(options, room):
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
    """, arguments=(options["backend"], str(room))) == "refused\n"


def test_sigbus_stays_the_programs_own(options):
    """No handler is installed, and a SIGBUS that is blocked hurts nobody."""
    assert run_cleanly("""
        import ctypes, signal, sys
        sys.path.insert(0, sys.argv[1])
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
        with gcheap.Heap("4MiB", backend=sys.argv[2], faults="handler") as heap:
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
    """, arguments=(os.path.dirname(__file__), options["backend"])) == "untouched\n"


def test_the_modes_live_side_by_side(options):
    with (gcheap.Heap("8MiB", **options) as served,
          gcheap.Heap("8MiB", **(options | {"faults": "sigbus"})) as own):
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


# ---- races of a fault with everybody else ------------------------------------------------

@requires_wchan
@pytest.mark.parametrize("stopped_at", ["handler.poll", "handler.read"])
@pytest.mark.parametrize("end", ["relocate.done", "unregister.done"])
def test_the_compactor_places_a_page_before_its_message_is_served(served, stopped_at, end):
    """Queued or in hand, the message comes too late: the page is there, or the range is gone."""
    with served.attach() as m, MutatorThread(served) as reader:
        nodes = interleaved(m, node_shape(served), COUNT)
        ref = nodes[COUNT // 2]
        with (failpoints.pause("flip.after", times=1) as flip,
              failpoints.pause(end, times=1) as ended):
            served.collect(wait=False)
            flip.wait()
            with failpoints.pause(stopped_at, times=1) as late:
                read = reader.start(words_of, ref)
                late.wait()
                wait_until(lambda: sleeping_in_faults() == 1, "the reader in its fault")
                assert not read.done()
                flip.release()
                assert read.result(PATIENCE)[KEY] == COUNT // 2     # the compactor woke it
                if end == "relocate.done" or stopped_at == "handler.poll":
                    ended.wait()
                late.release()
            ended.wait()
            ended.release()
        served.collect()
        assert check_interleaved(nodes) == COUNT
        stats = served.stats()
        if stopped_at == "handler.read":
            assert stats.faults >= 1 and stats.fault_pages == 0     # served, and nothing to do
        assert stats.hole_faults == 0 and stats.stray_pages == 0


@pytest.mark.parametrize("point", ["compactor.claimed", "compactor.assembled"])
def test_the_handler_waits_for_the_unit_that_the_compactor_owns(served, point):
    with served.attach() as m, MutatorThread(served) as reader:
        nodes = interleaved(m, node_shape(served), COUNT)
        with failpoints.pause(point, times=1) as owned, \
                failpoints.pause("mutator.wait", times=1) as waiting:
            served.collect(wait=False)
            owned.wait()
            read = reader.start(words_of, nodes)            # in the first unit
            waiting.wait()
            assert not read.done()
            waiting.release()
            owned.release()
            assert read.result(PATIENCE)[1] == COUNT        # the array's length
        served.collect()
        assert served.stats().fault_waits == 1
        assert check_interleaved(nodes) == COUNT


@pytest.mark.parametrize("point", ["mutator.claimed", "mutator.assembled"])
def test_the_compactor_waits_for_the_unit_that_the_handler_owns(served, point):
    with served.attach() as m, MutatorThread(served) as reader:
        nodes = interleaved(m, node_shape(served), COUNT)
        ref = nodes[COUNT // 2]
        with failpoints.pause("flip.after", times=1) as flip, \
                failpoints.pause(point, times=1) as owned, \
                failpoints.pause("relocate.done", times=1) as done:
            served.collect(wait=False)
            flip.wait()
            read = reader.start(words_of, ref)
            owned.wait()
            flip.release()
            with pytest.raises(TimeoutError):
                done.wait(0.3)                              # it may not finish without this unit
            assert not read.done()
            owned.release()
            assert read.result(PATIENCE)[KEY] == COUNT // 2
            done.wait()
            done.release()
        served.collect()
        assert check_interleaved(nodes) == COUNT


@requires_wchan
def test_many_threads_fault_on_one_unit(served):
    """One message each; one of them builds the unit, once."""
    threads = 12
    with served.attach() as m, ExitStack() as stack:
        m.new(node_shape(served))
        ref = m.new(node_shape(served), key=123)
        readers = [stack.enter_context(MutatorThread(served)) for _ in range(threads)]
        with failpoints.pause("flip.after", times=1) as flip:
            served.collect(wait=False)
            flip.wait()
            before = served.stats()
            with failpoints.pause("handler.poll") as poll:
                reads = [reader.start(words_of, ref) for reader in readers]
                poll.wait()
                wait_until(lambda: sleeping_in_faults() == threads, "all readers in their faults")
            assert [read.result(PATIENCE)[KEY] for read in reads] == [123] * threads
            # The first service wakes them all: the others come after that, and before UNREGISTER.
            wait_until(lambda: served.stats().ioctls["zeropage"].calls == threads - 1,
                       "the service of the other messages")
            flip.release()
        served.collect()
        after = served.stats()
        assert after.faults - before.faults == threads
        assert after.fault_pages - before.fault_pages == served.unit_pages
        assert after.ioctls["zeropage"].refused["EEXIST"] == threads - 1
        assert after.hole_faults == 0 and after.fault_waits == before.fault_waits
        assert ref.key == 123


def test_a_thread_that_is_no_mutator_is_served(served):
    """Under sigbus it could only wait for the compactor, which is held here."""
    before = writable_mappings()
    heap = gcheap.Heap("16MiB", backend=served.backend, faults="handler")
    halves = new_halves(heap, before)
    with heap, heap.attach() as m, ThreadPoolExecutor(len(halves)) as threads:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.pause("flip.after", times=1) as flip:
            heap.collect(wait=False)
            flip.wait()
            reads = [threads.submit(word_at, half) for half in halves]
            assert sum(read.result(PATIENCE) & 1 for read in reads) >= 1    # an object's header
            stats = heap.stats()
            assert (stats.faults, stats.fault_pages) == (1, heap.unit_pages)
            assert stats.foreign_faults == 0
            flip.release()
        heap.collect()
        assert check_interleaved(nodes) == COUNT


def test_a_system_call_on_a_page_that_has_not_arrived_fails(served):
    """The descriptor is for user mode only: nobody can serve a fault of the kernel's."""
    before = writable_mappings()
    heap = gcheap.Heap("16MiB", backend=served.backend, faults="handler")
    halves = new_halves(heap, before)
    libc = ctypes.CDLL(None, use_errno=True)
    read, write = os.pipe()

    def written(half):
        n = libc.write(write, ctypes.c_void_p(half), 8)
        return errno.errorcode[ctypes.get_errno()] if n < 0 else n

    with heap, heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.pause("flip.after", times=1) as flip:
            heap.collect(wait=False)
            flip.wait()
            answers = [written(half) for half in halves]
            assert answers.count("EFAULT") == 1 and answers.count(8) == len(halves) - 1
            assert check_interleaved(nodes) == COUNT
            assert [written(half) for half in halves] == [8] * len(halves)      # now it is there
            flip.release()
        heap.collect()
        assert check_interleaved(nodes) == COUNT
    os.close(read)
    os.close(write)


def test_a_stray_access_before_the_flip_waits_for_it(served):
    """From-space is still written then: nothing may be built from it."""
    before = writable_mappings()
    heap = gcheap.Heap("16MiB", backend=served.backend, faults="handler")
    halves = new_halves(heap, before)
    with heap, heap.attach() as m, ThreadPoolExecutor(len(halves)) as threads:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.pause("register.done", times=1) as registered, \
                failpoints.pause("handler.read", times=1) as read:
            heap.collect(wait=False)
            registered.wait()
            reads = [threads.submit(word_at, half) for half in halves]
            read.wait()
            read.release()
            wait_until(lambda: sum(r.done() for r in reads) == len(halves) - 1, "the other reads")
            nodes[7].filler = (70, 71)                      # still in from-space
            assert heap.stats().fault_pages == 0
            registered.release()
            assert all(r.result(PATIENCE) is not None for r in reads)
        heap.collect()
        assert list(nodes[7].filler) == [70, 71]
        assert check_interleaved(nodes) == COUNT


@pytest.mark.parametrize("released_at", ["relocate.done", "unregister.done"])
def test_a_stray_access_while_register_is_refused(served, released_at):
    """A thread that has no business there touches to-space while a part of it is registered; then
    REGISTER is refused for the rest, and the cycle relocates inside its pause, without protection.
    Served as if it were registered, that access ended the process."""
    before = writable_mappings()
    heap = gcheap.Heap("16MiB", backend=served.backend, faults="handler")
    halves = new_halves(heap, before)
    with heap, heap.attach() as m, ThreadPoolExecutor(len(halves)) as threads:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.fail("register.more", errno.ENOMEM), \
                failpoints.pause("register.refused", times=1) as refused, \
                failpoints.pause("relocate.done", times=1) as relocated, \
                failpoints.pause("unregister.done", times=1) as unregistered, \
                failpoints.pause("handler.read", times=1) as read:
            heap.collect(wait=False)
            refused.wait()
            reads = [threads.submit(word_at, half) for half in halves]
            read.wait()                                     # the message is in the handler's hands
            refused.release()
            relocated.wait()                                # every unit is PLACED
            if released_at == "relocate.done":
                read.release()
                assert all(r.result(PATIENCE) is not None for r in reads)
            relocated.release()
            if released_at == "unregister.done":
                with pytest.raises(TimeoutError):
                    unregistered.wait(0.2)                  # nor does the cycle end meanwhile
                read.release()
            unregistered.wait()
            unregistered.release()
            assert all(r.result(PATIENCE) is not None for r in reads)
        heap.collect()
        stats = heap.stats()
        assert stats.register_refusals == 1 and stats.hole_faults == stats.fault_pages == 0
        assert check_interleaved(nodes) == COUNT


@requires_wchan
@pytest.mark.parametrize("stopped_at", ["handler.poll", "handler.read"])
@holes
def test_the_range_is_unregistered_with_a_message_outstanding(options, stopped_at):
    """A hole of a whole-moved unit: nobody but the handler would ever place that page."""
    with gcheap.Heap("16MiB", **options) as heap, heap.attach() as m, \
            MutatorThread(heap) as reader:
        nodes = interleaved(m, node_shape(heap), 3000)
        with failpoints.pause("plan.done", times=1) as planned, \
                failpoints.pause("relocate.done", times=1) as relocated, \
                failpoints.pause("unregister.done", times=1) as unregistered:
            heap.collect(wait=False)
            planned.wait()
            untouched = m.new_array("u1", ARRAY)            # black: it moves as it is
            planned.release()
            relocated.wait()
            with failpoints.pause(stopped_at, times=1) as late:
                found = reader.start(lambda m: _testing.read_words(m.native(), untouched,
                                                                   ARRAY // 8))
                late.wait()
                wait_until(lambda: sleeping_in_faults() == 1, "the reader on a hole")
                assert not found.done()
                relocated.release()
                assert sum(found.result(PATIENCE)[2:]) == 0     # UNREGISTER woke it
                if stopped_at == "handler.read":
                    # Nor does the cycle end while the message is in hand.
                    with pytest.raises(TimeoutError):
                        unregistered.wait(0.2)
                late.release()
            unregistered.wait()
            unregistered.release()
        heap.collect()
        assert untouched.copy_out().sum() == 0
        assert check_interleaved(nodes) == 3000


@holes
def test_holes_are_zeroed_one_by_one(options):
    with gcheap.Heap("16MiB", **options) as heap, heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), 3000)
        with failpoints.pause("plan.done", times=1) as planned, \
                failpoints.pause("relocate.done", times=1) as relocated:
            heap.collect(wait=False)
            planned.wait()
            untouched = m.new_array("u1", ARRAY)
            untouched[ARRAY // 2] = 9
            planned.release()
            relocated.wait()
            before = heap.stats()
            content = untouched.copy_out()
            assert content[ARRAY // 2] == 9 and content.sum() == 9
            relocated.release()
        heap.collect()                                      # then all messages are served
        after = heap.stats()
        holes = after.hole_faults - before.hole_faults
        assert holes >= ARRAY // heap.page_size - 3         # the header's page and that of the 9
        assert after.zeroed_bytes - before.zeroed_bytes == holes * heap.page_size
        assert untouched.copy_out().sum() == 9
        assert check_interleaved(nodes) == 3000


@requires_wchan
def test_closing_with_a_message_queued(options):
    """A native thread sleeps in a fault, and the handler has not read of it, when close() comes."""
    before = writable_mappings()
    heap = gcheap.Heap("16MiB", **options)
    halves = new_halves(heap, before)
    with heap.attach() as m:
        interleaved(m, node_shape(heap), COUNT)
    with ThreadPoolExecutor(len(halves)) as threads, \
            failpoints.pause("flip.after", times=1) as flip:
        heap.collect(wait=False)
        flip.wait()
        with failpoints.pause("handler.poll", times=1) as poll:
            reads = [threads.submit(word_at, half) for half in halves]
            poll.wait()
            wait_until(lambda: sleeping_in_faults() == 1, "the one in to-space")
            closer = threading.Thread(target=heap.close)
            # Held until all reads are done: close() unmaps what they read.
            with failpoints.pause("cycle.end", times=1) as ended:
                closer.start()
                wait_until(lambda: heap.closed, "the start of close()")
                flip.release()
                ended.wait()
                assert all(read.result(PATIENCE) is not None for read in reads)
                ended.release()
            poll.release()
        closer.join(PATIENCE)
        assert not closer.is_alive()
    with pytest.raises(gcheap.HeapClosed):
        heap.collect()


@requires_wchan
def test_a_signal_during_a_fault(options):
    """A signal lets a thread out of its fault for as long as its handler runs; then it faults
    again, and two messages tell of it."""
    hits = []
    previous = signal.signal(signal.SIGUSR1, lambda *a: hits.append(1))
    try:
        with gcheap.Heap("16MiB", **options) as heap, heap.attach() as m, \
                MutatorThread(heap) as reader:
            nodes = interleaved(m, node_shape(heap), COUNT)
            thread = reader.call(lambda m: threading.get_ident())
            with failpoints.pause("flip.after", times=1) as flip:
                heap.collect(wait=False)
                flip.wait()
                with failpoints.pause("handler.read", times=1) as late:
                    read = reader.start(words_of, nodes)
                    late.wait()
                    for n in range(3):
                        wait_until(lambda: sleeping_in_faults() == 1, "the reader in its fault")
                        signal.pthread_kill(thread, signal.SIGUSR1)
                        wait_until(lambda n=n: len(hits) > n, "the signal's handler")
                    assert not read.done()
                    late.release()
                assert read.result(PATIENCE)[1] == COUNT
                flip.release()
            heap.collect()
            assert check_interleaved(nodes) == COUNT
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_a_wild_pointer_into_to_space_is_named(options):
    done = run_python("""
        import sys
        sys.path.insert(0, sys.argv[1])
        from test_handler import word_at, writable_mappings
        from support import interleaved, new_halves, node_shape
        import gcheap
        from gcheap import failpoints
        before = writable_mappings()
        heap = gcheap.Heap("8MiB", backend=sys.argv[2], faults="handler")
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
    """, arguments=(os.path.dirname(__file__), options["backend"]))
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
@pytest.mark.parametrize("options", ["move"], indirect=True)
def test_the_interpreter_ends_cleanly(options, ending):
    assert run_cleanly(textwrap.dedent("""
        import sys, threading
        import gcheap
        from gcheap import failpoints
        heap = gcheap.Heap("4MiB", backend=sys.argv[1], faults="handler")
        Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
        m = heap.attach()
        kept = [(m.new(Node), m.new(Node, key=i))[1] for i in range(5000)]
    """) + textwrap.dedent(ending), arguments=(options["backend"],)) == ""


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
def test_a_zero_page_that_is_refused_at_first(options, number):
    with gcheap.Heap("16MiB", **options) as heap, heap.attach() as m:
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
def test_churn(options, points, unit_pages, seed):
    with ExitStack() as slow:
        for point in points:
            slow.enter_context(failpoints.delay(point, ns=50_000, times=10_000))
        document = run_stress(StressConfig(
            workload="churn", seconds=0.7, live="8MiB", mutators=2, verify=3, noise_seconds=0,
            seed=seed, unit_pages=unit_pages, **options))
    assert document["verified"] is True
    assert document["fault_mode"] == "handler"
    if points:                      # a fast compactor may leave no page to fault on
        assert document["relocate_ops"] > 0 and document["faults"]["count"] > 0


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
