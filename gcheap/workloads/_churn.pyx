"""`churn`: a heap of small trees whose nodes and arrays are replaced at random.

Live data: 90 % of it nodes of 32, 48 and 64 bytes in equal numbers (header, two references,
an id, filler), in complete binary trees of 511 held by one table; 10 % byte arrays of
1 KiB (header and length included), held by another.  One operation:

1. replace one uniformly random node in place: walk to it from its tree's root, allocate the
   new one, copy its links, store it in its parent (a root's parent is the table);
2. walk 8 links from each of two random roots;
3. allocate 8 nodes into a ring of 1,024, where they stay until 1,024 more have come;
4. every 22nd operation, replace a random byte array.

Every node read checks its id.  One operation in 16 also checks the filler of the node it
replaces and the young node that leaves the ring; every array that is replaced has its id
checked and one in 16 its contents.  Before and after a run each mutator audits its part:
every id, filler, shape and byte, and that the generations add up to the replacements.

Mutators work on disjoint parts of the trees and arrays, and share the two tables.

Safepoints: allocations and one poll an operation.  A local address never lives across one;
what must is in the mutator's shadow-stack frame (AT_...).
"""
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free

from gcheap._fastpath cimport (
    gc_alloc, gc_alloc_array, gc_elements, gc_enter, gc_leave, gc_load, gc_load_element,
    gc_poll, gc_pop, gc_push, gc_store, gc_store_element)
from gcheap.core.layout cimport MutatorState, SHAPE_BYTES, SHAPE_SLOT_ARRAY, word
from gcheap.core.native cimport (
    clock_ns, count_leading_zeros, load64_relaxed, store64_relaxed, unlikely)
from gcheap.core.roots cimport drop_handle, take_handle
from gcheap.workloads._churn_audit cimport audit_all, break_one
from gcheap.workloads._random cimport mix64, random64, scaled
from gcheap.workloads._record cimport (
    BAD_BYTES, BAD_FILLER, BAD_ID, BAD_LINK, BAD_RING, FAILURES_BEFORE_STOP, Recording, own_lines,
    record_failure, record_operation, stop_wanted, whole_lines)


# ---- one operation -----------------------------------------------------------------------

cdef inline bint walk(Churn* c, uint64_t bits) noexcept nogil:
    """From a random root down 8 links, in directions that `bits` says."""
    cdef uint64_t tree = c.tree_low + scaled(bits, c.tree_count)
    cdef uint64_t place = 1, i
    cdef word node = gc_load_element(c.frame[AT_TABLE], tree)
    if not node_is(c.r, node, key_of(tree, 1)):
        return False
    bits >>= 32
    for i in range(WALK_LINKS):
        node = gc_load(node, bits & 1)
        place = 2 * place + (bits & 1)
        bits >>= 1
        if not node_is(c.r, node, key_of(tree, place)):
            return False
    return True


cdef inline bint replace_node(Churn* c, bint sampled) noexcept nogil:
    """False when the heap is exhausted."""
    cdef uint64_t bits = random64(&c.random)
    cdef uint64_t tree = c.tree_low + scaled(bits, c.tree_count)
    cdef uint64_t place = 1 + scaled(bits >> 32, TREE_NODES)
    cdef uint64_t size_class = class_of(tree, place)
    cdef uint64_t at = 1, id
    cdef int level = 63 - <int>count_leading_zeros(place)
    cdef word parent = 0, fresh
    cdef word node = gc_load_element(c.frame[AT_TABLE], tree)
    if not node_is(c.r, node, key_of(tree, 1)):
        return True
    while level > 0:
        level -= 1
        at = place >> level
        parent = node
        node = gc_load(node, at & 1)
        if not node_is(c.r, node, key_of(tree, at)):
            return True
    if sampled and not filler_holds(node, size_class):
        record_failure(c.r, BAD_FILLER, key_of(tree, place), node_id(node), 0)
    c.frame[AT_PARENT] = parent
    c.frame[AT_NODE] = node
    fresh = gc_alloc(c.m, c.world.shapes[size_class])
    if unlikely(fresh == 0):
        return False
    parent = c.frame[AT_PARENT]
    node = c.frame[AT_NODE]
    gc_store(c.m, fresh, 0, gc_load(node, 0))
    gc_store(c.m, fresh, 1, gc_load(node, 1))
    id = node_id(node)
    fill_node(fresh, size_class, (id >> GENERATION_BITS << GENERATION_BITS)
              | ((id + 1) & ((1 << GENERATION_BITS) - 1)))
    if parent:
        gc_store(c.m, parent, place & 1, fresh)
    else:
        gc_store_element(c.m, c.frame[AT_TABLE], tree, fresh)
    c.nodes_replaced += 1
    return True


