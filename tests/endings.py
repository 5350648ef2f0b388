"""The script of test_shutdown.py: an interpreter that ends while a thread is at a failpoint."""

# Everything that can bring a thread to a failpoint, each in a daemon thread of its own.
SCRIPT = """
import errno, os, sys, threading, time
import gcheap
from gcheap import failpoints
from gcheap.core import _testing
from gcheap.failpoint_table import BY_NAME

point, ending, backend, faults, activity = sys.argv[1:]
STATUS = 7
OPTIONS = dict(backend=backend, faults=faults, unit_pages=16 if activity == "grow" else 1,
               verify=0 if activity == "holes" else 3)      # which reads, and so fills, holes
several = point.startswith("marker.") or point == "thread.marker"
COUNT = 30_000 if several else 3000     # enough for the collector to ask for help
heap = gcheap.Heap("16MiB" if several else "4MiB", policy="factor:1.2,minimum=64KiB",
                   mark_threads=2 if several else 1, **OPTIONS)
Node = heap.shape("Node", refs=("next",), raw=[("key", "u8")])
m = heap.attach("main")
nodes = m.new_slots(COUNT)
for i in range(COUNT):
    m.new(Node)
    nodes[i] = m.new(Node, key=i)
weak = m.weak(nodes[7])


def daemon(function):
    threading.Thread(target=function, daemon=True).start()


def attached(function):
    def run():
        with heap.attach() as mine:
            while True:
                function(mine)
    return run


def collect():
    while True:
        heap.collect()


def read(mine):                         # without the GIL, in faults
    _testing.read_words(mine.native(), nodes, 3000)
    nodes[5].next = nodes[6]            # with it


def allocate(mine):
    mine.new_slots(2000)
    mine.new_array("u1", 5000, pinned=True)
    weak()
    for _ in range(100):
        mine.new(Node)
    for k in range(20):
        nodes[k].next = nodes[k + 1]


def come_and_go():
    while True:
        with heap.attach():
            pass


def other_heaps():
    while True:
        with gcheap.Heap("4MiB", fork="none", **OPTIONS) as other, other.attach():
            pass


def markers():                          # threads start when a heap first marks a good deal
    while True:
        with gcheap.Heap("16MiB", mark_threads=2, **OPTIONS) as other, other.attach() as mine:
            kept = mine.new_slots(20_000)
            for i in range(20_000):
                kept[i] = mine.new_slots(1)
            other.collect()


def look():
    while True:
        heap.census()


def stay(mine):
    _testing.stay_running(mine.native())


def stall(mine):
    mine.new_slots(20_000)


def holes():
    heap.disable()                      # collect(wait=False) would join an automatic cycle,
    heap.collect()                      # or one that has begun
    with heap.attach() as mine:
        while True:
            array = mine.new_array("u8", 4000)              # large, its pages never touched
            with failpoints.pause("flip.after", times=1) as flipped:
                heap.collect(wait=False)
                flipped.wait()
                _testing.read_words(mine.native(), array, 4000)
            heap.collect()


def sweep():
    with heap.attach() as mine:
        while True:
            arrays = [mine.new_array("u1", 1000, pinned=True) for _ in range(300)]


def strays():                           # one a cycle: not every page's source has contents
    while not held.hits:
        with failpoints.fail("place.move", errno.EEXIST, 1):
            heap.collect()


def huge():
    with gcheap.Heap("32MiB", **OPTIONS) as other, other.attach() as mine:
        while True:
            kept = mine.new_array("u1", 9 << 20)            # lives until the next one does
            other.collect()


def grow():                             # nothing to win for a cycle that nobody asked for
    with heap.attach() as mine:
        while True:
            kept = [mine.new(Node) for _ in range(20_000)]
            kept.clear()
            heap.collect()


def fork():
    while True:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)


ACTIVITIES = {
    "collect": [collect], "read": [collect, attached(read)], "wait": [collect, attached(read)],
    "allocate": [collect, attached(allocate)], "attach": [come_and_go], "heaps": [other_heaps],
    "look": [look], "stay": [collect, attached(stay)], "stall": [attached(stall)],
    "sweep": [sweep, collect], "holes": [holes], "fork": [collect, fork], "grow": [grow],
    "markers": [markers], "huge": [huge], "strays": [strays],
}
# With others slow, a thread meets what it is here for.
SLOW = {"read": ("flip.after", "compactor.placing"), "wait": ("compactor.placing",),
        "fork": ("mark.concurrent",),
        "allocate": ("mark.concurrent",), "stay": ("mutator.running",)}

if point == "register.refused":
    failpoints.fail("register.more", errno.ENOMEM, None).__enter__()
if ending == "pause":
    held = failpoints.pause(point, times=1)
else:                                   # the heap's end waits for the cycle
    held = failpoints.delay(point, ns=10_000_000, times=3)
for name in SLOW.get(activity, ()):
    if name != point:
        failpoints.delay(name, ns=2_000_000).__enter__()
held.__enter__()
if activity == "child":                 # the ending is that of a forked child
    pid = os.fork()
    if pid:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os._exit(status)
    heap.collect(wait=False)
for function in ACTIVITIES.get(activity, []):
    daemon(function)
began = time.monotonic()
while not held.hits:
    time.sleep(0.0005)
    if time.monotonic() - began > 60:
        sys.exit(f"no thread comes to {point}")
if ending == "_exit":
    os._exit(STATUS)
sys.exit(STATUS)
"""

# What brings a thread to a point; "collect" unless it is said here.
ACTIVITY = {
    "memory.pagemap": "huge", "memory.stray": "strays",
    "weak.read": "allocate", "log.push": "allocate", "log.take": "allocate",
    "handle.drop": "allocate", "pinned.claimed": "allocate", "large.claimed": "allocate",
    "tlab.refill": "allocate", "tlab.taken": "allocate", "memory.populate": "allocate",
    "memory.pinned": "allocate", "sweep.gap": "sweep", "cycle.stay": "grow",
    "cycle.abandoned": "fork", "fork.child": "child", "fork.start": "child",
    "uffd.wake": "read", "uffd.poll": "read", "uffd.read": "read",
    "inspect.stopped": "look", "memory.inspect": "look", "mutator.running": "stay",
    "safepoint.sleep": "stay", "stall.wait": "stall", "stall.sleep": "stall",
    "unit.sleep": "wait", "mutator.wait": "wait", "place.zeropage": "holes",
    "mutator.attach": "attach", "mutator.detach": "attach", "mutator.detached": "attach",
    "mutator.enter": "read", "mutator.leave": "read", "memory.map": "heaps",
    "memory.fork": "heaps", "collector.end": "heaps", "close.begin": "heaps",
    "close.ended": "heaps", "thread.collector": "heaps", "thread.server": "heaps",
    "thread.marker": "markers", "thread.bell": "heaps", "uffd.open": "heaps", "uffd.api": "heaps",
}


def activity_of(point: str) -> str:
    """What brings a thread to `point`."""
    if point in ACTIVITY:
        return ACTIVITY[point]
    group = point.partition(".")[0]
    return {"mutator": "read", "handler": "read", "fork": "fork"}.get(group, "collect")
