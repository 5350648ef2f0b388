"""The whole graph as arrays: nodes, edges and roots by number.  See graph.pyx."""
from gcheap.core.layout cimport HeapState
from gcheap.core.words cimport Words

cdef enum:
    NODE_WORDS = 2              # shape | bytes << 16, references
    EDGE_SLOT = 32              # an edge: slot << 32 | number of the node it leads to
    EDGE_WEAK_TABLE = 0xFFFFFFFF    # the slot of an edge from a key to the value of its entry
    GROUP_ROOTS = 6             # words of a group: kind, thread, name[4]; see graph.pyx

cdef struct Graph:              # zeroed: empty
    Words nodes
    Words edges                 # in the order of nodes, and of slots within each
    Words groups                # GROUP_ROOTS words each: roots of one kind, or of one stack
    Words roots                 # group << 32 | number of the node, position: in order of groups

cdef int take_graph(HeapState* h, Graph* g) noexcept nogil      # 0, an errno or INSPECT_CLOSED
cdef void free_graph(Graph* g) noexcept nogil
