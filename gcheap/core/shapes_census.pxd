"""What fills the heap, by shape, for the message of HeapExhausted.

The marker counts the objects it marks by shape, in cycles that somebody stalls for: those are
the cycles after which an allocation may fail.  Other cycles pay one predicted branch an object.
"""
from gcheap.core.layout cimport HeapState, ShapeTotal, Survey
from libc.stdint cimport uint64_t

cdef ShapeTotal* begin_survey(HeapState* h) noexcept nogil      # NULL: nobody will ask
cdef void end_survey(HeapState* h) noexcept nogil
cdef void largest_shapes(HeapState* h, Survey* into) noexcept nogil


cdef inline void count_object(ShapeTotal* total, uint64_t nbytes) noexcept nogil:
    total.bytes += nbytes
    total.objects += 1
