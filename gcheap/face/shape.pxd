"""Shapes: the Python description of an object layout."""
from gcheap.face.state cimport HeapCore
from libc.stdint cimport uint32_t, uint64_t

cdef class Field:
    cdef readonly str name
    cdef readonly bint is_ref
    cdef uint64_t offset        # bytes from the start of the object
    cdef uint64_t size
    cdef int code               # face/values.pyx
    cdef readonly object dtype  # None for a reference

cdef class Shape:
    cdef HeapCore core
    cdef readonly uint32_t id
    cdef readonly str name
    cdef str title              # the name, fit for messages
    cdef uint32_t kind
    cdef dict fields            # name -> Field
    cdef readonly tuple refs
    cdef readonly object raw    # numpy.dtype of the raw part or of an array's elements
    cdef readonly object tag
    cdef uint64_t size          # fixed shapes: bytes, header included
    cdef uint64_t item          # arrays: bytes an element
    cdef Field element          # raw arrays: how one element is read
    cdef Field find(self, str name)

cdef Shape define_shape(HeapCore core, name, refs, raw, tag)
cdef Shape define_array(HeapCore core, name, uint32_t kind, item, tag)
cdef Shape array_shape(HeapCore core, dtype)
cdef int complete(Shape shape) except -1
cdef Shape builtin_shape(HeapCore core, uint32_t id)
