"""Bugs that were found and fixed, each held down by the interleaving or the input that showed it.

What once took the process down, or left a thread hanging, runs in a fresh interpreter.
"""
from __future__ import annotations

import gc
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from support import (
    MutatorThread,
    kernel_offers,
    node_shape,
    run_cleanly,
    run_python,
    wait_until,
)

import gcheap
from gcheap import failpoints
from gcheap.core import _testing
from gcheap.workloads import _micro

MIB = 1 << 20

PRELUDE = """
import os, sys, threading, time
from support import wait_until
import gcheap
from gcheap import failpoints
from gcheap.workloads import _micro
backend = sys.argv[1]
"""


def run_with(options: dict[str, str], body: str) -> str:
    """Runs `body` with `backend` set, and the other options of a heap as its environment's."""
    environment = {f"GCHEAP_{name.upper()}": value for name, value in options.items()}
    return run_cleanly(PRELUDE + body, arguments=(options["backend"],), env=environment)


# ---- corruption --------------------------------------------------------------------------

def test_a_black_run_is_not_described_by_what_is_allocated_after_the_flip(concurrent):
    """A large array is allocated black; after the flip, before the compactor gets to it, TLABs
    are handed out at the same unit numbers of the other half; then its slots are fixed."""
    assert run_with(concurrent, """
heap = gcheap.Heap("64MiB", backend=backend, verify=3, policy="fixed")     # no cycle of its own
Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
with heap.attach() as m:
    for _ in range(20_000):                     # garbage: the slide will be far shorter
        m.new_bytes(bytes(1000))
    with failpoints.pause("plan.done", times=1) as planned, \\
            failpoints.pause("flip.after", times=1) as flipped:
        heap.collect(wait=False)
        planned.wait()
        large = m.new_slots(20_000)
        for i in range(0, 20_000, 100):
            large[i] = m.new(Node, key=i)
        planned.release()
        flipped.wait()
        for _ in range(20_000):
            m.new_bytes(bytes(1000))
        flipped.release()
    heap.collect()
    for i in range(20_000):
        assert large[i] is None if i % 100 else large[i].key == i
print("sound")
""") == "sound\n"


@pytest.mark.sigbus_only("it is about verification")
@pytest.mark.parametrize("holder", [0, 1])
def test_verification_sees_an_object_that_starts_inside_another(combination, holder):
    """A slot leads into the middle of an array whose own start is visited earlier, or later."""
    done = run_python(PRELUDE + """
import ctypes
from gcheap.core import _testing
heap = gcheap.Heap("4MiB", backend=backend, verify=3)
with heap.attach() as m:
    outer, table = m.new_slots(6), m.new_slots(2)
    for i in range(2):
        table[i] = m.new_slots(1)
        table[i][0] = outer
    # Elements 2 and 3 of `outer`, a tagged value and null, look like an empty slot array.
    outer[2] = gcheap.Tagged(_testing.read_words(m.native(), outer, 1)[0])
    holder = _testing.read_words(m.native(), table, 4)[2 + int(sys.argv[2])]
    slot = ctypes.c_uint64.from_address(holder + 16)
    slot.value += 8 * (2 + 2)
    heap.collect()
print("not reached")
""", arguments=(combination["backend"], str(holder)))
    assert done.returncode == -signal.SIGABRT, done
    assert "verify: two objects overlap" in done.stderr


# ---- handles -----------------------------------------------------------------------------

def test_refs_in_cyclic_garbage_give_their_handles_back(any_heap, any_mutator):
    """The cyclic collector clears an object that holds a Ref before it frees the Ref."""
    class Holder:
        pass

    makers = [lambda: any_mutator.new(node_shape(any_heap)), lambda: any_mutator.new_slots(3),
              lambda: any_mutator.new_bytes(b"abc")]
    before = any_heap.stats().handles
    gc.disable()                        # all of it in one go, the Refs before their holders
    try:
        for i in range(300):
            ref = makers[i % 3]()
            holder = Holder()
            holder.me, holder.ref, holder.refs = holder, ref, [makers[i % 3]()]
    finally:
        gc.enable()
    del holder, ref
    gc.collect()
    assert any_heap.stats().handles == before
    any_heap.collect()
    assert any_heap.stats().live_bytes == 0


