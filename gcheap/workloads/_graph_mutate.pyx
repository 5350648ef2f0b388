"""`graph-mutate`: a graph whose edges are rewired all the time, with a cycle always under way.

Live data of each mutator: nodes in containers of 16 slots, each node in exactly one slot; and two
edges from every node to any other.  One operation:

1. swaps the contents of two random container slots, eight times: the only reference that holds a
   node moves from an object that marking may not have reached yet into one that it has finished.
   That is the case for which a snapshot at the beginning (T. Yuasa, 1990) logs what is
   overwritten; with a barrier missing, a node is lost within a few cycles
2. lets a random edge of each of those nodes refer to the other
3. gives one node a new note, a young object

A cycle is asked for whenever none is running.  The nodes' ids are compared with the model, in
which everything above has happened to numbers.
"""
from gcheap.core.records cimport CAUSE_EXPLICIT
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free

from gcheap._fastpath cimport (
    gc_alloc, gc_alloc_array, gc_load, gc_load_element, gc_poll, gc_store, gc_store_element)
from gcheap.core.layout cimport SHAPE_SLOT_ARRAY, word
from gcheap.core.native cimport unlikely
from gcheap.core.requests cimport cycle_running, request_cycle
from gcheap.workloads._checks cimport below, is_object, raw_is, set_raw
from gcheap.workloads._random cimport random64
from gcheap.workloads._record cimport own_lines
from gcheap.workloads.worker cimport Worker

cdef enum:
    AT_TABLE = 0                # slot array of the containers
    AT_NODE = 1
    FRAME = 2

cdef enum:
    CONTAINER = 16              # slots
    SWAPS = 8                   # an operation
    EDGES = 2
    NOTE = 2                    # the slot of a node after its edges
    ID = 4                      # words: of a node
    STAMP = 1                   # ... of a note
    NODE_BYTES = 40 + 8 + 1 + 16    # node, slot, container, note


