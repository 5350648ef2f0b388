"""Units of to-space and chunks of from-space: the protocol of relocation.  See units.pyx."""
from gcheap.core.layout cimport HeapState, UNCLAIMED, ASSEMBLING, word
from gcheap.core.native cimport cas8, load8_acquire
from libc.stdint cimport uint8_t, uint64_t

cdef void set_state(HeapState* h, uint64_t unit, uint64_t count, uint8_t state) noexcept nogil
cdef void publish(HeapState* h, uint64_t unit, uint64_t count) noexcept nogil
cdef void wait_placed(HeapState* h, uint64_t unit) noexcept nogil
cdef uint64_t take_run(HeapState* h, uint64_t want, word* at) noexcept nogil
cdef bint take_one(HeapState* h, word* at) noexcept nogil
cdef void give_back(HeapState* h, word at, uint64_t count) noexcept nogil
cdef void release_evacuated(HeapState* h, bint all) noexcept nogil


cdef inline bint claim(HeapState* h, uint64_t unit) noexcept nogil:
    """The one transition that threads compete for (I2)."""
    return cas8(&h.states[unit], UNCLAIMED, ASSEMBLING)


cdef inline uint8_t state_of(HeapState* h, uint64_t unit) noexcept nogil:
    # Acquire: who sees PLACED sees the pages.
    return load8_acquire(&h.states[unit])
