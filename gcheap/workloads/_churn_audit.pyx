"""The audit of `churn`: everything a mutator worked on, and that the generations add up."""
from gcheap._fastpath cimport gc_elements, gc_load, gc_load_element, gc_poll, gc_store
from gcheap.core.layout cimport SHAPE_BYTES, word
from gcheap.core.objects cimport shape_of_header
from gcheap.workloads._churn cimport (
    ARRAY_ELEMENTS, AT_ARRAYS, AT_RING, AT_TABLE, GENERATION_BITS, NODE_CLASSES, RING, TREE_NODES,
    YOUNG_ID, array_holds, class_of, fill_node, filler_holds, key_of, node_id, node_is)
from gcheap.workloads._record cimport (
    BAD_BYTES, BAD_FILLER, BAD_ID, BAD_LINK, BAD_RING, BAD_SHAPE, BAD_SUM, FAILURES_BEFORE_STOP,
    record_failure)
from libc.stdint cimport uint8_t, uint64_t


cdef uint64_t audit_subtree(Churn* c, word node, uint64_t tree, uint64_t place) noexcept nogil:
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


cdef uint64_t audit_array(Churn* c, uint64_t index) noexcept nogil:
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


cdef void audit_ring(Churn* c) noexcept nogil:
    cdef uint64_t i, expected
    cdef word node
    for i in range(c.young - min(c.young, <uint64_t>RING), c.young):
        expected = YOUNG_ID | i
        node = gc_load_element(c.frame[AT_RING], i % RING)
        if node == 0 or node_id(node) != expected:
            record_failure(c.r, BAD_RING, i % RING, node_id(node) if node else 0, expected)
        elif not filler_holds(node, i % NODE_CLASSES):
            record_failure(c.r, BAD_FILLER, i % RING, node_id(node), 0)


cdef void audit_all(Churn* c) noexcept nogil:
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


cdef void break_one(Churn* c, int kind) noexcept nogil:
    """See ChurnSession.damage.  Holds no safepoint."""
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
