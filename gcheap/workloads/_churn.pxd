"""The data of the `churn` workload: how its objects look and what one mutator keeps.

A node of tree t at place p (places count like a binary heap: the root is 1, the children of
p are 2p and 2p + 1) has the id

    bits 63..24  key:         t << 9 | p
    bits 23..0   generation:  how often this place was replaced

so that a node that got lost, moved to another place or mixed up with another one is seen by
whoever reads it, and the sum of all generations counts the replacements: a lost one shows.
"""
from gcheap.core.layout cimport word
from gcheap.core.native cimport unlikely
from gcheap.workloads._random cimport mix64
from gcheap.workloads._record cimport BAD_ID, BAD_LINK, Recorder, record_failure
from gcheap.workloads.worker cimport Worker
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    TREE_NODES = 511            # nine levels
    PLACE_BITS = 9
    GENERATION_BITS = 24
    NODE_CLASSES = 3            # of 32, 48 and 64 bytes
    TREE_BYTES = 511 * 48       # the mean: each class is a third of the nodes
    ARRAY_BYTES = 1024          # header and length included
    ARRAY_ELEMENTS = 1008
    ARRAY_WORDS = 126
    ARRAY_EVERY = 22            # operations
    WALK_LINKS = 8
    YOUNG = 8                   # an operation
    RING = 1024
    SAMPLE = 16                 # one operation in so many checks contents, not only ids
    YOUNG_ID = 0x4000000000000000   # or-ed with a running number

cdef enum:                      # words of a mutator's shadow-stack frame
    AT_TABLE = 0                # slot array: the roots of all trees
    AT_ARRAYS = 1               # slot array: all byte arrays
    AT_RING = 2
    AT_PARENT = 3
    AT_NODE = 4
    FRAME = 5

cdef struct World:              # the same in all mutators
    uint64_t trees
    uint64_t arrays
    uint32_t shapes[NODE_CLASSES]

cdef class Churn(Worker):
    cdef World world
    cdef uint64_t tree_low          # this mutator's trees and arrays: [low, low + count)
    cdef uint64_t tree_count
    cdef uint64_t array_low
    cdef uint64_t array_count
    cdef uint64_t young             # nodes ever put into the ring
    cdef uint64_t nodes_replaced
    cdef uint64_t arrays_replaced
    cdef uint64_t until_array       # operations until the next byte array is replaced
    cdef uint32_t* handles          # of hold()
    cdef uint64_t handle_count


cdef inline uint64_t key_of(uint64_t tree, uint64_t place) noexcept nogil:
    return tree << PLACE_BITS | place


cdef inline uint64_t class_of(uint64_t tree, uint64_t place) noexcept nogil:
    """The size class of a place; it never changes, so each class stays a third."""
    return (tree + place) % NODE_CLASSES


cdef inline uint64_t node_id(word node) noexcept nogil:
    return (<uint64_t*>node)[3]             # header, two references, id, filler


cdef inline void fill_node(word node, uint64_t size_class, uint64_t id) noexcept nogil:
    """Writes the id and the filler: 0, 2 or 4 words."""
    cdef uint64_t* at = <uint64_t*>node + 3
    at[0] = id
    if size_class >= 1:
        at[1] = ~id
        at[2] = id + 1
        if size_class == 2:
            at[3] = ~id - 1
            at[4] = id + 2


cdef inline bint filler_holds(word node, uint64_t size_class) noexcept nogil:
    cdef uint64_t* at = <uint64_t*>node + 3
    cdef uint64_t id = at[0]
    if size_class == 0:
        return True
    if at[1] != ~id or at[2] != id + 1:
        return False
    return size_class == 1 or (at[3] == ~id - 1 and at[4] == id + 2)


cdef inline void fill_array(uint8_t* elements, uint64_t id) noexcept nogil:
    cdef uint64_t* at = <uint64_t*>elements
    cdef uint64_t i, seed = mix64(id)
    at[0] = id
    for i in range(1, ARRAY_WORDS):
        at[i] = seed + i


cdef inline bint array_holds(const uint8_t* elements) noexcept nogil:
    cdef const uint64_t* at = <const uint64_t*>elements
    cdef uint64_t i, seed = mix64(at[0]), differing = 0
    for i in range(1, ARRAY_WORDS):
        differing |= at[i] ^ (seed + i)
    return differing == 0


cdef inline bint node_is(Recorder* r, word node, uint64_t key) noexcept nogil:
    """Whether `node` is the node of this key; a node that is not must not be followed."""
    if unlikely(node == 0):
        record_failure(r, BAD_LINK, key, 0, key)
        return False
    if unlikely(node_id(node) >> GENERATION_BITS != key):
        record_failure(r, BAD_ID, key, node_id(node), key << GENERATION_BITS)
        return False
    return True
