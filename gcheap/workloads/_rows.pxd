"""A table of small objects that are replaced at random: the data of several workloads."""
from gcheap.workloads.worker cimport Worker
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    ROW_BYTES = 80              # a Row, its Tail, and the slot

cdef class Rows(Worker):
    cdef uint32_t* written      # the model: how often each row was replaced
    cdef uint64_t count
    cdef uint32_t row
    cdef uint32_t tail

    cdef bint turn_over(self, uint64_t rows) noexcept nogil
