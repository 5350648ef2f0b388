"""`trees`: complete binary trees, one long-lived and many short-lived, counted and checked.

The binary-trees program of the Computer Language Benchmarks Game: each mutator builds one
tree of the greatest depth that stays, then trees of depth 4, 6, ... up to it, bottom-up, the
deeper the fewer, and counts and checks each before dropping it.  A node is 32 bytes: header,
two references, an id that names its tree and its place.

One *operation*, the grain of latencies and gaps, is building or checking a subtree of six
levels (63 nodes), or a whole tree when it is smaller.

Recursion holds its children in shadow-stack frames, because every allocation is a safepoint.
"""
from libc.stdint cimport uint64_t

from gcheap._fastpath cimport gc_alloc, gc_load, gc_poll, gc_pop, gc_push, gc_store
from gcheap.core.layout cimport word
from gcheap.core.native cimport store64_relaxed
from gcheap.workloads._record cimport (
    BAD_COUNT, BAD_ID, BAD_LINK, FAILURES_BEFORE_STOP, record_failure, record_operation)
from gcheap.workloads.worker cimport Worker

from gcheap.errors import OptionError
from gcheap.options import format_size


cdef bint step(Trees t) noexcept nogil:
    """Ends an operation.  A safepoint.  False when the run is over."""
    gc_poll(t.m)
    # Relaxed: for the display only.
    store64_relaxed(&t.built, t.built + (1 << STEP_LEVELS))
    if not record_operation(t.r) or t.r.failures > FAILURES_BEFORE_STOP:
        t.stopped = 1
    return not t.stopped


cdef void fill_node(Trees t, word node, uint64_t place) noexcept nogil:
    (<uint64_t*>node)[3] = t.serial << 32 | place


cdef word build(Trees t, uint64_t levels, uint64_t place) noexcept nogil:
    """A new tree, children first; 0 when the run is over or the heap exhausted.

    The caller keeps the result in a frame or a slot before its next safepoint.
    """
    cdef word node = 0
    cdef word* frame = gc_push(t.m, 2)
    if frame == NULL:
        t.r.exhausted = 1
        return 0
    if levels > 1:
        frame[0] = build(t, levels - 1, 2 * place)
        if frame[0]:
            frame[1] = build(t, levels - 1, 2 * place + 1)
    if levels == 1 or frame[1]:
        node = gc_alloc(t.m, t.shape)
        if node == 0:
            t.r.exhausted = 1
        else:
            gc_store(t.m, node, 0, frame[0])
            gc_store(t.m, node, 1, frame[1])
            fill_node(t, node, place)
            if levels == STEP_LEVELS or (place == 1 and levels < STEP_LEVELS):
                frame[0] = node
                node = frame[0] if step(t) else 0
    gc_pop(t.m, 2)
    return node


cdef inline bint node_is(Trees t, word node, uint64_t place) noexcept nogil:
    cdef uint64_t expected = t.serial << 32 | place
    if node == 0:
        record_failure(t.r, BAD_LINK, expected, 0, expected)
        return False
    if (<uint64_t*>node)[3] != expected:
        record_failure(t.r, BAD_ID, expected, (<uint64_t*>node)[3], expected)
        return False
    return True


cdef uint64_t count_small(Trees t, word node, uint64_t levels, uint64_t place) noexcept nogil:
    """Nodes of a tree that are where they belong.  Holds no safepoint."""
    if not node_is(t, node, place):
        return 0
    if levels == 1:
        if gc_load(node, 0) or gc_load(node, 1):
            record_failure(t.r, BAD_LINK, t.serial << 32 | place, gc_load(node, 0), 0)
        return 1
    return (1 + count_small(t, gc_load(node, 0), levels - 1, 2 * place)
            + count_small(t, gc_load(node, 1), levels - 1, 2 * place + 1))


cdef uint64_t count(Trees t, word node, uint64_t levels, uint64_t place) noexcept nogil:
    """As above, with safepoints: `node` is followed to its last use before the next one."""
    cdef uint64_t nodes
    cdef word* frame
    if levels <= STEP_LEVELS:
        nodes = count_small(t, node, levels, place)
        step(t)
        return nodes
    if not node_is(t, node, place):
        return 0
    frame = gc_push(t.m, 1)
    if frame == NULL:
        t.r.exhausted = 1
        return 0
    frame[0] = node
    nodes = 1 + count(t, gc_load(node, 0), levels - 1, 2 * place)
    if not t.stopped:
        nodes += count(t, gc_load(frame[0], 1), levels - 1, 2 * place + 1)
    gc_pop(t.m, 1)
    return nodes


