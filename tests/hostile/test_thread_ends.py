"""Threads that end while attached: by pthread_exit, or cancelled, wherever they stand.

In child processes: a thread that does not end cannot be got rid of otherwise.
"""
from __future__ import annotations

from hostile_support import in_child

PRELUDE = """
from gcheap.core._testing_threads import NativeThread, pausing
from support import wait_until

def begin(ref, how, words=0):
    thread = NativeThread(ref, how, words)
    wait_until(lambda: thread.begun, "the thread runs")
    return thread

def alone(heap):
    wait_until(lambda: heap.stats().mutators == 1, "all others are detached")
"""


def test_native_threads_end_while_cycles_run(combination, seed):
    in_child(PRELUDE + """
with gcheap.Heap("8MiB", verify=2, **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m, 1000)
    for how in ("exit outside", "exit running", "poll") * 4:
        threads = [NativeThread(nodes, how) for _ in range(4)]
        heap.collect(wait=False)
        for thread in threads:
            if how == "poll":
                wait_until(lambda thread=thread: thread.begun, "it runs")
                thread.cancel()
            assert thread.join(30) == (how == "poll")
    alone(heap)
    for _ in range(2):
        heap.collect()
    check()
    # What only their shadow stacks held is gone.
    del nodes, check, threads, thread
    heap.collect()
    heap.collect()
    assert heap.stats().live_bytes == 0, heap.stats().live_bytes
""", combination, seed)


def test_a_running_thread_ends_as_a_pause_waits_for_it(combination, seed):
    in_child(PRELUDE + """
with gcheap.Heap("8MiB", verify=2, **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m, 1000)
    with failpoints.pause("mutator.running") as held:
        thread = begin(nodes, "exit running")
        held.wait()
        heap.collect(wait=False)
        waiting = threading.Thread(target=lambda: heap.attach().new_slots(3))
        waiting.start()
        wait_until(lambda: pausing(nodes), "the pause is on")
    assert thread.join(30) is False
    waiting.join(30)
    assert not waiting.is_alive()
    heap.collect()
    alone(heap)
    check()
""", combination, seed)


def test_a_thread_is_cancelled_while_a_pause_holds_it(every_combination, seed):
    """It stands at its safepoint; cancelled asynchronously it ends there and then, and detaches
    when the pause is over."""
    in_child(PRELUDE + """
from hostile_support import wait_for_state
with gcheap.Heap("8MiB", verify=2, **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m, 1000)
    for how in ("poll", "poll async"):
        thread = begin(nodes, how)
        with failpoints.pause("flip.before", times=1) as held:
            heap.collect(wait=False)
            held.wait()                                     # inside the pause
            wait_for_state(os.getpid(), "S", thread.id)
            thread.cancel()
        assert thread.join(30) is True
        alone(heap)
        heap.collect()
        check()
""", every_combination, seed)


def test_a_thread_is_cancelled_in_the_fault_path(served_by_sigbus, seed):
    """It places its unit first: nobody else could, and all would wait for it."""
    in_child(PRELUDE + """
with gcheap.Heap("8MiB", verify=2, **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m)
    for point in ("mutator.fault", "mutator.claimed", "mutator.assembled", "mutator.placed",
                  "mutator.wait"):
        with (failpoints.pause("flip.after") as flipped, failpoints.pause(point, times=1) as held,
              failpoints.pause("compactor.claimed") as owner):
            heap.collect(wait=False)
            flipped.wait()
            if point == "mutator.wait":
                flipped.release()
                owner.wait()            # the compactor owns the unit that will be read first
            thread = begin(nodes, "read async", len(nodes))
            held.wait()
            thread.cancel()
        assert thread.join(30) is True, point
        check()
        alone(heap)
        heap.collect()
        check()
""", served_by_sigbus, seed)


def test_a_python_thread_leaves_by_pthread_exit(combination, seed):
    """From inside a C function, as CPython itself ends daemon threads at its own end."""
    in_child(PRELUDE + """
with gcheap.Heap("8MiB", verify=2, **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m, 1000)
    def leave():
        mine = heap.attach()
        kept.append(mine.new(nodes[0].shape, key=77))
        libc.pthread_exit(None)
    kept = []
    for n in range(3):
        threading.Thread(target=leave, daemon=True).start()
        heap.collect()
        wait_until(lambda n=n: len(kept) == n + 1, "it was there")
        alone(heap)
    heap.collect()
    check()
    assert [ref.key for ref in kept] == [77] * 3
print("end", flush=True)
os._exit(0)                             # the states of those threads stay with the interpreter
""", combination, seed)