cdef inline bint make_young(Churn* c, bint sampled) noexcept nogil:
    """False when the heap is exhausted."""
    cdef uint64_t i, size_class, slot
    cdef word fresh, old
    if sampled and c.young >= RING:
        old = gc_load_element(c.frame[AT_RING], c.young % RING)
        if old == 0 or node_id(old) != (YOUNG_ID | (c.young - RING)):
            record_failure(c.r, BAD_RING, c.young % RING, node_id(old) if old else 0,
                           YOUNG_ID | (c.young - RING))
        elif not filler_holds(old, (c.young - RING) % NODE_CLASSES):
            record_failure(c.r, BAD_FILLER, c.young % RING, node_id(old), 0)
    for i in range(YOUNG):
        size_class = c.young % NODE_CLASSES
        slot = c.young % RING
        fresh = gc_alloc(c.m, c.world.shapes[size_class])
        if unlikely(fresh == 0):
            return False
        fill_node(fresh, size_class, YOUNG_ID | c.young)
        gc_store_element(c.m, c.frame[AT_RING], slot, fresh)
        c.young += 1
    return True


cdef bint replace_array(Churn* c) noexcept nogil:
    """False when the heap is exhausted."""
    cdef uint64_t index = c.array_low + scaled(random64(&c.random), c.array_count)
    cdef word array = gc_load_element(c.frame[AT_ARRAYS], index)
    cdef uint64_t id
    if unlikely(array == 0):
        record_failure(c.r, BAD_LINK, index, 0, index)
        return True
    id = (<uint64_t*>gc_elements(array))[0]
    if unlikely(id >> GENERATION_BITS != index):
        record_failure(c.r, BAD_ID, index, id, index << GENERATION_BITS)
        return True
    if c.arrays_replaced % SAMPLE == 0 and not array_holds(gc_elements(array)):
        record_failure(c.r, BAD_BYTES, index, id, 0)
    array = gc_alloc_array(c.m, SHAPE_BYTES, ARRAY_ELEMENTS)
    if unlikely(array == 0):
        return False
    fill_array(gc_elements(array), (index << GENERATION_BITS)
               | ((id + 1) & ((1 << GENERATION_BITS) - 1)))
    gc_store_element(c.m, c.frame[AT_ARRAYS], index, array)
    c.arrays_replaced += 1
    return True


cdef inline bint operation(Churn* c) noexcept nogil:
    """False when the heap is exhausted."""
    cdef bint sampled = c.operations % SAMPLE == 0
    if not replace_node(c, sampled):
        return False
    walk(c, random64(&c.random))
    walk(c, random64(&c.random))
    if not make_young(c, sampled):
        return False
    c.until_array -= 1
    if c.until_array == 0:
        c.until_array = ARRAY_EVERY
        if not replace_array(c):
            return False
    c.operations += 1
    gc_poll(c.m)
    return True


cdef void run_loop(Churn* c) noexcept nogil:
    c.r.last_ns = clock_ns()
    while True:
        if unlikely(not operation(c)):
            c.r.exhausted = 1
            return
        if unlikely(c.r.failures > FAILURES_BEFORE_STOP):
            return
        if unlikely(not record_operation(c.r)):
            return


# ---- population --------------------------------------------------------------------------

cdef word build(Churn* c, uint64_t tree, uint64_t place) noexcept nogil:
    """A new subtree, parents allocated before children; 0 when the heap is exhausted.

    The caller stores the result before its next safepoint.
    """
    cdef uint64_t size_class = class_of(tree, place), side
    cdef word node, child
    cdef word* frame = gc_push(c.m, 1)
    if frame == NULL:
        return 0
    node = gc_alloc(c.m, c.world.shapes[size_class])
    if node:
        fill_node(node, size_class, key_of(tree, place) << GENERATION_BITS)
        frame[0] = node
        if 2 * place < TREE_NODES:
            for side in range(2):
                child = build(c, tree, 2 * place + side)
                if child == 0:
                    frame[0] = 0
                    break
                gc_store(c.m, frame[0], side, child)
        node = frame[0]
    gc_pop(c.m, 1)
    return node


