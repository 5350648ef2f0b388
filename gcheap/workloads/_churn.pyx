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
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from gcheap._fastpath cimport (
    gc_alloc, gc_alloc_array, gc_elements, gc_enter, gc_leave, gc_load, gc_load_element,
    gc_poll, gc_pop, gc_push, gc_store, gc_store_element)
from gcheap.core.layout cimport SHAPE_BYTES, SHAPE_SLOT_ARRAY, word
from gcheap.core.native cimport count_leading_zeros, unlikely
from gcheap.core.objects cimport shape_of_header
from gcheap.core.roots cimport drop_handle, take_handle
from gcheap.workloads._random cimport mix64, random64, scaled
from gcheap.workloads._record cimport (
    BAD_BYTES, BAD_FILLER, BAD_ID, BAD_LINK, BAD_RING, BAD_SHAPE, BAD_SUM, FAILURES_BEFORE_STOP,
    record_failure, stop_wanted)
from gcheap.workloads.worker cimport Worker

from gcheap.errors import OptionError
from gcheap.options import format_size


# ---- one operation -----------------------------------------------------------------------

cdef inline bint walk(Churn c, uint64_t bits) noexcept nogil:
    """From a random root down 8 links, in directions that `bits` says."""
    cdef uint64_t tree = c.tree_low + scaled(bits, c.tree_count)
    cdef uint64_t place = 1, _i
    cdef word node = gc_load_element(c.frame[AT_TABLE], tree)
    if not node_is(c.r, node, key_of(tree, 1)):
        return False
    bits >>= 32
    for _i in range(WALK_LINKS):
        node = gc_load(node, bits & 1)
        place = 2 * place + (bits & 1)
        bits >>= 1
        if not node_is(c.r, node, key_of(tree, place)):
            return False
    return True


cdef inline bint replace_node(Churn c, bint sampled) noexcept nogil:
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


cdef inline bint make_young(Churn c, bint sampled) noexcept nogil:
    """False when the heap is exhausted."""
    cdef uint64_t _i, size_class, slot
    cdef word fresh, old
    if sampled and c.young >= RING:
        old = gc_load_element(c.frame[AT_RING], c.young % RING)
        if old == 0 or node_id(old) != (YOUNG_ID | (c.young - RING)):
            record_failure(c.r, BAD_RING, c.young % RING, node_id(old) if old else 0,
                           YOUNG_ID | (c.young - RING))
        elif not filler_holds(old, (c.young - RING) % NODE_CLASSES):
            record_failure(c.r, BAD_FILLER, c.young % RING, node_id(old), 0)
    for _i in range(YOUNG):
        size_class = c.young % NODE_CLASSES
        slot = c.young % RING
        fresh = gc_alloc(c.m, c.world.shapes[size_class])
        if unlikely(fresh == 0):
            return False
        fill_node(fresh, size_class, YOUNG_ID | c.young)
        gc_store_element(c.m, c.frame[AT_RING], slot, fresh)
        c.young += 1
    return True


cdef bint replace_array(Churn c) noexcept nogil:
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


cdef inline bint operate(Churn c) noexcept nogil:
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
    gc_poll(c.m)
    return True


# ---- population --------------------------------------------------------------------------

cdef word build(Churn c, uint64_t tree, uint64_t place) noexcept nogil:
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


cdef bint populate_all(Churn c) noexcept nogil:
    """Builds everything that all mutators share; false when the heap is exhausted."""
    cdef uint64_t i
    cdef word made
    for i in range(c.world.trees):
        if stop_wanted(c.r):
            return True
        made = build(c, i, 1)
        if made == 0:
            return False
        gc_store_element(c.m, c.frame[AT_TABLE], i, made)
        c.one_built()
        gc_poll(c.m)
    for i in range(c.world.arrays):
        if stop_wanted(c.r):
            return True
        made = gc_alloc_array(c.m, SHAPE_BYTES, ARRAY_ELEMENTS)
        if made == 0:
            return False
        fill_array(gc_elements(made), i << GENERATION_BITS)
        gc_store_element(c.m, c.frame[AT_ARRAYS], i, made)
        gc_poll(c.m)
    return True


cdef bint make_tables(Churn c) noexcept nogil:
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


cdef bint hold_nodes(Churn c, uint32_t* handles, uint64_t count) noexcept nogil:
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


