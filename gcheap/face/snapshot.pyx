# cython: nonecheck=True
"""A heap snapshot as a file: V8's .heapsnapshot, which browsers' developer tools open.

One JSON object.  Nodes and edges are flat lists of integers, whose fields `snapshot.meta` names;
the edges stand in the order of the nodes they start from, each node says how many are its own,
and an edge names its end by the place of its first integer in the list of nodes.  Node 0 is the
root.  Source: "The heap snapshot file format", Microsoft Edge documentation, and the serializer
in V8's src/profiler/heap-snapshot-generator.cc.

    node 0 ""  ->  "(GC roots)"  ->  one node a group of roots  ->  objects

The graph is taken in one pause (core/graph.pyx); the file is written afterwards, piece by piece,
from native arrays.
"""
import json

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from gcheap.core.graph cimport (
    EDGE_SLOT, EDGE_WEAK_TABLE, GROUP_ROOTS, NODE_WORDS, Graph, free_graph, take_graph)
from gcheap.core.layout cimport HeapState, SHAPE_FIXED
from gcheap.core.roots cimport ROOT_FROZEN, ROOT_GUARDED, ROOT_SHADOW
from gcheap.face.inspect import check_report
from gcheap.face.shape cimport Shape, builtin_shape
from gcheap.face.state cimport HeapCore
from gcheap.files import whole_file
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    PIECE = 1 << 20             # bytes of text formatted at a time
    ROW = 160                   # ... of which one node or edge takes at most so many
    NODE_FIELDS = 7
    TYPE_OBJECT = 3             # places in node_types and edge_types below
    TYPE_SYNTHETIC = 9
    EDGE_ELEMENT = 1
    EDGE_PROPERTY = 2
    EDGE_INTERNAL = 3
    MOST = 0xFFFFFFFF           # viewers keep every number in 32 bits

_LABELS = {ROOT_FROZEN: "(frozen)", ROOT_GUARDED: "(guardians)"}
_META = {
    "node_fields": ["type", "name", "id", "self_size", "edge_count", "trace_node_id",
                    "detachedness"],
    "node_types": [["hidden", "array", "string", "object", "code", "closure", "regexp", "number",
                    "native", "synthetic", "concatenated string", "sliced string", "symbol",
                    "bigint"],
                   "string", "number", "number", "number", "number", "number"],
    "edge_fields": ["type", "name_or_index", "to_node"],
    "edge_types": [["context", "element", "property", "internal", "hidden", "shortcut", "weak"],
                   "string_or_number", "node"],
    "trace_function_info_fields": ["function_id", "name", "script_name", "script_id", "line",
                                   "column"],
    "trace_node_fields": ["id", "function_info_index", "count", "size", "children"],
    "sample_fields": ["timestamp_us", "last_assigned_id"],
    "location_fields": ["object_index", "script_id", "line", "column"],
}


# ---- text --------------------------------------------------------------------------------

cdef inline char* put(char* at, uint64_t value, char after) noexcept nogil:
    """Writes a number and the character that follows it."""
    cdef char digits[20]
    cdef int n = 0
    while True:
        digits[n] = <char>(48 + value % 10)
        n += 1
        value //= 10
        if value == 0:
            break
    while n:
        n -= 1
        at[0] = digits[n]
        at += 1
    at[0] = after
    return at + 1


cdef struct Names:              # by shape: places in the list of strings
    uint32_t* shape
    uint32_t* field             # of its first field; 0: the slots are elements
    uint32_t* fields            # places of the names themselves, from `field` on
    uint32_t weak_table         # the name of edges from a key to the value of its entry


cdef inline char* put_node(char* at, uint64_t kind, uint64_t name, uint64_t place,
                           uint64_t size, uint64_t edges) noexcept nogil:
    at = put(at, kind, b',')
    at = put(at, name, b',')
    at = put(at, 2 * place + 1, b',')       # the id; V8's are odd as well
    at = put(at, min(size, <uint64_t>MOST), b',')
    at = put(at, edges, b',')
    at = put(at, 0, b',')
    return put(at, 0, b',')


cdef inline char* put_edge(char* at, uint64_t kind, uint64_t name, uint64_t place) noexcept nogil:
    at = put(at, kind, b',')
    at = put(at, name, b',')
    return put(at, place * NODE_FIELDS, b',')


