"""Mutators: a thread's licence to touch objects."""
from gcheap.core.layout cimport MutatorState
from gcheap.face.state cimport HeapCore
from libc.stdint cimport uint32_t, uint64_t

cdef class Mutator:
    cdef HeapCore core
    cdef MutatorState* m
    cdef bint left
    cdef object __weakref__
    cdef int check(self) except -1
    cdef int begin_allocation(self) except -1
    cdef uint32_t allocate(self, uint32_t shape, uint64_t nbytes, uint64_t length) except 0
    cdef uint32_t allocate_pinned(self, uint32_t shape, uint64_t nbytes, uint64_t length) except 0
    cdef uint64_t checked_length(self, n, uint64_t item, str what) except? <uint64_t>-1

cdef Mutator attach(HeapCore core, str name)
