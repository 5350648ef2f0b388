"""What runs a heap: its descriptor and its threads.  See engine.pyx for the protocol."""
from gcheap.core.layout cimport HeapState

cdef void start_engine(HeapState* h) noexcept nogil     # HeapState.start_engine
cdef void await_start(HeapState* h) noexcept nogil      # for a fork that has set `hold`
cdef void resume_start(HeapState* h) noexcept nogil     # when that fork is over
cdef void end_engine(HeapState* h) noexcept nogil
