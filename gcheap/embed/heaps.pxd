"""Heaps and shapes for native code.  See heaps.pyx.

All of these take the GIL themselves, whether or not the caller holds it.  NULL, 0 or -1: it
failed, and error_message() says why.
"""
from cpython.ref cimport PyObject
from gcheap.core.layout cimport HeapState, Listener
from gcheap.embed.mutators cimport TagRule
from libc.stdint cimport uint32_t

cdef struct ShapeSpec:          # gc_shape_spec of gcheap.h
    const char* name
    uint32_t kind               # ShapeKind
    const char* slots
    size_t raw_bytes
    const TagRule* tag

cdef HeapState* gc_new_heap(const char* options, const TagRule* tag) noexcept nogil
cdef int gc_close_heap(HeapState* h) noexcept nogil
cdef uint32_t gc_define_shape(HeapState* h, const ShapeSpec* spec) noexcept nogil
cdef int gc_set_listener(HeapState* h, Listener listener, void* data) noexcept nogil

# NULL: a Python exception is set.  With the GIL.
cdef HeapState* gc_heap_of_object(PyObject* heap) noexcept with gil
cdef PyObject* gc_object_of_heap(HeapState* h) noexcept with gil

cdef object tagged_heap(dict options, tag)