# ---- the audit ---------------------------------------------------------------------------

cdef uint64_t audit_subtree(Churn c, word node, uint64_t tree, uint64_t place) noexcept nogil:
    """Checks every node; returns the sum of the generations.  Holds no safepoint."""
    cdef uint64_t size_class = class_of(tree, place), sum
    cdef uint64_t key = key_of(tree, place)
    if not node_is(c.r, node, key):
        return 0
    sum = node_id(node) & ((1 << GENERATION_BITS) - 1)
    if shape_of_header((<word*>node)[0]) != c.world.shapes[size_class]:
        record_failure(c.r, BAD_SHAPE, key, (<word*>node)[0], c.world.shapes[size_class])
        return sum
    if not filler_holds(node, size_class):
        record_failure(c.r, BAD_FILLER, key, node_id(node), 0)
    if 2 * place < TREE_NODES:
        sum += audit_subtree(c, gc_load(node, 0), tree, 2 * place)
        sum += audit_subtree(c, gc_load(node, 1), tree, 2 * place + 1)
    elif gc_load(node, 0) or gc_load(node, 1):
        record_failure(c.r, BAD_LINK, key, gc_load(node, 0) | gc_load(node, 1), 0)
    return sum


cdef uint64_t audit_array(Churn c, uint64_t index) noexcept nogil:
    cdef word array = gc_load_element(c.frame[AT_ARRAYS], index)
    cdef uint64_t id
    if array == 0:
        record_failure(c.r, BAD_LINK, index, 0, index)
        return 0
    if (shape_of_header((<word*>array)[0]) != SHAPE_BYTES
            or (<word*>array)[1] != ARRAY_ELEMENTS):
        record_failure(c.r, BAD_SHAPE, index, (<word*>array)[0], SHAPE_BYTES)
        return 0
    id = (<uint64_t*>gc_elements(array))[0]
    if id >> GENERATION_BITS != index:
        record_failure(c.r, BAD_ID, index, id, index << GENERATION_BITS)
    if not array_holds(gc_elements(array)):
        record_failure(c.r, BAD_BYTES, index, id, 0)
    return id & ((1 << GENERATION_BITS) - 1)


cdef void audit_ring(Churn c) noexcept nogil:
    cdef uint64_t i, expected
    cdef word node
    for i in range(c.young - min(c.young, <uint64_t>RING), c.young):
        expected = YOUNG_ID | i
        node = gc_load_element(c.frame[AT_RING], i % RING)
        if node == 0 or node_id(node) != expected:
            record_failure(c.r, BAD_RING, i % RING, node_id(node) if node else 0, expected)
        elif not filler_holds(node, i % NODE_CLASSES):
            record_failure(c.r, BAD_FILLER, i % RING, node_id(node), 0)


cdef void audit_all(Churn c) noexcept nogil:
    cdef uint64_t i, nodes = 0, arrays = 0
    for i in range(c.tree_low, c.tree_low + c.tree_count):
        nodes += audit_subtree(c, gc_load_element(c.frame[AT_TABLE], i), i, 1)
        gc_poll(c.m)
        if c.r.failures > FAILURES_BEFORE_STOP:
            return
    for i in range(c.array_low, c.array_low + c.array_count):
        arrays += audit_array(c, i)
        gc_poll(c.m)
    audit_ring(c)
    if nodes != c.nodes_replaced:
        record_failure(c.r, BAD_SUM, 0, nodes, c.nodes_replaced)
    if arrays != c.arrays_replaced:
        record_failure(c.r, BAD_SUM, 1, arrays, c.arrays_replaced)


