"""The log of the write barrier.  See satb.pyx."""
from gcheap.core.layout cimport HeapState, MutatorState, SatbBuffer, word

cdef void log_old(MutatorState* m, word obj, word old) noexcept nogil
cdef void log_target(MutatorState* m, word target) noexcept nogil
cdef void hand_over(MutatorState* m) noexcept nogil
cdef SatbBuffer* take_full(HeapState* h) noexcept nogil
cdef void discard_log(HeapState* h) noexcept nogil