# ---- objects that were never initialized -------------------------------------------------

def test_a_heap_that_was_never_initialized_raises():
    """Made by __new__ or by a subclass that skips __init__: every use raises."""
    assert run_with({"backend": "stw"}, """
blank = gcheap.Heap.__new__(gcheap.Heap)
H = type("H", (gcheap.Heap,), {"__init__": lambda self: None})
for use in (lambda: blank.close(), lambda: blank.stats(), lambda: blank.attach(),
            lambda: blank.capacity, lambda: H().capacity, lambda: H().collect(),
            lambda: blank.guardian(), lambda: blank.shape("S"), lambda: repr(H())):
    try:
        use()
    except Exception:
        continue
    raise AssertionError("a use raised nothing")
del blank
print("fine")
""") == "fine\n"


# ---- the kernel says no ------------------------------------------------------------------

@pytest.mark.uninstrumented("it needs mappings when there are none", only="thread")
@pytest.mark.skipif(int(Path("/proc/sys/vm/max_map_count").read_text()) > 200_000,
                    reason="too many mappings are allowed to use them all up")
def test_a_process_without_a_mapping_left_keeps_its_heap(concurrent):
    """REGISTER splits a mapping: at vm.max_map_count it is refused, and cycles relocate inside
    their pause, also for a mutator that stalls.  With mappings free again they do not."""
    assert run_with(concurrent, """
from support import MappingsUsedUp
heap = gcheap.Heap("8MiB", backend=backend, verify=3)
Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
with heap.attach() as m:
    kept = [(m.new(Node), m.new(Node, key=i))[1] for i in range(2000)]
    heap.collect()
    with MappingsUsedUp():
        cycles = heap.stats().cycles
        heap.collect()
        refused = heap.stats().register_refusals
        _micro.alloc_loop(m.native(), Node.id, 2_000_000)       # 48 MB of garbage in 8 MiB
        assert heap.stats().cycles > cycles + 1
    assert refused >= 1, refused
    refused = heap.stats().register_refusals
    placed = heap.stats().ioctls[backend].pages
    garbage = [m.new(Node) for _ in range(1000)]
    del garbage
    heap.collect()
    assert heap.stats().register_refusals == refused
    assert heap.stats().ioctls[backend].pages > placed
    assert [ref.key for ref in kept] == list(range(2000))
print("sound")
""") == "sound\n"


def test_a_heap_whose_process_locks_its_memory_later(concurrent):
    """mlockall() populates and locks to-space, which MOVE and madvise then refuse."""
    out = run_with(concurrent, """
import ctypes
heap = gcheap.Heap("8MiB", backend=backend, verify=3)
with heap.attach() as m:
    kept = [(m.new_bytes(bytes(100)), m.new_bytes(i.to_bytes(100, "little")))[1]
            for i in range(2000)]
    locked = ctypes.CDLL(None).mlockall(3) == 0         # MCL_CURRENT | MCL_FUTURE
    print("locked" if locked else "refused")
    for _ in range(3):
        heap.collect()
        blobs = [m.new_bytes(b"x" * 500) for _ in range(1000)]
        assert all(bytes(ref) == i.to_bytes(100, "little") for i, ref in enumerate(kept))
    assert all(bytes(ref) == b"x" * 500 for ref in blobs)
""")
    if out == "refused\n":
        pytest.skip("this process may not lock its memory (RLIMIT_MEMLOCK)")


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: RLIMIT_NPROC would bind the user's others")
def test_a_collector_thread_that_cannot_be_started_is_an_error():
    """The C library stores the thread before it fails to start it; nobody may join that one."""
    assert run_with({"backend": "stw"}, """
import gc, resource
gcheap.Heap("1MiB", backend=backend).close()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
for _ in range(5):
    try:
        gcheap.Heap("1MiB", backend=backend)
    except gcheap.GcheapError as e:
        assert "collector thread" in str(e), e
    else:
        raise AssertionError("a heap without a collector")
    gc.collect()
print("alive")
""") == "alive\n"


