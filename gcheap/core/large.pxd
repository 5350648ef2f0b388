"""Large objects: spaces of their own, tables instead of live bits.  See large.pyx."""
from gcheap.core.layout cimport (
    HeapState, LARGE_SPACES, LargeSpace, MutatorState, ShapeInfo, word)
from gcheap.core.native cimport load32_relaxed, prefetch_read
from libc.stdint cimport uint32_t, uint64_t

cdef bint large_room(HeapState* h, uint64_t nbytes) noexcept nogil
cdef int take_large(HeapState* h, MutatorState* m, uint64_t nbytes, uint32_t shape,
                    word* at) noexcept nogil
cdef void begin_large(HeapState* h) noexcept nogil
cdef void bound_large(HeapState* h) noexcept nogil
cdef void plan_large(HeapState* h) noexcept nogil
cdef void flip_large(HeapState* h) noexcept nogil
cdef void stay_large(HeapState* h) noexcept nogil
cdef void adopt_black(LargeSpace* s) noexcept nogil
cdef ShapeInfo* grain_slots(HeapState* h, LargeSpace* s, uint64_t source, uint64_t* begin,
                            uint64_t* end) noexcept nogil
cdef void fix_grain(HeapState* h, LargeSpace* s, uint64_t source) noexcept nogil


cdef inline LargeSpace* large_space(HeapState* h, word address) noexcept nogil:
    """The large space whose current half (from Mark Start to the flip: from-space) holds
    `address`; NULL when none does."""
    cdef int i
    for i in range(LARGE_SPACES):
        if address - h.large[i].base[h.current] < h.large[i].half_bytes:
            return &h.large[i]
    return NULL


cdef inline bint large_reached(HeapState* h, word obj) noexcept nogil:
    """Whether a large object is marked or black; true of an address that is no large object's.

    Relaxed: only markers write; a mutator that sees an old value logs once too often.
    """
    cdef LargeSpace* s = large_space(h, obj)
    cdef uint64_t grain
    if s == NULL:
        return True
    grain = (obj - s.base[h.current]) >> s.shift
    return (grain >= s.tams
            or load32_relaxed(&s.runs[h.current][grain].epoch) == load32_relaxed(&h.epoch))


cdef inline word forward_large(HeapState* h, word address) noexcept nogil:
    """`plan.forward` for what lies in no small-object half: large objects by their table, black
    ones by a shift; any other address is its own."""
    cdef LargeSpace* s
    cdef uint64_t grain
    cdef int i
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        grain = (address - s.from_base) >> s.shift
        if grain < s.tams:
            return s.to_base + (<uint64_t>s.from_runs[grain].other << s.shift)
        if grain < s.from_grains:
            return s.to_base + ((grain + s.black_shift) << s.shift)
    return address


cdef inline void fetch_large(HeapState* h, word address) noexcept nogil:
    """Prefetches what forward_large() is going to read for `address`."""
    cdef LargeSpace* s
    cdef uint64_t grain
    cdef int i
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        grain = (address - s.from_base) >> s.shift
        if grain < s.tams:
            prefetch_read(&s.from_runs[grain])


cdef inline uint64_t source_grain(LargeSpace* s, uint64_t grain) noexcept nogil:
    """Where the contents of to-space grain `grain` stand in from-space."""
    return s.to_runs[grain].other if grain < s.slid else grain - s.black_shift


cdef inline word grain_address(LargeSpace* s, word base, uint64_t grain) noexcept nogil:
    return base + (grain << s.shift)
