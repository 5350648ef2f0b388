"""Refs: what Python holds instead of an address."""
from gcheap.core.layout cimport word
from gcheap.face.shape cimport Shape
from gcheap.face.state cimport HeapCore
from libc.stdint cimport uint32_t, uint64_t

cdef class Tagged:
    cdef readonly uint64_t word     # no-cython-lint

cdef class Ref:
    cdef HeapCore core
    cdef uint32_t handle
    cdef bint hashed
    cdef bint observer          # made by introspection: see core/inspect.pyx
    cdef uint32_t cached_hash
    cdef Shape layout

cdef class SlotArray(Ref):
    cdef uint64_t length

cdef class RawArray(Ref):
    cdef uint64_t length
    cdef bint is_pinned         # it has an address that may be shown
    cdef Py_ssize_t extent[1]   # its length again, as the shape of a view
    cdef object format          # of its elements, for views; made when first asked for
    cdef tuple span(self, index)

cdef Ref check_ref(HeapCore core, value, str where)
cdef Ref new_ref(HeapCore core, uint32_t handle, uint32_t shape, uint64_t length)
cdef int set_field(Ref ref, str name, value) except -1
cdef int fill(RawArray array, const char* data, uint64_t first, uint64_t nbytes) except -1