cdef bint populate_all(Churn* c) noexcept nogil:
    """Builds everything that all mutators share; false when the heap is exhausted."""
    cdef World* w = c.world
    cdef uint64_t i
    cdef word made
    for i in range(w.trees):
        if stop_wanted(c.r):
            return True
        made = build(c, i, 1)
        if made == 0:
            return False
        gc_store_element(c.m, c.frame[AT_TABLE], i, made)
        store64_relaxed(&w.built, i + 1)        # relaxed: for the display only
        gc_poll(c.m)
    for i in range(w.arrays):
        if stop_wanted(c.r):
            return True
        made = gc_alloc_array(c.m, SHAPE_BYTES, ARRAY_ELEMENTS)
        if made == 0:
            return False
        fill_array(gc_elements(made), i << GENERATION_BITS)
        gc_store_element(c.m, c.frame[AT_ARRAYS], i, made)
        gc_poll(c.m)
    return True


cdef bint make_tables(Churn* c) noexcept nogil:
    cdef word made
    made = gc_alloc_array(c.m, SHAPE_SLOT_ARRAY, c.world.trees)
    if made == 0:
        return False
    c.frame[AT_TABLE] = made
    made = gc_alloc_array(c.m, SHAPE_SLOT_ARRAY, c.world.arrays)
    if made == 0:
        return False
    c.frame[AT_ARRAYS] = made
    return True


cdef bint start(Churn* c, bint owner) noexcept nogil:
    """Makes the mutator's frame and what it holds; false when the heap is exhausted."""
    cdef word made
    c.frame = gc_push(c.m, FRAME)
    if c.frame == NULL:
        return False
    if owner:
        if not make_tables(c) or not populate_all(c):
            return False
        c.world.owner_frame = c.frame
    made = gc_alloc_array(c.m, SHAPE_SLOT_ARRAY, RING)
    if made == 0:
        return False
    c.frame[AT_RING] = made
    return True


cdef void adopt(Churn* c) noexcept nogil:
    """Takes the tables over from the mutator that made them.

    This thread is running, so no pause is under way until its next safepoint: the words in
    the other mutator's frame are up to date and stay so, whatever that thread does.
    """
    if c.world.owner_frame != c.frame:
        # Relaxed: written before these threads met, and then by pauses only.
        c.frame[AT_TABLE] = load64_relaxed(&c.world.owner_frame[AT_TABLE])
        c.frame[AT_ARRAYS] = load64_relaxed(&c.world.owner_frame[AT_ARRAYS])