# ---- closing -----------------------------------------------------------------------------

@pytest.mark.sigbus_only("the stall is in an allocation")
def test_closing_waits_for_a_native_mutator_in_an_allocation_stall(combination):
    """A native mutator stands in the middle of gc_alloc, stalled, when close() is called."""
    assert run_with(combination, """
heap = gcheap.Heap("4MiB", backend=backend)
Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
order = []
def work():
    try:
        _micro.alloc_loop(heap.attach().native(), Node.id, 1_000_000)       # 24 MB
        order.append("all allocated")
    except MemoryError:
        order.append("exhausted")
def end():
    heap.close()
    order.append("closed")
with failpoints.pause("cycle.end", times=1) as held:
    worker = threading.Thread(target=work)
    worker.start()
    held.wait()
    wait_until(lambda: heap.stats().used_bytes + 65536 > heap.capacity, "no TLAB more")
    closer = threading.Thread(target=end)
    closer.start()
    wait_until(lambda: heap.closed, "the start of close()")
    closer.join(0.05)
    held.release()
worker.join(30)
closer.join(30)
print(*order, sep=", ")
""") == "all allocated, closed\n"


def test_close_that_was_interrupted_can_be_called_again(make_concurrent_heap):
    """Ctrl-C while close() waits for a mutator; the second close() must end the heap."""
    threads = len(os.listdir("/proc/self/task"))
    heap = make_concurrent_heap("4MiB")
    shape = node_shape(heap)

    def press():
        wait_until(lambda: heap.closed, "close()")
        os.kill(os.getpid(), signal.SIGINT)

    def run_into_the_limit(m):
        with pytest.raises((gcheap.HeapClosed, MemoryError)):
            while True:
                _micro.alloc_loop(m.native(), shape.id, 100_000)

    with MutatorThread(heap) as worker:
        with failpoints.pause("cycle.end", times=1) as held:
            work = worker.start(run_into_the_limit)
            held.wait()
            wait_until(lambda: heap.stats().used_bytes + 65536 > heap.capacity, "a stall")
            presser = threading.Thread(target=press)
            presser.start()
            with pytest.raises(KeyboardInterrupt):
                heap.close()
            presser.join()
            with pytest.raises(gcheap.HeapClosed):
                heap.stats()
        work.result(30)
        heap.close()
    wait_until(lambda: len(os.listdir("/proc/self/task")) <= threads, "the collector's end")


# ---- fork --------------------------------------------------------------------------------

FORK = """
def await_child(pid):
    for _ in range(2000):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "the child hangs"
"""


@pytest.mark.uninstrumented("it is gone when such a child runs exit handlers", only="thread")
def test_a_child_forked_by_an_attached_thread_ends(combination):
    """fork() on a thread that is a mutator, while the collector is inside a pause and so holds
    the list's lock for ever in the child; then that thread, the child's only one, ends."""
    assert run_with(combination, FORK + """
heap = gcheap.Heap("4MiB", backend=backend, fork="none")
children = []
def work():
    m = heap.attach()
    with failpoints.pause("mark.before", times=1) as held:
        heap.collect(wait=False)
        held.wait()
        pid = os.fork()
        if pid == 0:
            return
        children.append(pid)
    m.detach()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(await_child(children[0]))
""") == "0\n"


def test_a_child_may_close_a_heap_that_another_thread_was_closing(combination):
    """fork() while another thread is inside close(), with the heap's guard, waiting for a
    mutator that stalls."""
    assert run_with(combination, FORK + """
heap = gcheap.Heap("4MiB", backend=backend, fork="none")
Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
def work():
    _micro.alloc_loop(heap.attach().native(), Node.id, 1_000_000)
with failpoints.pause("cycle.end", times=1) as held:
    worker = threading.Thread(target=work)
    worker.start()
    held.wait()
    closer = threading.Thread(target=heap.close)
    wait_until(lambda: heap.stats().used_bytes + 65536 > heap.capacity, "no TLAB more")
    closer.start()
    wait_until(lambda: heap.closed, "the start of close()")
    pid = os.fork()
    if pid == 0:
        heap.close()
        with heap:
            pass
        os._exit(7)
    print(await_child(pid))
worker.join()
closer.join()
""") == "7\n"