cdef uint64_t some_nodes(char* into, Graph* g, Names* names, uint64_t others,
                         uint64_t* done) noexcept nogil:
    """Formats nodes of objects, from `done` on, until the piece is full; returns its bytes."""
    cdef char* at = into
    cdef uint64_t first
    while done[0] < g.nodes.count // NODE_WORDS and at + ROW <= into + PIECE:
        first = g.nodes.at[done[0] * NODE_WORDS]
        at = put_node(at, TYPE_OBJECT, names.shape[first & 0xFFFF], others + done[0],
                      first >> 16, g.nodes.at[done[0] * NODE_WORDS + 1])
        done[0] += 1
    return at - into


cdef uint64_t some_edges(char* into, Graph* g, Names* names, uint64_t others, uint64_t* node,
                         uint64_t* left, uint64_t* done) noexcept nogil:
    """The same for edges; `node` is where they start, `left` how many of its own are to come."""
    cdef char* at = into
    cdef uint64_t edge, shape, slot
    while done[0] < g.edges.count and at + ROW <= into + PIECE:
        while left[0] == 0:
            node[0] += 1
            left[0] = g.nodes.at[node[0] * NODE_WORDS + 1]
        edge = g.edges.at[done[0]]
        shape = g.nodes.at[node[0] * NODE_WORDS] & 0xFFFF
        slot = edge >> EDGE_SLOT
        if slot == EDGE_WEAK_TABLE:
            at = put_edge(at, EDGE_INTERNAL, names.weak_table, others + (edge & MOST))
        elif names.field[shape]:
            at = put_edge(at, EDGE_PROPERTY, names.fields[names.field[shape] + slot],
                          others + (edge & MOST))
        else:
            at = put_edge(at, EDGE_ELEMENT, slot, others + (edge & MOST))
        left[0] -= 1
        done[0] += 1
    return at - into


cdef uint64_t some_roots(char* into, Graph* g, uint64_t others, uint64_t* done) noexcept nogil:
    """The same for the edges of groups of roots.  Those of a stack are numbered by its words."""
    cdef char* at = into
    cdef uint64_t root, number
    while done[0] < g.roots.count // 2 and at + ROW <= into + PIECE:
        root = g.roots.at[2 * done[0]]
        number = done[0]
        if g.groups.at[(root >> 32) * GROUP_ROOTS] == ROOT_SHADOW:
            number = g.roots.at[2 * done[0] + 1]
        at = put_edge(at, EDGE_ELEMENT, number, others + (root & MOST))
        done[0] += 1
    return at - into


# ---- the file ----------------------------------------------------------------------------

cdef class _Strings:
    """The strings of a snapshot, each once, and the places of a heap's names among them."""

    cdef list all
    cdef dict places
    cdef Names names
    cdef bytes tables           # what `names` points into

    def __cinit__(self):
        self.all = []
        self.places = {}
        self.place("<dummy>")   # as in V8's own files: no node has name 0
        self.names.weak_table = self.place("(weak table)")

    cdef uint32_t place(self, str text):
        at = self.places.get(text)
        if at is None:
            at = self.places[text] = len(self.all)
            self.all.append(text)
        return at

    cdef add_shapes(self, HeapCore core):
        """Every shape that the heap has by now, so every one in a graph taken before."""
        cdef Shape shape
        cdef uint64_t count = len(core.shapes), i, next = 1
        cdef uint32_t* tables
        total = 2 * count + 1 + sum(len(shape.refs) for shape in core.shapes if shape is not None)
        self.tables = bytes(4 * total)
        tables = <uint32_t*>PyBytes_AS_STRING(self.tables)
        self.names.shape = tables
        self.names.field = tables + count
        self.names.fields = tables + 2 * count
        for i in range(count):
            shape = core.shapes[i] if i > 2 or i == 0 else builtin_shape(core, i)
            if shape is None:
                continue
            tables[i] = self.place(shape.name)
            if shape.kind == SHAPE_FIXED:
                self.names.field[i] = next
                for name in shape.refs:
                    self.names.fields[next] = self.place(name)
                    next += 1


