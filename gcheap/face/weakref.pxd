"""Weak references to heap objects."""
from gcheap.core.layout cimport HeapState
from gcheap.face.state cimport HeapCore
from libc.stdint cimport uint32_t, uint64_t

cdef class WeakRef:
    cdef HeapCore core
    cdef uint32_t cell
    cdef bint hashed
    cdef uint32_t cached_hash
    cdef object __weakref__
    cdef target(self)

cdef class Notices:
    cdef HeapState* h
    cdef uint32_t stopped
    cdef uint64_t cursor

cdef WeakRef new_weak(HeapCore core, ref)
cdef dict weak_counts(HeapState* h)
