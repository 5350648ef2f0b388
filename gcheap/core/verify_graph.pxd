"""Verification of the whole graph, the world stopped.  See verify_graph.pyx."""
from gcheap.core.layout cimport HeapState, LargeRun

cdef void verify_graph(HeapState* h, bint marked) noexcept nogil
cdef bint seen_last(const LargeRun* run) noexcept nogil
