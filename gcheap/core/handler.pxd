"""Fault mode `handler`: a thread of the heap serves faults.  See handler.pyx for the protocol."""
from gcheap.core.layout cimport HeapState

cdef int start_fault_server(HeapState* h) noexcept nogil        # errno
cdef void stop_fault_server(HeapState* h) noexcept nogil
cdef void forget_fault_server(HeapState* h) noexcept nogil      # in a forked child
cdef void end_faults(HeapState* h) noexcept nogil
