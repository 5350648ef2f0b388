"""Pinned arrays: raw objects whose address may be shown.  See pinned.pyx."""
from gcheap.core.layout cimport HeapState, LargeRun, MutatorState, word
from gcheap.core.native cimport load32_relaxed
from libc.stdint cimport uint32_t, uint64_t

cdef int take_pinned(HeapState* h, MutatorState* m, uint64_t nbytes, uint32_t shape,
                     uint64_t length, word* at) noexcept nogil       # TakeResult
cdef void sweep_pinned(HeapState* h) noexcept nogil


cdef inline bint is_pinned(HeapState* h, word address) noexcept nogil:
    return address - h.pinned.base < h.pinned.nbytes


cdef inline LargeRun* pinned_run(HeapState* h, word address) noexcept nogil:
    """The entry of the page at `address`, which is pinned."""
    return &h.pinned.runs[(address - h.pinned.base) >> h.pinned.shift]


cdef inline uint64_t pinned_charge(HeapState* h, uint64_t nbytes) noexcept nogil:
    """What capacity counts of a pinned object: whole pages, which is what it takes."""
    return (nbytes + h.page - 1) & ~(h.page - 1)


cdef inline bint pinned_reached(HeapState* h, word obj) noexcept nogil:
    """Whether a pinned object is marked, or was made since Mark Start; true of any other."""
    return (not is_pinned(h, obj)
            or load32_relaxed(&pinned_run(h, obj).epoch) == load32_relaxed(&h.epoch))
