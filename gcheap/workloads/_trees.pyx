"""`trees`: complete binary trees, one long-lived and many short-lived, counted and checked.

The binary-trees program of the Computer Language Benchmarks Game: each mutator builds one
tree of the greatest depth that stays, then trees of depth 4, 6, ... up to it, bottom-up, the
deeper the fewer, and counts and checks each before dropping it.  A node is 32 bytes: header,
two references, an id that names its tree and its place.

One *operation*, the grain of latencies and gaps, is building or checking a subtree of six
levels (63 nodes), or a whole tree when it is smaller.

Recursion holds its children in shadow-stack frames, because every allocation is a safepoint.
"""
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free

from gcheap._fastpath cimport (
    gc_alloc, gc_enter, gc_leave, gc_load, gc_poll, gc_pop, gc_push, gc_store)
from gcheap.core.layout cimport MutatorState, word
from gcheap.core.native cimport clock_ns, load64_relaxed, store64_relaxed
from gcheap.workloads._record cimport (
    BAD_COUNT, BAD_ID, BAD_LINK, FAILURES_BEFORE_STOP, Recorder, Recording, own_lines,
    record_failure, record_operation, whole_lines)

cdef enum:
    NODE_BYTES = 32
    STEP_LEVELS = 6             # an operation: a subtree of so many levels
    MIN_DEPTH = 4
    MAX_DEPTH = 30              # a place takes 32 bits of an id

cdef struct Trees:              # one mutator's; on cache lines of its own
    MutatorState* m
    Recorder* r
    word* frame                 # of one word: the long-lived tree
    uint64_t depth
    uint64_t serial             # of the tree in hand; the long-lived one is 0
    uint64_t trees              # short-lived trees built, counted and found right
    uint64_t nodes              # built, for the display; relaxed
    uint32_t shape
    uint32_t stopped            # unwinding


cdef bint step(Trees* t) noexcept nogil:
    """Ends an operation.  A safepoint.  False when the run is over."""
    gc_poll(t.m)
    # Relaxed: for the display only.
    store64_relaxed(&t.nodes, t.nodes + (1 << STEP_LEVELS))
    if not record_operation(t.r) or t.r.failures > FAILURES_BEFORE_STOP:
        t.stopped = 1
    return not t.stopped


cdef word build(Trees* t, uint64_t levels, uint64_t place) noexcept nogil:
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
            (<uint64_t*>node)[3] = t.serial << 32 | place
            if levels == STEP_LEVELS or (place == 1 and levels < STEP_LEVELS):
                frame[0] = node
                node = frame[0] if step(t) else 0
    gc_pop(t.m, 2)
    return node


cdef inline bint node_is(Trees* t, word node, uint64_t place) noexcept nogil:
    cdef uint64_t expected = t.serial << 32 | place
    if node == 0:
        record_failure(t.r, BAD_LINK, expected, 0, expected)
        return False
    if (<uint64_t*>node)[3] != expected:
        record_failure(t.r, BAD_ID, expected, (<uint64_t*>node)[3], expected)
        return False
    return True


cdef uint64_t count_small(Trees* t, word node, uint64_t levels, uint64_t place) noexcept nogil:
    """Nodes of a tree that are where they belong.  Holds no safepoint."""
    if not node_is(t, node, place):
        return 0
    if levels == 1:
        if gc_load(node, 0) or gc_load(node, 1):
            record_failure(t.r, BAD_LINK, t.serial << 32 | place, gc_load(node, 0), 0)
        return 1
    return (1 + count_small(t, gc_load(node, 0), levels - 1, 2 * place)
            + count_small(t, gc_load(node, 1), levels - 1, 2 * place + 1))


cdef uint64_t count(Trees* t, word node, uint64_t levels, uint64_t place) noexcept nogil:
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


cdef void check_count(Trees* t, word tree, uint64_t levels) noexcept nogil:
    cdef uint64_t nodes = count(t, tree, levels, 1)
    if not t.stopped and nodes != (<uint64_t>1 << levels) - 1:
        record_failure(t.r, BAD_COUNT, t.serial << 32, nodes, (<uint64_t>1 << levels) - 1)


