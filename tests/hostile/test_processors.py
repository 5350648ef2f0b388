"""One processor, and threads of unequal priority: waiting ends in sleep, so owners get on."""
from __future__ import annotations

import pytest
from hostile_support import in_child
from system import needs_root

ONE_PROCESSOR = """
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
"""
BY_THREAD = """
def every_thread(ours, mutators):
    "Calls `ours` with the id of each native thread of a heap, `mutators` with that of any other."
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                (ours if comm.read().startswith("gcheap-") else mutators)(int(task))
        except (FileNotFoundError, ProcessLookupError):
            pass                                            # it has ended
"""


def test_four_mutators_on_one_processor(every_combination, seed):
    in_child(ONE_PROCESSOR + """
workload(mutators=4, verify=1)
workload("array-holes", mutators=4, live="1MiB", unit_pages=1, verify=3, seconds=0.3)
""", every_combination, seed)


@needs_root
def test_owners_and_waiters_of_unequal_priority(every_combination, seed):
    """The threads of the heap, then its mutators: nice 19 and -20; normal and SCHED_FIFO; the
    reverse.  All on one processor."""
    in_child(ONE_PROCESSOR + BY_THREAD + """
def renice(by):
    return lambda thread: os.setpriority(os.PRIO_PROCESS, thread, by)
def schedule(policy, priority):
    return lambda thread: os.sched_setscheduler(thread, policy, os.sched_param(priority))
NORMAL = schedule(os.SCHED_OTHER, 0)

for ours, mutators in ((renice(19), renice(-20)), (NORMAL, schedule(os.SCHED_FIFO, 10)),
                       (schedule(os.SCHED_FIFO, 10), NORMAL)):
    seen = []
    def progress(p):
        if p.phase == "run" and not seen:
            seen.append(1)
            every_thread(ours, mutators)
    workload(mutators=3, seconds=0.3, progress=progress)
    assert seen
    every_thread(NORMAL, NORMAL)
""", every_combination, seed)


# What a mutator waits for, how that is held, and what it does, without the GIL.
WAITS = {
    "a unit that the compactor owns": (
        'held_cycle("compactor.claimed")', "_testing.read_words(mine.native(), nodes, 3)"),
    "the end of a pause": (
        'held_cycle("flip.before")', "_testing.read_words(mine.native(), nodes, 3)"),
    "the list of mutators, which a pause has": ('held_cycle("flip.before")', "heap.stats()"),
    "a placement that is asked for again": (
        'held_cycle("flip.after", failpoints.fail(placing, errno.EAGAIN, times=None))',
        "_testing.read_words(mine.native(), nodes, 3)"),
    "the lock of the pinned arrays": ('held("pinned")', "take_pinned_array(mine.native())"),
    "the end of a replacement of a TLAB": ('held("tlab")', "heap.stats()"),
    "room": ('held_cycle("plan.done")',
             "any(mine.new_array('u1', 300_000) is None for _ in range(60))"),
}


@pytest.mark.parametrize(("hold", "act"), WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("backend", [
    "move", pytest.param("copy", marks=pytest.mark.soak("the other backend"))])
def test_who_waits_sleeps_whatever_its_priority(backend, hold, act, kernel, seed):
    """The waiter is on the owner's processor, SCHED_FIFO where that is allowed, the owner stopped:
    it must be seen asleep.  A thread that only yields never is."""
    kernel(backend)
    in_child(ONE_PROCESSOR + """
from contextlib import ExitStack, contextmanager
from gcheap.core._testing_threads import hold, take_pinned_array
from hostile_support import wait_for_state
from support import MutatorThread
placing = "place." + options["backend"]

@contextmanager
def held_cycle(point, more=None):
    with failpoints.pause(point, times=1) as held, more or ExitStack():
        heap.collect(wait=False)
        held.wait()
        yield

@contextmanager
def held(what):
    hold(nodes, what, True)
    yield
    hold(nodes, what, False)

with gcheap.Heap("8MiB", **options) as heap, heap.attach() as m:
    nodes, check = graph(heap, m)
    with MutatorThread(heap) as waiter:
        thread = waiter.call(lambda mine: threading.get_native_id())
        try:
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(10))
        except PermissionError:
            pass
""" + f"""
        with {hold}:
            began = threading.Event()
            def act(mine):
                began.set()
                return {act}
            waiting = waiter.start(act)
            began.wait()
            # Asleep for the wait itself: three looks, because it may have been the GIL at first.
            for _ in range(3):
                wait_for_state(os.getpid(), "S", thread)
                time.sleep(0.002)
            assert not waiting.done()
        waiting.result(30)
""" + """
    heap.collect()
    check()
""", {"backend": backend}, seed)
