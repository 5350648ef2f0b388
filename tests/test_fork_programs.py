"""fork() in programs: starting late, failing to start, multiprocessing, endings, fork="none"."""
from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest
from support import (
    COUNT,
    PATIENCE,
    Child,
    MutatorThread,
    as_a_child,
    check_interleaved,
    descriptors_of_userfaultfd,
    go_on,
    interleaved,
    node_shape,
    released_while_forking,
    run_cleanly,
    threads,
    wait_until,
)

import gcheap
from gcheap import failpoints
from gcheap.core import _testing
from gcheap.workloads import _micro

# ---- starting late -----------------------------------------------------------------------

def test_a_running_native_mutator_starts_the_childs_collector(graph):
    heap, m, nodes = graph
    shape = node_shape(heap)

    def body():
        before = heap.stats().cycles
        _micro.alloc_loop(m.native(), shape.id, 1_500_000)
        assert heap.stats().cycles > before
        assert threads() == 2 + (heap.fault_mode == "handler")
        go_on(*graph)
    Child(body).join()


def test_many_threads_start_one_collector(graph):
    heap, m, nodes = graph
    shape = node_shape(heap)

    def body():
        with failpoints.delay("fork.start", ns=20_000_000) as started, ExitStack() as stack:
            workers = [stack.enter_context(MutatorThread(heap)) for _ in range(6)]
            work = [w.start(lambda mine: _micro.alloc_loop(mine.native(), shape.id, 300_000))
                    for w in workers]
            heap.collect()
            for w in work:
                w.result(PATIENCE)
            assert started.hits == 1
            assert threads() == 1 + 6 + 1 + (heap.fault_mode == "handler")
            assert len(descriptors_of_userfaultfd()) == int(heap.backend != "stw")
        go_on(*graph)
    Child(body).join()


def test_closing_while_the_collector_is_being_started(graph):
    heap, m, nodes = graph
    shape = node_shape(heap)

    def body():
        worker = MutatorThread(heap)
        with failpoints.pause("fork.start", times=1) as held:
            work = worker.start(lambda mine: _micro.alloc_loop(mine.native(), shape.id, 3_000_000))
            held.wait()
            closer = threading.Thread(target=heap.close)
            closer.start()
            wait_until(lambda: heap.closed, "a close in progress")
            held.release()
            closer.join(PATIENCE)
            assert not closer.is_alive()
        work.exception(PATIENCE)
        assert descriptors_of_userfaultfd() == []
    Child(body).join()


@pytest.mark.uninstrumented("a child may find its allocator locked", only="address")
def test_a_fork_while_the_collector_is_being_started(graph):
    """The child's child finds no half-made descriptor."""
    heap, m, nodes = graph
    shape = node_shape(heap)

    def body():
        with MutatorThread(heap) as worker, failpoints.pause("fork.start", times=1) as held:
            work = worker.start(lambda mine: _micro.alloc_loop(mine.native(), shape.id, 1_500_000))
            held.wait()

            def inner():
                assert threads() == 1 and descriptors_of_userfaultfd() == []
                as_a_child(*graph)
            with released_while_forking("fork.start"):
                child = Child(inner)
            child.join()
            work.result(PATIENCE)
            go_on(*graph)
    Child(body).join()


def test_a_start_that_a_fork_put_off_is_made_up_for(graph):
    heap, m, nodes = graph

    def body():
        with MutatorThread(heap) as worker, failpoints.delay("fork.held", ns=50_000_000):
            before = _testing.awaited_forks()
            asked = worker.start(lambda mine: _testing.request_while_forking(mine.native()))
            wait_until(lambda: _testing.awaited_forks() > before, "a thread that waits")
            child = Child(as_a_child, *graph)
            asked.result(PATIENCE)
            wait_until(lambda: heap.stats().cycles, "the cycle that was asked for")
            child.join()
        go_on(*graph)
    Child(body).join()


def test_a_child_without_a_descriptor_compacts_inside_pauses(graph):
    heap, m, nodes = graph

    def body():
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit[1]))
        heap.collect()
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        assert heap.backend == heap.stats().backend == "stw"
        assert heap.fault_mode == "none" and "userfaultfd" in heap.why
        as_a_child(*graph)
    if heap.backend == "stw":
        pytest.skip("stw needs no descriptor")
    Child(body).join()
    assert heap.backend != "stw"
    go_on(*graph)


def set_default_stack(nbytes: int) -> None:
    libc = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(256)
    assert libc.pthread_getattr_default_np(attributes) == 0
    assert libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(nbytes)) == 0
    assert libc.pthread_setattr_default_np(attributes) == 0


def test_a_child_that_may_not_start_a_thread_says_so(graph):
    """Threads whose stacks are larger than the address space that the process may have."""
    heap, m, nodes = graph

    def body():
        limit = resource.getrlimit(resource.RLIMIT_AS)
        with open("/proc/self/statm") as statm:
            size = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30), limit[1]))
        set_default_stack(64 << 30)
        for _ in range(2):
            with pytest.raises(gcheap.GcheapError, match="collector thread cannot be started"):
                heap.collect()
        with pytest.raises(gcheap.GcheapError, match="collector thread cannot be started"):
            interleaved(m, node_shape(heap), 500_000)
        assert threads() == 1
        assert check_interleaved(nodes) == COUNT
        set_default_stack(8 << 20)
        as_a_child(*graph)
    Child(body).join()


