"""Tracing: what threads do, in rings of their own.  See trace.pyx."""
from gcheap.core.layout cimport HeapState, MutatorState
from gcheap.core.native cimport clock_ns, load32_relaxed, unlikely
from gcheap.core.records cimport TraceEvent, TraceRing
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "gcheap/native/tracing_switch.h" nogil:
    bint GCHEAP_TRACING_BUILT


cdef inline bint tracing(HeapState* h) noexcept nogil:
    """Relaxed: who is late to see it records a little less, or into a ring that nobody reads."""
    return GCHEAP_TRACING_BUILT and unlikely(load32_relaxed(&h.tracing.on) != 0)


cdef inline uint64_t trace_start(HeapState* h) noexcept nogil:
    """When a slice begins; 0 while nothing is traced."""
    return clock_ns() if tracing(h) else 0


# The writers' side; each after `tracing`.
cdef void trace_slice(MutatorState* m, uint32_t kind, uint32_t detail, uint64_t amount,
                      uint64_t start) noexcept nogil
cdef void trace_inside(MutatorState* m) noexcept nogil
cdef void trace_left(MutatorState* m) noexcept nogil
cdef void trace_compactor(HeapState* h, uint32_t kind, uint32_t detail, uint64_t amount,
                          uint64_t start) noexcept nogil

cdef int trace_attached(HeapState* h, MutatorState* m) noexcept nogil       # errno
cdef void trace_detached(MutatorState* m) noexcept nogil
cdef int begin_tracing(HeapState* h) noexcept nogil                         # errno
cdef void end_tracing(HeapState* h) noexcept nogil
cdef void forget_tracing(HeapState* h) noexcept nogil
cdef void free_rings(HeapState* h) noexcept nogil

# The reader's side.
cdef uint64_t read_ring(TraceRing* ring, TraceEvent* into) noexcept nogil
cdef bint last_running(TraceRing* ring, TraceEvent* into) noexcept nogil
