"""The end of a pause: recorded, and reported when it was slow.  See slow_pause.pyx."""
from gcheap.core.layout cimport HeapState
from gcheap.core.records cimport PauseRecord
from libc.stdint cimport uint32_t

cdef const char* kind_name(uint32_t kind) noexcept nogil
cdef bint say_at_once(const char* line, int length) noexcept nogil
cdef void pause_ended(HeapState* h, const PauseRecord* pause) noexcept nogil