# ---- what programs do --------------------------------------------------------------------

def test_subprocesses_inherit_nothing(graph):
    script = """if True:
        import os
        print(*[os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                if os.path.exists(f"/proc/self/fd/{fd}")], len(os.listdir("/proc/self/task")))"""
    for preexec in (None, os.getpid):                       # the second makes it a true fork
        graph[0].collect(wait=False)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                              preexec_fn=preexec, check=True)
        assert "userfaultfd" not in done.stdout and done.stdout.split()[-1] == "1"
        assert done.stderr == ""
    go_on(*graph)


GLOBAL: tuple = ()


def _use_the_global_heap(i: int) -> int:
    heap, nodes, mutators = GLOBAL
    if not mutators:
        mutators.append(heap.attach())
    interleaved(mutators[0], node_shape(heap), 300)
    heap.collect()
    return check_interleaved(nodes) + i


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_multiprocessing(checked_heap):
    global GLOBAL
    heap = checked_heap
    context = multiprocessing.get_context("fork")
    with MutatorThread(heap) as owner:
        nodes = owner.call(lambda m: interleaved(m, node_shape(heap), COUNT))
        GLOBAL = heap, nodes, []
        try:
            heap.collect(wait=False)
            with context.Pool(3) as pool:
                assert pool.map(_use_the_global_heap, range(20)) == [COUNT + i for i in range(20)]
            process = context.Process(target=_use_the_global_heap, args=(0,))
            process.start()
            process.join(PATIENCE)
            assert process.exitcode == 0
        finally:
            GLOBAL = ()
        heap.collect()
        assert owner.call(lambda m: check_interleaved(nodes)) == COUNT


@pytest.mark.parametrize(("ending", "used"), [
    ("sys.exit()", True), ("os._exit(0)", True), ("pass", False), ("heap.close()", True),
    ("heap.collect(wait=False)", False), ("del m, kept, heap; gc.collect()", False)])
def test_the_child_ends_cleanly(combination, ending, used):
    assert run_cleanly(f"""
        import gc, os, sys, threading, warnings
        warnings.simplefilter("ignore")
        import gcheap
        heap = gcheap.Heap("4MiB", backend="{combination['backend']}")
        Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
        m = heap.attach()
        kept = [(m.new(Node), m.new(Node, key=i))[1] for i in range(3000)]
        def run():
            with heap.attach() as mine:
                while True:
                    mine.new(Node, key=1)
        threading.Thread(target=run, daemon=True).start()
        heap.collect(wait=False)
        pid = os.fork()
        if pid == 0:
            if {used}:
                heap.collect()
                assert [node.key for node in kept] == list(range(3000))
            {ending}
            sys.exit()
        assert os.waitpid(pid, 0)[1] == 0
        assert [node.key for node in kept] == list(range(3000))
        print("fine")
    """) == "fine\n"


# ---- fork="none" -------------------------------------------------------------------------

@pytest.mark.parametrize("point", ["mark.before", "flip.after", "compactor.claimed"])
def test_without_inheritance_a_fork_waits_for_nothing(make_heap, point):
    heap = make_heap(fork="none", verify=3)
    with heap.attach() as m:
        nodes = interleaved(m, node_shape(heap), COUNT)
        with failpoints.pause(point, times=1) as held:
            heap.collect(wait=False)
            held.wait()

            def body():
                assert heap.closed and descriptors_of_userfaultfd() == [] and threads() == 1
                for use in (heap.collect, heap.stats, heap.attach, lambda: m.new_slots(1),
                            lambda: nodes[0]):
                    with pytest.raises(gcheap.HeapClosed, match='fork="none"'):
                        use()
                m.detach()
                heap.close()
            child = Child(body)             # and nobody has released the failpoint
            child.join()
            held.release()
        go_on(heap, m, nodes)


def test_without_inheritance_the_child_has_none_of_the_memory(combination):
    """In a process of its own: the difference between two heaps is told by /proc/self/maps."""
    assert run_cleanly(f"""
        import os, gcheap
        def size():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE") >> 20
        base = size()
        heap = gcheap.Heap("512MiB", backend="{combination['backend']}", fork="none")
        grown = size() - base
        assert grown > 4096, grown
        pid = os.fork()
        if pid == 0:            # the place of pinned arrays, twice the capacity, is inherited
            os._exit(0 if size() - base < 1024 + 256 else 1)
        print(os.waitpid(pid, 0)[1])
    """) == "0\n"


def test_the_option(any_heap):
    with pytest.raises(gcheap.OptionError, match="fork='copy': expected one of continue, none"):
        gcheap.Heap("4MiB", fork="copy")
    assert run_cleanly("""
        import gcheap, os
        heap = gcheap.Heap("4MiB")
        if os.fork() == 0:
            try:
                heap.collect()
            except gcheap.HeapClosed:
                os._exit(0)
            os._exit(1)
        print(os.wait()[1])
    """, env={"GCHEAP_FORK": "none"}) == "0\n"


def test_forking_alone_starts_no_cycle(any_heap):
    """No cycle is asked for, started or owed by forking alone."""
    with any_heap.attach() as m:
        nodes = interleaved(m, node_shape(any_heap), 300)
        for _ in range(20):
            Child(check_interleaved, nodes).join()
        assert any_heap.stats().cycles == 0
        assert list(any_heap.pauses()["phase"]) == ["fork"] * 20
        assert (any_heap.pauses()["mutators"] == 1).all()