cdef void short_lived(Trees* t) noexcept nogil:
    """Short-lived trees until the run is over or the heap exhausted."""
    cdef uint64_t depth, i, next_serial = 1
    cdef word tree
    while True:
        for depth in range(MIN_DEPTH, t.depth + 1, 2):
            for i in range(<uint64_t>1 << (t.depth - depth + MIN_DEPTH)):
                t.serial = next_serial & 0xFFFFFFF
                next_serial += 1
                tree = build(t, depth + 1, 1)
                if tree == 0:
                    return
                check_count(t, tree, depth + 1)
                if t.stopped:
                    return
                t.trees += 1


cdef void audit_long_lived(Trees* t) noexcept nogil:
    """Counts level by level with polls of its own: the run is over, `step` would stop it."""
    t.serial = 0
    cdef uint64_t nodes = audit(t, t.frame[0], t.depth + 1, 1)
    if nodes != (<uint64_t>2 << t.depth) - 1:
        record_failure(t.r, BAD_COUNT, 0, nodes, (<uint64_t>2 << t.depth) - 1)


cdef uint64_t audit(Trees* t, word node, uint64_t levels, uint64_t place) noexcept nogil:
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


cdef class TreesSession:
    """`trees` on one heap; the calls are those of `ChurnSession`, and in the same order."""
    cdef Trees* all
    cdef int mutators
    cdef uint64_t depth

    def __cinit__(self, heap, *, int mutators, live, depth=None, **_other):
        cdef uint64_t i
        cdef Trees* t
        self.mutators = mutators
        self.depth = deepest(live // mutators) if depth is None else depth
        shape = heap.shape("trees.Node", refs=("left", "right"), raw=[("id", "u8")])
        self.all = <Trees*>own_lines(whole_lines(sizeof(Trees)) * mutators,
                                     "the workload's mutators")
        for i in range(<uint64_t>mutators):
            t = self.mine(i)
            t.depth = self.depth
            t.shape = shape.id

    def __dealloc__(self):
        free(self.all)

    cdef Trees* mine(self, uint64_t index) noexcept:
        return <Trees*>(<uintptr_t>self.all + index * whole_lines(sizeof(Trees)))

    @property
    def populated(self):
        """The share of the long-lived trees built so far, 0 to 1; from any thread."""
        cdef int i
        nodes = 0
        for i in range(self.mutators):
            nodes += load64_relaxed(&self.mine(i).nodes)        # display only
        return min(1.0, nodes / (self.mutators * (2 << self.depth)))

    def populate(self, mutator, uint64_t index, Recording recording not None):
        """Each mutator builds its long-lived tree."""
        cdef Trees* t = self.mine(index)
        t.m = <MutatorState*><uintptr_t>mutator.native()
        t.r = recording.r
        with nogil:
            gc_enter(t.m)
            t.frame = gc_push(t.m, 1)
            if t.frame == NULL:
                t.r.exhausted = 1
            else:
                t.frame[0] = build(t, t.depth + 1, 1)
            gc_leave(t.m)
        t.r.ops = 0             # building it was no operation of the run

    def run(self, uint64_t index):
        """Short-lived trees until the run is stopped, the heap exhausted, or too much failed."""
        cdef Trees* t = self.mine(index)
        with nogil:
            gc_enter(t.m)
            t.r.last_ns = clock_ns()
            short_lived(t)
            gc_leave(t.m)

    def audit(self, uint64_t index):
        """Counts and checks the long-lived tree; failures go to the mutator's recording."""
        cdef Trees* t = self.mine(index)
        with nogil:
            gc_enter(t.m)
            audit_long_lived(t)
            gc_leave(t.m)

    def leave(self, uint64_t index):
        """Gives the mutator's shadow-stack frame back.  Nothing of the run is left."""
        cdef Trees* t = self.mine(index)
        if t.frame != NULL:
            with nogil:
                gc_enter(t.m)       # a pause reads the shadow stacks of those outside
                gc_pop(t.m, 1)
                gc_leave(t.m)
            t.frame = NULL

    def facts(self):
        """What the workload adds to the document; counts include the warm-up."""
        trees = 0
        for i in range(self.mutators):
            trees += self.mine(i).trees
        return {"depth": self.depth, "short_lived_trees": trees}
