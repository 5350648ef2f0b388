"""Allocation stalls: counted, measured, reported.  See stalls.pyx."""
from gcheap.core.layout cimport HeapState, MutatorState
from libc.stdint cimport uint64_t

cdef struct Stall:              # of one thread, on its stack
    uint64_t bytes              # what it wants to allocate
    uint64_t began_ns
    uint64_t used               # the heap's then

cdef void stall_begins(Stall* s, HeapState* h, uint64_t nbytes) noexcept nogil
cdef void stall_ended(Stall* s, MutatorState* m) noexcept nogil
