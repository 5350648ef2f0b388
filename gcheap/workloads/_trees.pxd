"""Trees of the workloads `trees` and `gcbench`: building, counting, checking.  See _trees.pyx."""
from gcheap.core.layout cimport word
from gcheap.workloads.worker cimport Worker
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    NODE_BYTES = 32             # header, two references, an id
    STEP_LEVELS = 6             # an operation: a subtree of so many levels
    MIN_DEPTH = 4
    MAX_DEPTH = 30              # a place takes 32 bits of an id

cdef class Trees(Worker):
    cdef uint64_t depth         # of the long-lived tree, which frame[0] names
    cdef uint64_t serial        # of the tree in hand; the long-lived one is 0
    cdef uint64_t last_serial
    cdef uint64_t trees         # short-lived trees built, counted and found right
    cdef uint32_t shape
    cdef bint stopped           # unwinding

    cdef void next_tree(self) noexcept nogil
    cdef bint finish_tree(self, word tree, uint64_t levels) noexcept nogil

cdef bint step(Trees t) noexcept nogil
cdef word build(Trees t, uint64_t levels, uint64_t place) noexcept nogil
cdef void fill_node(Trees t, word node, uint64_t place) noexcept nogil
