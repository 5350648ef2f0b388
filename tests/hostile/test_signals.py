"""Signals: inside the fault path, in storms, SIGBUS blocked, and handlers that others install."""
from __future__ import annotations

import signal

import pytest
from hostile_support import ended, in_child

NATIVE_HANDLER = """
HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)

def count_signals(number):
    "Counts a signal in a handler of native code; returns the list to read it from."
    seen = []
    handler = HANDLER(seen.append)
    count_signals.kept.append(handler)
    libc.signal(number, handler)
    return seen
count_signals.kept = []

def pending(thread):
    "Signals that wait for this thread, as a mask."
    with open(f"/proc/self/task/{thread}/status") as status:
        return next(int(l.split()[1], 16) for l in status if l.startswith("SigPnd"))
"""
def test_a_signal_in_the_fault_path_waits_until_the_unit_is_placed(served_by_sigbus, seed):
    """A handler may leave the thread for good; no unit of it may then be half built."""
    in_child(NATIVE_HANDLER + """
from support import MutatorThread, wait_until
NATIVE, PYTHON = signal.SIGUSR1, signal.SIGUSR2
with gcheap.Heap("8MiB", verify=2, **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m)
    for point in ("mutator.fault", "mutator.claimed", "mutator.assembled", "mutator.placed"):
        told, seen = [], count_signals(NATIVE)
        signal.signal(PYTHON, lambda *args, told=told: told.append(args[0]))
        with MutatorThread(heap) as other, failpoints.pause("flip.after") as flipped:
            ident = other.call(lambda mine: (threading.get_ident(), threading.get_native_id()))
            heap.collect(wait=False)
            flipped.wait()
            with failpoints.pause(point, times=1) as held:
                reading = other.start(
                    lambda mine: _testing.read_words(mine.native(), nodes, len(nodes) + 2))
                held.wait()
                for _ in range(20):
                    signal.pthread_kill(ident[0], NATIVE)
                    signal.pthread_kill(ident[0], PYTHON)
                assert seen == [] and pending(ident[1]) >> NATIVE - 1 & 1
                held.release()
                words = reading.result(30)
            assert words[1] == len(nodes) and len(set(words[2:])) == len(nodes)
            wait_until(lambda: seen == [NATIVE] and told == [PYTHON], "both handlers run, once")
            check()
        heap.collect()
        check()
""", served_by_sigbus, seed)


@pytest.mark.uninstrumented("ThreadSanitizer holds signals back", only="thread")
def test_signals_of_a_thread_that_sleeps_in_a_fault(handled, seed):
    """faults=handler: the thread sleeps in the kernel; signals get it out, and it faults again."""
    in_child(NATIVE_HANDLER + """
from support import MutatorThread, wait_until
with gcheap.Heap("8MiB", **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m)
    seen = count_signals(signal.SIGUSR1)
    with MutatorThread(heap) as other, failpoints.pause("flip.after") as flipped:
        ident = other.call(lambda mine: threading.get_ident())
        heap.collect(wait=False)
        flipped.wait()
        with failpoints.pause("handler.read", times=1) as held:
            reading = other.start(
                lambda mine: _testing.read_words(mine.native(), nodes, len(nodes) + 2))
            held.wait()
            for i in range(20):
                signal.pthread_kill(ident, signal.SIGUSR1)
                wait_until(lambda i=i: len(seen) > i, "the handler runs")
            held.release()
            assert len(set(reading.result(30)[2:])) == len(nodes)
        flipped.release()
    heap.collect()
    check()
""", handled, seed)


def test_a_storm_of_signals(combination, seed):
    """SIGALRM to a handler of Python, SIGPROF to one of C, on whatever thread it finds."""
    in_child("""
told = []
signal.signal(signal.SIGALRM, lambda *args: told.append(1))
# The thread that gets it may be one without a Python state.
libc.signal(signal.SIGPROF, ctypes.cast(libc.labs, ctypes.c_void_p))
for number in (signal.SIGALRM, signal.SIGPROF):
    libc.siginterrupt(number, 1)                # system calls are not restarted for it
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
signal.setitimer(signal.ITIMER_PROF, 0.0005, 0.0005)
workload(verify=2, seconds=0.3)
signal.setitimer(signal.ITIMER_REAL, 0)
signal.setitimer(signal.ITIMER_PROF, 0)
assert len(told) > 20, len(told)
""", combination, seed)


