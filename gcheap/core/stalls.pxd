"""Allocation stalls: counted, measured, reported.  See stalls.pyx."""
from gcheap.core.layout cimport HeapState, MutatorState
from libc.stdint cimport uint64_t

cdef void stall_begins(HeapState* h) noexcept nogil
cdef void stall_ended(MutatorState* m, uint64_t nbytes, uint64_t waited_ns) noexcept nogil
