"""Units of to-space and chunks of from-space: the protocol of relocation.  See units.pyx."""
from gcheap.core.layout cimport (
    ASSEMBLING, BACKEND_STW, HeapState, LARGE_SPACES, LargeSpace, UNCLAIMED, word)
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


cdef inline bint is_registered(HeapState* h, word address) noexcept nogil:
    """Whether `address` lies in a range of to-space that this relocation has registered.

    After the flip.  What was registered before REGISTER was refused is not any more: a stranger's
    fault of that moment must not be served, by units that are built without protection.
    """
    cdef int i
    if h.r.backend == BACKEND_STW:
        return False
    if address - h.r.to_base < h.r.registered_bytes:
        return True
    for i in range(LARGE_SPACES):
        if address - h.large[i].to_base < h.large[i].registered << h.large[i].shift:
            return True
    return False


cdef inline uint64_t unit_at(HeapState* h, word address, word* end) noexcept nogil:
    """The unit (or, as an index into `states`, the grain of a large space) that holds a
    registered address; `end` is where the planned ones of that space end."""
    cdef LargeSpace* s
    cdef int i
    if address - h.r.to_base < h.r.registered_bytes:
        end[0] = h.r.to_base + (h.r.units << h.unit_shift)
        return (address - h.r.to_base) >> h.unit_shift
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        if address - s.to_base < s.registered << s.shift:
            break
    end[0] = s.to_base + (s.grains << s.shift)
    return s.first_state + ((address - s.to_base) >> s.shift)


cdef inline uint64_t unit_size(HeapState* h, uint64_t unit) noexcept nogil:
    """Bytes of a unit, or of a grain, by its index into `states`."""
    cdef int i = LARGE_SPACES - 1
    if unit < h.half_units:
        return h.unit_bytes
    while unit < h.large[i].first_state:
        i -= 1
    return <uint64_t>1 << h.large[i].shift