# ---- SIGBUS blocked ------------------------------------------------------------------------

def test_sigbus_blocked_after_attach_is_unblocked_by_the_next_flip(served_by_sigbus, seed):
    """As a program does that blocks all signals in its threads, to wait for them in one."""
    out = in_child("""
with gcheap.Heap("8MiB", **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m)
    for n in range(1, 4):
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        with failpoints.pause("flip.after") as flipped:
            heap.collect(wait=False)
            flipped.wait()
            check()
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            assert signal.SIGBUS not in blocked and signal.SIGTERM in blocked
        heap.collect()
        stats = heap.stats()
        assert stats.sigbus_unblocks == n and stats.faults > 0
print("survived")
""", served_by_sigbus, seed)
    assert out == "survived\n"


def test_sigbus_blocked_in_a_native_loop_across_flips(served_by_sigbus, seed):
    """A RUNNING mutator that never leaves the heap is stopped by the flip, and looked after."""
    in_child("""
from gcheap.workloads import _micro
with gcheap.Heap("4MiB", **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m, 1000)
    shape = nodes[0].shape
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS])
    _micro.alloc_loop(m.native(), shape.id, 500_000)
    check()
    assert heap.stats().relocations > 2 and heap.stats().sigbus_unblocks == 1
""", served_by_sigbus, seed)


def test_sigbus_blocked_in_mid_relocation_ends_the_process(served_by_sigbus, seed):
    """The kernel does not wait for it to be unblocked, and nobody can notice in time."""
    done = ended("""
with gcheap.Heap("8MiB", **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m)
    with failpoints.pause("flip.after") as flipped:
        heap.collect(wait=False)
        flipped.wait()
        assert nodes[2999].key == 2999                      # in the heap since the flip
        print("working", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS])
        check()
        print("not reached")
""", served_by_sigbus, seed)
    assert done.stdout == "working\n", done
    assert done.returncode == -signal.SIGBUS


# ---- handlers of SIGBUS installed after ours -----------------------------------------------

FOREIGN = """
class Action(ctypes.Structure):
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16),
                ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]
SIGINFO = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
earlier, calls = Action(), []

def install(chains):
    @SIGINFO
    def handler(number, info, context):
        calls.append(number)
        if not chains:
            os.write(1, b"not ours")
            os._exit(42)
        SIGINFO(earlier.handler)(number, info, context)
    install.kept = handler
    action = Action(ctypes.cast(handler, ctypes.c_void_p), flags=4)     # SA_SIGINFO
    assert libc.sigaction(int(signal.SIGBUS), ctypes.byref(action), ctypes.byref(earlier)) == 0
"""


@pytest.mark.parametrize("moment", ["plan.done", "flip.after"])
def test_a_handler_that_chains_may_be_installed_at_any_moment(served_by_sigbus, moment, seed):
    """One installed during a relocation gets our faults, and hands them on."""
    in_child(FOREIGN + f"moment = {moment!r}\n" + """
with gcheap.Heap("8MiB", verify=2, **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m)
    with (failpoints.pause("plan.done", times=1) as planned,
          failpoints.pause("flip.after") as flipped):
        heap.collect(wait=False)
        planned.wait()
        if moment == "plan.done":
            install(chains=True)
        planned.release()
        flipped.wait()
        if moment == "flip.after":
            install(chains=True)
        check()
        faults = heap.stats().faults
        assert faults > 0
    # Before REGISTER ours is put back on top; after it, theirs is called and passes faults on.
    assert len(calls) == (faults if moment == "flip.after" else 0), (len(calls), faults)
    for _ in range(2):
        heap.collect()
        check()
    assert heap.stats().handler_reinstalls == 1
""", served_by_sigbus, seed)


def test_a_handler_that_keeps_what_is_ours_takes_the_process(served_by_sigbus, seed):
    """Installed during a relocation it is asked first, and nobody else is: as documented."""
    done = ended(FOREIGN + """
with gcheap.Heap("8MiB", **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m)
    install(chains=False)
    heap.collect()                                          # before a relocation: put right
    check()
    with failpoints.pause("flip.after") as flipped:
        heap.collect(wait=False)
        flipped.wait()
        install(chains=False)
        check()
""", served_by_sigbus, seed)
    assert (done.returncode, done.stdout) == (42, "not ours"), done
