"""`gcbench`: the artificial benchmark of J. Ellis, P. Kovac and H. Boehm, with its own depths.

First a tree two levels deeper than all others is built and dropped (it stretches the heap), then
a long-lived tree and an array of doubles stay.  After that, for the depths 4, 6, ... up to that of
the long-lived tree, trees are built top-down (parents are older than their children) and the
same number bottom-up, the deeper the fewer: for each depth the nodes of two stretching trees.
That is repeated until the run ends.  The depths are 16 and 18, the array has 500,000 elements, of
which half are set; with less live data everything shrinks by the same factor.

Beyond the original every node of every tree is counted and checked, as in `trees`, whose nodes
and operations these are; the array is checked after each depth.
"""
from libc.stdint cimport uint32_t, uint64_t

from gcheap._fastpath cimport (
    gc_alloc, gc_alloc_array, gc_elements, gc_load, gc_poll, gc_pop, gc_push, gc_store)
from gcheap.core.layout cimport word
from gcheap.workloads._record cimport BAD_BYTES, record_failure
from gcheap.workloads._trees cimport (
    MIN_DEPTH, NODE_BYTES, STEP_LEVELS, Trees, build, fill_node, step)

from gcheap.errors import OptionError
from gcheap.options import format_size

STANDARD_DEPTH = 16
STANDARD_ARRAY = 500_000


cdef bint grow(GCBench t, word node, uint64_t levels, uint64_t place) noexcept nogil:
    """Hangs a complete tree below `node`, parents first; false when the run is over."""
    cdef uint64_t side
    cdef word child
    cdef bint more = True
    cdef word* frame
    if levels == 1:
        return True
    frame = gc_push(t.m, 1)
    if frame == NULL:
        t.r.exhausted = 1
        return False
    frame[0] = node
    for side in range(2):
        child = gc_alloc(t.m, t.shape)
        if child == 0:
            t.r.exhausted = 1
            more = False
            break
        fill_node(t, child, 2 * place + side)
        gc_store(t.m, frame[0], side, child)
    for side in range(2):
        more = more and grow(t, gc_load(frame[0], side), levels - 1, 2 * place + side)
    if more and (levels == STEP_LEVELS or (place == 1 and levels < STEP_LEVELS)):
        more = step(t)
    gc_pop(t.m, 1)
    return more


cdef word build_down(GCBench t, uint64_t levels) noexcept nogil:
    """A new tree, parents first; 0 when the run is over or the heap exhausted."""
    cdef word root
    cdef word* frame = gc_push(t.m, 1)
    if frame == NULL:
        t.r.exhausted = 1
        return 0
    root = gc_alloc(t.m, t.shape)
    if root == 0:
        t.r.exhausted = 1
    else:
        fill_node(t, root, 1)
        frame[0] = root
        root = frame[0] if grow(t, root, levels, 1) else 0
    gc_pop(t.m, 1)
    return root


cdef inline double value_at(uint64_t i) noexcept nogil:
    return 1.0 / <double>(i + 1)


cdef void check_array(GCBench t) noexcept nogil:
    cdef const double* at = <const double*>gc_elements(t.frame[1])
    cdef uint64_t i
    cdef double wanted
    for i in range(t.length):
        wanted = value_at(i) if i < t.length // 2 else 0.0
        if at[i] != wanted:
            record_failure(t.r, BAD_BYTES, i, <uint64_t>(at[i] * 1e9), <uint64_t>(wanted * 1e9))
            return


cdef bint make_array(GCBench t) noexcept nogil:
    cdef word array = gc_alloc_array(t.m, t.doubles, t.length)
    cdef uint64_t i
    if array == 0:
        t.r.exhausted = 1
        return False
    t.frame[1] = array
    for i in range(t.length // 2):
        (<double*>gc_elements(array))[i] = value_at(i)
    return True


def bytes_needed(depth):
    """Live bytes of one mutator: the stretching tree, which is more than what stays."""
    return ((8 << depth) - 1) * NODE_BYTES


def deepest(live):
    """The standard depth, or the greatest that fits in `live` bytes."""
    return next(depth for depth in range(STANDARD_DEPTH, MIN_DEPTH, -1)
                if bytes_needed(depth) <= live or depth == MIN_DEPTH + 1)


cdef class GCBench(Trees):
    """One mutator of `gcbench`."""
    cdef uint64_t length        # of the array of doubles
    cdef uint32_t doubles       # its shape

    DAMAGES = (*Trees.DAMAGES, "array")

    def __cinit__(self, heap, part):
        self.words = 2
        self.depth = part.settings.get("depth") or deepest(self.share)
        self.length = max(16, (STANDARD_ARRAY << self.depth) >> STANDARD_DEPTH)
        self.to_build = 10 << self.depth

    def ready(self, mutator):
        self.doubles = mutator.new_array("f8", 0).shape.id

    cdef bint start(self) noexcept nogil:
        self.next_tree()
        if not self.finish_tree(build(self, self.depth + 3, 1), self.depth + 3):
            return not self.r.exhausted
        self.serial = 0
        self.frame[0] = build_down(self, self.depth + 1)
        return not self.r.exhausted and make_array(self)

    cdef bint round_of(self, uint64_t depth) noexcept nogil:
        """All trees of one depth; false when the run is over."""
        cdef uint64_t trees = 2 * ((<uint64_t>8 << self.depth) - 1) // ((<uint64_t>2 << depth) - 1)
        cdef uint64_t i
        for i in range(2 * trees):
            self.next_tree()
            if not self.finish_tree(
                    build_down(self, depth + 1) if i < trees else build(self, depth + 1, 1),
                    depth + 1):
                return False
        check_array(self)
        gc_poll(self.m)
        return True

    cdef void loop(self) noexcept nogil:
        cdef uint64_t depth = MIN_DEPTH
        while self.round_of(depth):
            depth = depth + 2 if depth + 2 <= self.depth else MIN_DEPTH

    cdef void check_all(self) noexcept nogil:
        Trees.check_all(self)
        check_array(self)

    cdef void break_one(self, int what) noexcept nogil:
        if what < 3:
            Trees.break_one(self, what)
        else:
            (<double*>gc_elements(self.frame[1]))[self.length // 2 - 1] = 2.0

    def sizes(self):
        return {"depth": self.depth, "array_elements": self.length}


def check(config):
    """OptionError for a depth that does not fit."""
    depth = config.settings["depth"]
    share = config.live // config.mutators
    if depth is not None and bytes_needed(depth) > share:
        raise OptionError(
            f"depth {depth}: gcbench needs {format_size(bytes_needed(depth))} of live bytes a "
            f"mutator for it, and has {format_size(share)}; more live bytes, or less depth")