cdef bint hold_nodes(Churn* c, uint32_t* handles, uint64_t count) noexcept nogil:
    """Takes a handle to a node of each of `count` trees, evenly spread; false without memory."""
    cdef uint64_t i, bits
    cdef word node
    for i in range(count):
        node = gc_load_element(c.frame[AT_TABLE], i * c.world.trees // count)
        bits = mix64(i)
        while gc_load(node, bits & 1):
            node = gc_load(node, bits & 1)
            bits >>= 1
        handles[i] = take_handle(c.m.heap, c.m, node)
        if handles[i] == 0:
            return False
    return True


# ---- the Python side ---------------------------------------------------------------------

def tree_count(live):
    """How many trees `live` bytes hold beside the byte arrays."""
    return live * 9 // 10 // TREE_BYTES


def array_count(live):
    """How many byte arrays `live` bytes hold beside the trees."""
    return live // 10 // ARRAY_BYTES


cdef class ChurnSession:
    """`churn` on one heap by a fixed number of mutators, each with an index from 0.

    Every mutator thread calls, in this order: `populate`, `run`, `audit`, `leave`; all
    threads have returned from one before any enters the next.  The calls release the GIL.
    """
    cdef World world
    cdef Churn* churns
    cdef int mutators
    cdef uint32_t* handles
    cdef uint64_t handle_count

    def __cinit__(self, heap, *, int mutators, live, seed, **_other):
        cdef uint64_t i
        cdef Churn* c
        self.mutators = mutators
        self.world.trees = tree_count(live)
        self.world.arrays = array_count(live)
        for i, filler in enumerate((0, 16, 32)):
            raw = [("id", "u8")] + ([("filler", f"V{filler}")] if filler else [])
            shape = heap.shape(f"churn.Node{32 + filler}", refs=("left", "right"), raw=raw)
            self.world.shapes[i] = shape.id
        self.churns = <Churn*>own_lines(whole_lines(sizeof(Churn)) * mutators,
                                        "the workload's mutators")
        for i in range(<uint64_t>mutators):
            c = self.churn(i)
            c.world = &self.world
            c.random = mix64((<uint64_t>seed << 8) + i)
            c.until_array = ARRAY_EVERY
            c.tree_low = self.world.trees * i // mutators
            c.tree_count = self.world.trees * (i + 1) // mutators - c.tree_low
            c.array_low = self.world.arrays * i // mutators
            c.array_count = self.world.arrays * (i + 1) // mutators - c.array_low

    def __dealloc__(self):
        free(self.churns)
        free(self.handles)

    cdef Churn* churn(self, uint64_t index) noexcept:
        return <Churn*>(<uintptr_t>self.churns + index * whole_lines(sizeof(Churn)))

    @property
    def populated(self):
        """The share of the trees built so far, 0 to 1; from any thread."""
        return load64_relaxed(&self.world.built) / self.world.trees     # display only

    def populate(self, mutator, uint64_t index, Recording recording not None):
        """Mutator 0 builds the live data, and each its ring of young nodes."""
        cdef Churn* c = self.churn(index)
        cdef bint held
        c.m = <MutatorState*><uintptr_t>mutator.native()
        c.r = recording.r
        with nogil:
            gc_enter(c.m)
            held = start(c, index == 0)
            gc_leave(c.m)
        if not held:
            c.r.exhausted = 1

    def hold(self, uint64_t index, uint64_t count):
        """Takes `count` handles to leaves spread over all trees, until mutator 0 leaves:
        roots whose number does not depend on the live data.  Once; MemoryError without memory.
        """
        cdef Churn* c = self.churn(index)
        cdef bint held
        if self.handles != NULL:
            raise RuntimeError("this session holds handles already")
        self.handles = <uint32_t*>calloc(count + 1, sizeof(uint32_t))
        if self.handles == NULL:
            raise MemoryError(f"no memory for the numbers of {count} handles")
        self.handle_count = count
        with nogil:
            gc_enter(c.m)
            adopt(c)
            held = hold_nodes(c, self.handles, count)
            gc_leave(c.m)
        if not held:
            raise MemoryError(f"no memory for {count} handles")

    def run(self, uint64_t index):
        """Operations until the run is stopped, the heap exhausted, or too much failed."""
        cdef Churn* c = self.churn(index)
        with nogil:
            gc_enter(c.m)
            adopt(c)
            run_loop(c)
            gc_leave(c.m)

    def audit(self, uint64_t index):
        """Checks everything that this mutator worked on; failures go to its recording."""
        cdef Churn* c = self.churn(index)
        with nogil:
            gc_enter(c.m)
            audit_all(c)
            gc_leave(c.m)

    def damage(self, uint64_t index, str what):
        """Breaks one object of a mutator's part, for tests of the checks.

        `what`: "id" (of its first tree's root), "link" (a null one there), "filler" (of a
        node below it), "lost" (a replacement undone: the generation of a leaf), "bytes" (of
        its first array), "ring" (the youngest node's id).  Called between two other calls.
        """
        cdef Churn* c = self.churn(index)
        cdef int kind = ("id", "link", "filler", "lost", "bytes", "ring").index(what)
        with nogil:
            gc_enter(c.m)
            break_one(c, kind)
            gc_leave(c.m)

    def leave(self, uint64_t index):
        """Gives the mutator's shadow-stack frame back.  Nothing of the run is left."""
        cdef Churn* c = self.churn(index)
        cdef uint64_t i
        if c.frame != NULL:
            with nogil:
                if index == 0:
                    for i in range(self.handle_count):
                        if self.handles[i]:
                            drop_handle(c.m.heap, self.handles[i])
                    self.handle_count = 0
                gc_enter(c.m)       # a pause reads the shadow stacks of those outside
                gc_pop(c.m, FRAME)
                gc_leave(c.m)
            c.frame = NULL

    def facts(self):
        """What the workload adds to the document: counts, all with the warm-up."""
        nodes = arrays = 0
        for i in range(self.mutators):
            nodes += self.churn(i).nodes_replaced
            arrays += self.churn(i).arrays_replaced
        return {"trees": self.world.trees, "arrays": self.world.arrays,
                "nodes_replaced": nodes, "arrays_replaced": arrays}
