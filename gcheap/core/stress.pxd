"""Stress modes: cycles at every n-th allocation, slow placements.  See stress.pyx."""
from gcheap.core.layout cimport HeapState, MutatorState
from gcheap.core.native cimport sleep_ns, unlikely
from libc.stdint cimport uint64_t

cdef uint64_t cycle_due(MutatorState* m) noexcept nogil
cdef void wait_for_flip(HeapState* h, uint64_t ticket) noexcept nogil


cdef inline void show_tlab(MutatorState* m) noexcept nogil:
    """The slow path needs to know where the TLAB's unit ends.  A TLAB that a pause has retired
    since (top is 0) has no end to show."""
    if m.tlab_top:
        m.tlab_end = m.tlab_hidden


cdef inline void hide_tlab(MutatorState* m) noexcept nogil:
    """To inline allocation the TLAB is full."""
    m.tlab_hidden = m.tlab_end
    m.tlab_end = m.tlab_top


cdef inline void delay_placement(HeapState* h) noexcept nogil:
    """Async-signal-safe (I4): faulting mutators come here."""
    if unlikely(h.stress.place_delay_ns != 0):
        sleep_ns(h.stress.place_delay_ns)