cdef void break_one(Churn c, int kind) noexcept nogil:
    """See DAMAGES.  Holds no safepoint."""
    cdef word root = gc_load_element(c.frame[AT_TABLE], c.tree_low)
    cdef word leaf = root
    cdef uint64_t place = 1
    cdef uint8_t* array
    if kind == 0:
        (<uint64_t*>root)[3] += 1 << GENERATION_BITS
    elif kind == 1:
        gc_store(c.m, root, 1, 0)
    elif kind == 2:
        # Of the largest class, which one of the first three places is.
        while class_of(c.tree_low, place) != NODE_CLASSES - 1:
            place += 1
        (<uint64_t*>(root if place == 1 else gc_load(root, place & 1)))[7] ^= 1
    elif kind == 3:
        while gc_load(leaf, 0):
            leaf = gc_load(leaf, 0)
        place = class_of(c.tree_low, (TREE_NODES + 1) // 2)
        fill_node(leaf, place, node_id(leaf) + 1)
    elif kind == 4:
        array = gc_elements(gc_load_element(c.frame[AT_ARRAYS], c.array_low))
        array[ARRAY_ELEMENTS - 1] ^= 1
    elif kind == 5 and c.young:
        (<uint64_t*>gc_load_element(c.frame[AT_RING], (c.young - 1) % RING))[3] ^= 1


# ---- the workload ------------------------------------------------------------------------

def tree_count(live):
    """How many trees `live` bytes hold: 9/10 of it."""
    return live * 9 // 10 // TREE_BYTES


def array_count(live):
    """How many byte arrays `live` bytes hold beside the trees."""
    return live // 10 // ARRAY_BYTES


cdef class Churn(Worker):
    """One mutator of `churn`."""

    DAMAGES = ("id", "link", "filler", "lost", "bytes", "ring")

    def __cinit__(self, heap, part):
        cdef uint64_t i
        self.words = FRAME
        self.shared = AT_RING                   # the two tables
        self.until_array = ARRAY_EVERY
        self.world.trees = tree_count(part.live)
        self.world.arrays = array_count(part.live)
        for i, filler in enumerate((0, 16, 32)):
            raw = [("id", "u8")] + ([("filler", f"V{filler}")] if filler else [])
            shape = heap.shape(f"churn.Node{32 + filler}", refs=("left", "right"), raw=raw)
            self.world.shapes[i] = shape.id
        self.tree_low = self.world.trees * self.index // self.mutators
        self.tree_count = self.world.trees * (self.index + 1) // self.mutators - self.tree_low
        self.array_low = self.world.arrays * self.index // self.mutators
        self.array_count = (self.world.arrays * (self.index + 1) // self.mutators
                            - self.array_low)
        # Worker 0 builds the trees of all.
        self.to_build = max(1, self.world.trees if self.index == 0 else 0)
        self.built = 1 if self.index else 0

    def __dealloc__(self):
        free(self.handles)

    cdef bint start_shared(self) noexcept nogil:
        return make_tables(self) and populate_all(self)

    cdef bint start(self) noexcept nogil:
        cdef word made = gc_alloc_array(self.m, SHAPE_SLOT_ARRAY, RING)
        if made == 0:
            return False
        self.frame[AT_RING] = made
        return True

    cdef bint operation(self) noexcept nogil:
        return operate(self)

    cdef void check_all(self) noexcept nogil:
        audit_all(self)

    cdef void break_one(self, int what) noexcept nogil:
        break_one(self, what)

    cdef void let_go(self) noexcept nogil:
        cdef uint64_t i
        for i in range(self.handle_count):
            if self.handles[i]:
                drop_handle(self.m.heap, self.handles[i])
        self.handle_count = 0

    def hold(self, uint64_t count):
        """Takes `count` handles to leaves spread over all trees, until this mutator leaves:
        roots whose number does not depend on the live data.  Once; MemoryError without memory.
        """
        cdef bint held
        if self.handles != NULL:
            raise RuntimeError("this mutator holds handles already")
        self.handles = <uint32_t*>calloc(count + 1, sizeof(uint32_t))
        if self.handles == NULL:
            raise MemoryError(f"no memory for the numbers of {count} handles")
        self.handle_count = count
        with nogil:
            gc_enter(self.m)
            self.take_over()
            held = hold_nodes(self, self.handles, count)
            gc_leave(self.m)
        if not held:
            raise MemoryError(f"no memory for {count} handles")

    def counts(self):
        return {"nodes_replaced": self.nodes_replaced, "arrays_replaced": self.arrays_replaced}

    def sizes(self):
        return {"trees": self.world.trees, "arrays": self.world.arrays}


def check(config):
    """OptionError for more live bytes than the trees can be numbered in."""
    if tree_count(config.live) >= 1 << 31:
        raise OptionError(
            f"live {format_size(config.live)}: churn numbers its trees with 31 bits, which is "
            f"{format_size(1 << 55)} at most"
        )