cdef void check_count(Trees t, word tree, uint64_t levels) noexcept nogil:
    cdef uint64_t nodes = count(t, tree, levels, 1)
    if not t.stopped and nodes != (<uint64_t>1 << levels) - 1:
        record_failure(t.r, BAD_COUNT, t.serial << 32, nodes, (<uint64_t>1 << levels) - 1)


cdef uint64_t audit(Trees t, word node, uint64_t levels, uint64_t place) noexcept nogil:
    cdef uint64_t nodes
    cdef word* frame
    if levels <= STEP_LEVELS:
        nodes = count_small(t, node, levels, place)
        gc_poll(t.m)
        return nodes
    if not node_is(t, node, place):
        return 0
    frame = gc_push(t.m, 1)
    if frame == NULL:
        return 0
    frame[0] = node
    nodes = 1 + audit(t, gc_load(node, 0), levels - 1, 2 * place)
    nodes += audit(t, gc_load(frame[0], 1), levels - 1, 2 * place + 1)
    gc_pop(t.m, 1)
    return nodes


def bytes_needed(depth):
    """Live bytes of one mutator: its long-lived tree and the deepest short-lived one."""
    return 2 * ((2 << depth) - 1) * NODE_BYTES


def deepest(live):
    """The greatest depth whose trees fit in `live` bytes, or None when even 6 does not."""
    depth = None
    for more in range(MIN_DEPTH + 2, MAX_DEPTH + 1):
        if bytes_needed(more) > live:
            break
        depth = more
    return depth


cdef class Trees(Worker):
    """One mutator of `trees`, or of a workload that builds trees of the same nodes."""

    DAMAGES = ("id", "link", "lost")

    def __cinit__(self, heap, part):
        self.words = 1
        self.depth = part.settings.get("depth") or deepest(self.share) or MIN_DEPTH
        self.shape = heap.shape("trees.Node", refs=("left", "right"), raw=[("id", "u8")]).id
        self.to_build = 2 << self.depth

    cdef bint start(self) noexcept nogil:
        """The long-lived tree."""
        self.frame[0] = build(self, self.depth + 1, 1)
        return self.frame[0] != 0 or not self.r.exhausted

    cdef void loop(self) noexcept nogil:
        """Short-lived trees until the run is over or the heap exhausted."""
        cdef uint64_t depth, _i
        while True:
            for depth in range(MIN_DEPTH, self.depth + 1, 2):
                for _i in range(<uint64_t>1 << (self.depth - depth + MIN_DEPTH)):
                    self.next_tree()
                    if not self.finish_tree(build(self, depth + 1, 1), depth + 1):
                        return

    cdef void next_tree(self) noexcept nogil:
        self.last_serial = self.last_serial % 0xFFFFFFF + 1
        self.serial = self.last_serial

    cdef bint finish_tree(self, word tree, uint64_t levels) noexcept nogil:
        """Counts a short-lived tree, which is then dropped; false when the run is over."""
        if tree == 0:
            return False
        check_count(self, tree, levels)
        self.trees += not self.stopped
        return not self.stopped

    cdef void check_all(self) noexcept nogil:
        """Counts level by level with polls of its own: the run is over, `step` would stop it."""
        cdef uint64_t nodes, wanted = (<uint64_t>2 << self.depth) - 1
        self.serial = 0
        nodes = audit(self, self.frame[0], self.depth + 1, 1)
        if nodes != wanted:
            record_failure(self.r, BAD_COUNT, 0, nodes, wanted)

    cdef void break_one(self, int what) noexcept nogil:
        cdef word node = self.frame[0], leaf
        if what == 0:
            (<uint64_t*>node)[3] ^= 1
        elif what == 1:
            gc_store(self.m, node, 1, gc_load(node, 0))
        else:
            leaf = gc_load(node, 0)
            while gc_load(leaf, 0):
                node, leaf = leaf, gc_load(leaf, 0)
            gc_store(self.m, node, 0, 0)

    def counts(self):
        return {"short_lived_trees": self.trees}

    def sizes(self):
        return {"depth": self.depth}


def check(config):
    """OptionError for a depth that does not suit the live bytes."""
    fits = deepest(config.live // config.mutators)
    depth = config.settings["depth"]
    if depth is not None and not 6 <= depth <= fits:
        raise OptionError(
            f"depth {depth}: accepted is 6 to {fits} with live "
            f"{format_size(config.live)} and {config.mutators} mutators; a deeper tree needs "
            f"more live bytes"
        )
