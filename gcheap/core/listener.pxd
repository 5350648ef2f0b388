"""Telling an embedder of pauses and phases: one listener a heap, set before a thread attaches.

What it may do where is stated with `gc_listener` in gcheap.h.  Nobody listening costs a load and a
branch in the slow paths that tell, and nothing elsewhere.
"""
from gcheap.core.layout cimport Event, HeapState, MutatorState
from gcheap.core.native cimport load64_acquire, unlikely
from gcheap.core.records cimport PauseRecord
from libc.stdint cimport uint32_t, uint64_t


cdef inline bint listening(HeapState* h) noexcept nogil:
    # Acquire: who sees the listener sees its data.
    return unlikely(load64_acquire(<uint64_t*>&h.listener) != 0)


cdef inline void tell(HeapState* h, uint32_t kind, const PauseRecord* pause) noexcept nogil:
    """Of a pause, or of the cycle that `pause` was the last one of."""
    cdef Event event
    if listening(h):
        event.kind = kind
        event.pause = pause.kind
        event.cycle = pause.cycle
        event.mutator = NULL
        h.listener(h.listener_data, h, &event)


cdef inline void tell_of(MutatorState* m, uint32_t kind) noexcept nogil:
    """Of a mutator, on its own thread."""
    cdef Event event
    if listening(m.heap):
        event.kind = kind
        event.pause = 0
        event.cycle = 0
        event.mutator = m
        m.heap.listener(m.heap.listener_data, m.heap, &event)