cdef inline word container_of(GraphMutate g, uint64_t slot) noexcept nogil:
    return gc_load_element(g.frame[AT_TABLE], slot // CONTAINER)


cdef inline word node_in(GraphMutate g, uint64_t slot) noexcept nogil:
    """The node in a container's slot when it is the one that the model has there, else 0."""
    cdef word container = container_of(g, slot), node
    if not is_object(g.r, container, SHAPE_SLOT_ARRAY, slot):
        return 0
    node = gc_load_element(container, slot % CONTAINER)
    if not (is_object(g.r, node, g.node, slot) and raw_is(g.r, node, ID, g.held[slot], slot)):
        return 0
    return node


cdef inline void check_edge(GraphMutate g, word node, uint64_t id, uint64_t edge) noexcept nogil:
    cdef word to = gc_load(node, edge)
    if is_object(g.r, to, g.node, id):
        raw_is(g.r, to, ID, g.edges[EDGES * id + edge], id)


cdef inline void check_note(GraphMutate g, word node, uint64_t id) noexcept nogil:
    cdef word note = gc_load(node, NOTE)
    if is_object(g.r, note, g.note, id):
        raw_is(g.r, note, STAMP, <uint64_t>g.stamps[id] << 32 | id, id)


cdef inline void connect(GraphMutate g, word node, uint64_t id, uint64_t edge, word to,
                         uint64_t to_id) noexcept nogil:
    gc_store(g.m, node, edge, to)
    g.edges[EDGES * id + edge] = <uint32_t>to_id


cdef void swap(GraphMutate g) noexcept nogil:
    """Two random slots; the nodes then refer to each other.  Holds no safepoint."""
    cdef uint64_t a = below(g, g.count), b = below(g, g.count), edge = random64(&g.random) % EDGES
    cdef uint64_t id_a = g.held[a], id_b = g.held[b]
    cdef word node_a = node_in(g, a), node_b = node_in(g, b)
    if unlikely(node_a == 0 or node_b == 0):
        return
    check_edge(g, node_a, id_a, edge)
    gc_store_element(g.m, container_of(g, a), a % CONTAINER, node_b)
    gc_store_element(g.m, container_of(g, b), b % CONTAINER, node_a)
    g.held[a], g.held[b] = <uint32_t>id_b, <uint32_t>id_a
    connect(g, node_a, id_a, edge, node_b, id_b)
    connect(g, node_b, id_b, edge, node_a, id_a)


cdef bint write_note(GraphMutate g, uint64_t slot, bint checked) noexcept nogil:
    """False when the heap is exhausted."""
    cdef uint64_t id = g.held[slot]
    cdef word note = gc_alloc(g.m, g.note), node
    if unlikely(note == 0):
        return False
    node = node_in(g, slot)
    if unlikely(node == 0):
        return True
    if checked:
        check_note(g, node, id)
    g.stamps[id] += 1
    set_raw(note, STAMP, <uint64_t>g.stamps[id] << 32 | id)
    gc_store(g.m, node, NOTE, note)
    return True


cdef class GraphMutate(Worker):
    """One mutator of `graph-mutate`."""
    cdef uint32_t* held         # the model: node id by container slot,
    cdef uint32_t* edges        # ... where each edge of a node leads,
    cdef uint32_t* stamps       # ... which note it has
    cdef uint64_t count         # nodes, and container slots
    cdef uint32_t node
    cdef uint32_t note

    DAMAGES = ("id", "lost", "edge", "note")

    def __cinit__(self, heap, part):
        self.words = FRAME
        self.count = self.to_build = self.share // NODE_BYTES // CONTAINER * CONTAINER
        self.node = heap.shape("graph-mutate.Node", refs=("first", "second", "note"),
                               raw=[("id", "u8")]).id
        self.note = heap.shape("graph-mutate.Note", raw=[("stamp", "u8")]).id
        self.held = <uint32_t*>own_lines(self.count * 4, "the model of a graph")
        self.edges = <uint32_t*>own_lines(self.count * 4 * EDGES, "the model of a graph")
        self.stamps = <uint32_t*>own_lines(self.count * 4, "the model of a graph")

    def __dealloc__(self):
        free(self.held)
        free(self.edges)
        free(self.stamps)

    cdef bint start(self) noexcept nogil:
        return self.hold_slots(AT_TABLE, self.count // CONTAINER) and self.build_all()

    cdef bint build_one(self, uint64_t i) noexcept nogil:
        """Node i in slot i, with edges to nodes before it, or itself."""
        cdef uint64_t edge, slot
        cdef word made
        if i % CONTAINER == 0:
            made = gc_alloc_array(self.m, SHAPE_SLOT_ARRAY, CONTAINER)
            if made == 0:
                return False
            gc_store_element(self.m, self.frame[AT_TABLE], i // CONTAINER, made)
        made = gc_alloc(self.m, self.node)
        if made == 0:
            return False
        set_raw(made, ID, i)
        gc_store_element(self.m, container_of(self, i), i % CONTAINER, made)
        self.held[i] = <uint32_t>i
        if not write_note(self, i, False):
            return False
        for edge in range(EDGES):
            slot = below(self, i + 1)
            connect(self, node_in(self, i), i, edge, node_in(self, slot), slot)
        return True

    cdef bint operation(self) noexcept nogil:
        cdef int _i
        for _i in range(SWAPS):
            swap(self)
        if not write_note(self, below(self, self.count), True):
            return False
        if not cycle_running(self.m.heap):
            request_cycle(self.m.heap, CAUSE_EXPLICIT)
        gc_poll(self.m)
        return True

    cdef void check_one(self, uint64_t slot) noexcept nogil:
        cdef uint64_t edge
        cdef word node = node_in(self, slot)
        if node:
            for edge in range(EDGES):
                check_edge(self, node, self.held[slot], edge)
            check_note(self, node, self.held[slot])

    cdef void break_one(self, int what) noexcept nogil:
        cdef word container = container_of(self, 0)
        cdef word node = gc_load_element(container, 0)
        if what == 0:
            set_raw(node, ID, self.held[0] + 1)
        elif what == 1:
            gc_store_element(self.m, container, 0, 0)
        elif what == 2:
            gc_store(self.m, node, 1, 0)
        else:
            set_raw(gc_load(node, NOTE), STAMP, 3)

    def counts(self):
        return {"edges_rewired": 2 * SWAPS * self.operations}

    def sizes(self):
        return {"nodes_a_mutator": self.count}