# ---- pacing and stalls -------------------------------------------------------------------

def test_large_runs_start_a_cycle_before_they_stall(make_heap):
    """Objects just above half a unit use twice their bytes of address space: that must not run
    out before `used` reaches the goal."""
    heap = make_heap("32MiB")
    half = heap.unit_pages * heap.page_size // 2
    with heap.attach() as m:
        while heap.stats().cycles == 0:
            m.new_bytes(bytes(half + 1024))
            if _testing.cycle_due(m.native()):
                wait_until(lambda: heap.stats().cycles, "the cycle that was asked for")
        assert heap.stats().stalls == 0


@pytest.mark.sigbus_only("the stalls are in allocations")
def test_nobody_is_starved_while_others_allocate_garbage(combination):
    """Six threads share what a live set of four fifths leaves; whoever wakes finds the room
    taken by others, again and again, and still must not be told that the heap is exhausted."""
    heap_bytes, live = 2 * MIB, 1600 << 10
    with gcheap.Heap(heap_bytes, **combination) as heap, heap.attach() as m:
        kept = [m.new_bytes(i.to_bytes(1000, "little")) for i in range(live // 1016)]
        shape = heap.shape("Garbage", refs=("next",), raw=[("key", "u8")])
        outcomes: list = []

        def allocate():
            with heap.attach() as mine:
                try:
                    _micro.alloc_loop(mine.native(), shape.id, 1_200_000)
                    outcomes.append("done")
                except MemoryError as e:
                    outcomes.append(e)

        threads = [threading.Thread(target=allocate) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes == ["done"] * 6
        assert all(bytes(ref) == i.to_bytes(1000, "little") for i, ref in enumerate(kept))


def test_allocated_bytes_never_go_back(any_heap):
    """stats() reads a mutator's counters while it replaces its TLAB."""
    shape = any_heap.shape("Garbage", refs=("next",), raw=[("key", "u8")])
    count = 20_000_000

    def allocate():
        with any_heap.attach() as m:
            _micro.alloc_loop(m.native(), shape.id, count)

    thread = threading.Thread(target=allocate)
    thread.start()
    last, back = 0, []
    while thread.is_alive():
        now = any_heap.stats().allocated_bytes
        if now < last:
            back.append((last, now))
        last = now
    assert back == []
    assert any_heap.stats().allocated_bytes == 24 * count


# ---- SIGBUS ------------------------------------------------------------------------------

@pytest.mark.skipif(kernel_offers("copy") is not None, reason="no SIGBUS mode here")
def test_a_crash_reporter_that_calls_its_predecessor_does_not_recurse():
    """Somebody's handler replaces ours and calls ours for what it does not know; we come back on
    top of it and call it for what we do not know.  The signal must end the process."""
    done = run_python(PRELUDE + """
import ctypes, faulthandler, mmap, signal, tempfile
class Action(ctypes.Structure):
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16),
                ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]
Handler = ctypes.PYFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
libc = ctypes.CDLL(None)
earlier = Action()
calls = []
@Handler
def report(number, info, context):
    calls.append(number)
    if len(calls) > 50:
        os._exit(99)
    Handler(earlier.handler)(number, info, context)
heap = gcheap.Heap("4MiB", backend=backend)
action = Action(ctypes.cast(report, ctypes.c_void_p), flags=4)     # SA_SIGINFO
assert libc.sigaction(signal.SIGBUS, ctypes.byref(action), ctypes.byref(earlier)) == 0
with heap.attach() as m:
    kept = [(m.new_bytes(bytes(100)), m.new_bytes(bytes(100)))[1] for _ in range(1000)]
    heap.collect()
    print(heap.stats().handler_reinstalls, flush=True)
    with tempfile.TemporaryFile() as f:
        f.truncate(mmap.PAGESIZE)
        window = mmap.mmap(f.fileno(), mmap.PAGESIZE)
        f.truncate(0)
        window[0]
print("not reached")
""", arguments=("copy",))
    assert done.stdout == "1\n", done
    assert done.returncode == -signal.SIGBUS


@pytest.mark.skipif(kernel_offers("copy") is not None, reason="no SIGBUS mode here")
def test_a_foreign_sigbus_while_heaps_come_and_go():
    """The handler looks for a heap of the address while another thread frees heaps."""
    assert run_with({"backend": "copy"}, """
import ctypes, mmap, signal, tempfile
class Action(ctypes.Structure):
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16),
                ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]
f = tempfile.TemporaryFile()
seen = 0
@ctypes.PYFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def mend(number, info, context):
    global seen
    seen += 1
    os.ftruncate(f.fileno(), mmap.PAGESIZE)
action = Action(ctypes.cast(mend, ctypes.c_void_p), flags=4)
assert ctypes.CDLL(None).sigaction(signal.SIGBUS, ctypes.byref(action), None) == 0
stop = threading.Event()
def come_and_go():
    while not stop.is_set():
        with gcheap.Heap("1MiB", backend=backend) as heap, heap.attach() as m:
            m.new_slots(10)
thread = threading.Thread(target=come_and_go)
thread.start()
f.truncate(mmap.PAGESIZE)
window = mmap.mmap(f.fileno(), mmap.PAGESIZE)
for _ in range(300):
    f.truncate(0)
    assert window[0] == 0
    time.sleep(0)
stop.set()
thread.join()
print(seen)
""") == "300\n"


# ---- what Python code gives us -----------------------------------------------------------

@pytest.mark.parametrize(("first", "second"), [("f8", ()), ((), "f8")])
def test_a_shape_with_raw_bytes_is_not_the_same_as_one_without(any_heap, first, second):
    """numpy says that dtype('f8') equals None."""
    any_heap.shape("A", raw=first)
    with pytest.raises(gcheap.ShapeError, match="A"):
        any_heap.shape("A", raw=second)


def test_a_slice_takes_as_many_elements_as_it_has(any_mutator):
    """len() of a table is its number of rows."""
    a = any_mutator.new_array("f8", 30)
    with pytest.raises(ValueError, match="10"):
        a[0:2] = np.ones((2, 5))
    assert a.copy_out().sum() == 0
    a[0:10] = np.ones((2, 5))
    assert a.copy_out().sum() == 10


@pytest.mark.parametrize("start", [np.uint8(40), np.int8(40), np.uint16(9000)])
def test_a_numpy_integer_as_a_place_does_not_wrap(any_mutator, start):
    """start * item, in eight bits, is somewhere else."""
    a = any_mutator.new_array("u8", 10_000)
    a.copy_in([7], start)
    assert [i for i, x in enumerate(a.copy_out()) if x] == [int(start)]
    assert a[start] == 7 and list(a[start:start + 1]) == [7]


def test_a_tag_may_not_cover_bit_47(any_heap):
    """On 64-bit Arm an address may have it."""
    with pytest.raises(gcheap.ShapeError, match="address bits"):
        any_heap.shape("Bad", refs=("a",), tag=(1 << 47, 0))
    any_heap.shape("Good", refs=("a",), tag=(1 << 48, 0))


@pytest.mark.parametrize("raw", ["S", "U", "V0", [("a", "u8"), ("b", "S0")]])
def test_raw_fields_without_bytes_are_refused(any_heap, raw):
    """Reading one raised numpy's own error."""
    with pytest.raises(gcheap.ShapeError, match="Empty"):
        any_heap.shape("Empty", raw=raw)


@pytest.mark.parametrize("capacity", ["9" * 400 + ".5GiB", "9" * 5000, "9" * 400],
                         ids=["a float beyond all", "five thousand digits", "four hundred"])
def test_absurd_capacities_are_refused_as_options(capacity):
    """They were OverflowError and int()'s own ValueError."""
    with pytest.raises(gcheap.OptionError):
        gcheap.Heap(capacity, backend="stw")


def test_arrays_of_subarrays_are_refused(any_mutator):
    """Their copies counted base elements, so that a whole array could not be written."""
    with pytest.raises(gcheap.ShapeError, match="times as many"):
        any_mutator.new_array(("u4", (2,)), 3)
