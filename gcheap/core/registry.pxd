"""Every HeapState of this process.  See registry.pyx."""
from gcheap.core.layout cimport HeapState

cdef void enlist_heap(HeapState* h) noexcept nogil
cdef void strike_heap(HeapState* h) noexcept nogil
cdef void lock_heaps() noexcept nogil
cdef void unlock_heaps() noexcept nogil
cdef HeapState* first_heap() noexcept nogil             # under lock_heaps; then h.next_live
cdef HeapState* last_heap() noexcept nogil              # under lock_heaps; then h.previous_live
