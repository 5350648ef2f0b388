"""The end of a process at each point of a cycle: status 0, and nothing on standard error."""
from __future__ import annotations

import pytest
from support import kernel_offers, run_cleanly

COLLECTOR = ["mark.before", "mark.concurrent", "plan.done", "register.done", "flip.before",
             "flip.after", "compactor.claimed", "compactor.assembled", "compactor.placed",
             "place.move", "relocate.done", "unregister.done", "cycle.end"]
MUTATOR = ["mutator.fault", "mutator.claimed", "mutator.assembled", "mutator.placed"]
CASES = ([("move", point) for point in COLLECTOR + MUTATOR]
         + [("copy", point) for point in ("place.copy", "flip.after", "mutator.claimed")]
         + [("stw", point) for point in ("mark.before", "flip.after", "compactor.claimed")])

# The main thread and a daemon thread are attached, both with objects; a collection is at the point.
SCRIPT = """
import os, sys, threading
import gcheap
from gcheap import failpoints
from gcheap.core import _testing

backend, point, ending = sys.argv[1:]
heap = gcheap.Heap("4MiB", backend=backend)
Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
m = heap.attach()
nodes = m.new_slots(2000)
for i in range(2000):
    m.new(Node)
    nodes[i] = m.new(Node, key=i)
ready, go = threading.Event(), threading.Event()

def run():
    with heap.attach() as mine:
        mine_too = mine.new(Node, key=1)
        ready.set()
        go.wait()
        while True:
            _testing.read_words(mine.native(), nodes, 2000)
            mine.new(Node, key=2)

threading.Thread(target=run, daemon=True).start()
ready.wait()
if ending == "exit":            # the heap's end waits for the cycle, so nobody may stop for good
    held = failpoints.delay(point, ns=30_000_000, times=3)
else:
    held = failpoints.pause(point)
held.__enter__()
flipped = failpoints.pause("flip.after") if point.startswith("mutator") else None
if flipped:
    flipped.__enter__()
heap.collect(wait=False)
if flipped:                     # nothing has arrived: the daemon thread faults
    flipped.wait()
    go.set()
while not held.hits:
    threading.Event().wait(0.001)
if flipped:
    flipped.release()
if ending == "exit":
    go.set()
    sys.exit()
os._exit(0)
"""


@pytest.mark.parametrize("ending", ["exit", "_exit"])
@pytest.mark.parametrize(("backend", "point"), CASES)
def test_a_process_ends_at_each_point_of_a_cycle(backend, point, ending):
    reason = kernel_offers(backend)
    if reason is not None:
        pytest.skip(f"no backend {backend} here: {reason}")
    assert run_cleanly(SCRIPT, arguments=(backend, point, ending)) == ""
