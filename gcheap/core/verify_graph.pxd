"""Verification of the whole graph, the world stopped.  See verify_graph.pyx."""
from gcheap.core.layout cimport HeapState

cdef void verify_graph(HeapState* h, bint marked) noexcept nogil