cdef class _Snapshot:
    """One graph on its way into a file."""

    cdef Graph graph
    cdef _Strings strings
    cdef object out
    cdef bytes buffer
    cdef bint comma             # a list is open and has an item

    def __cinit__(self):
        self.strings = _Strings()
        self.buffer = PyBytes_FromStringAndSize(NULL, PIECE)

    def __dealloc__(self):
        free_graph(&self.graph)

    cdef take(self, HeapCore core):
        cdef HeapState* h = core.h
        cdef int error
        with nogil:
            error = take_graph(h, &self.graph)
        check_report(core, error)
        self.strings.add_shapes(core)

    cdef list groups(self):
        """[(name, number of roots), …]"""
        cdef Graph* g = &self.graph
        cdef char name[32]
        cdef uint64_t i
        counts = [0] * (g.groups.count // GROUP_ROOTS)
        for i in range(g.roots.count // 2):
            counts[g.roots.at[2 * i] >> 32] += 1
        groups = []
        for i in range(len(counts)):
            label = _LABELS.get(g.groups.at[i * GROUP_ROOTS], "(Refs)")
            if g.groups.at[i * GROUP_ROOTS] == ROOT_SHADOW:
                memcpy(name, &g.groups.at[i * GROUP_ROOTS + 2], sizeof(name))
                label = (f"(shadow stack of {(<bytes>name).decode(errors='replace')}, thread "
                         f"{g.groups.at[i * GROUP_ROOTS + 1]})")
            groups.append((label, counts[i]))
        return groups

    cdef write_piece(self, uint64_t nbytes):
        """Writes formatted numbers.  The comma after the last of them waits for the next."""
        if nbytes:
            if self.comma:
                self.out.write(b",")
            self.out.write(memoryview(self.buffer)[:nbytes - 1])
            self.comma = True

    cdef begin_list(self, str name):
        self.out.write(f',\n"{name}":['.encode())
        self.comma = False

    cdef write(self, out):
        cdef Graph* g = &self.graph
        self.out = out
        groups = self.groups()
        count = g.nodes.count // NODE_WORDS + 2 + len(groups)
        edges = g.edges.count + g.roots.count // 2 + 1 + len(groups)
        head = {"meta": _META, "node_count": count, "edge_count": edges,
                "trace_function_count": 0}
        out.write(b'{"snapshot":' + json.dumps(head).encode())
        self.begin_list("nodes")
        self.write_nodes(groups)
        out.write(b"]")
        self.begin_list("edges")
        self.write_edges(len(groups))
        out.write(b"]")
        for name in ("trace_function_infos", "trace_tree", "samples", "locations"):
            self.begin_list(name)
            out.write(b"]")
        out.write(b',\n"strings":' + json.dumps(self.strings.all).encode() + b"}\n")

    cdef write_nodes(self, list groups):
        cdef char* at = PyBytes_AS_STRING(self.buffer)
        cdef uint64_t others = 2 + len(groups), done = 0, i, size, number
        size = put_node(at, TYPE_SYNTHETIC, self.strings.place(""), 0, 0, 1) - at
        self.write_piece(size)
        number = len(groups)
        size = put_node(at, TYPE_SYNTHETIC, self.strings.place("(GC roots)"), 1, 0, number) - at
        self.write_piece(size)
        for i in range(number):
            name, count = groups[i]
            size = put_node(at, TYPE_SYNTHETIC, self.strings.place(name), 2 + i, 0, count) - at
            self.write_piece(size)
        while done < self.graph.nodes.count // NODE_WORDS:
            with nogil:
                size = some_nodes(at, &self.graph, &self.strings.names, others, &done)
            self.write_piece(size)

    cdef write_edges(self, uint64_t groups):
        cdef char* at = PyBytes_AS_STRING(self.buffer)
        cdef uint64_t others = 2 + groups, done = 0, i, size, node = 0, left = 0
        size = put_edge(at, EDGE_ELEMENT, 1, 1) - at
        self.write_piece(size)
        for i in range(groups):
            size = put_edge(at, EDGE_ELEMENT, i + 1, 2 + i) - at
            self.write_piece(size)
        while done < self.graph.roots.count // 2:
            with nogil:
                size = some_roots(at, &self.graph, others, &done)
            self.write_piece(size)
        done = 0
        if self.graph.edges.count:
            left = self.graph.nodes.at[1]
        while done < self.graph.edges.count:
            with nogil:
                size = some_edges(at, &self.graph, &self.strings.names, others, &node, &left,
                                  &done)
            self.write_piece(size)


def snapshot(HeapCore core, path):
    """See Heap.snapshot."""
    cdef _Snapshot taken = _Snapshot()
    # The file first: a path that cannot be written costs no pause.
    with whole_file(path) as out:
        taken.take(core)
        taken.write(out)
