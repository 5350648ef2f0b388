"""Recording what happened: log-linear histograms, and rings of pause and cycle records."""
from gcheap.core.native cimport count_leading_zeros, load64_relaxed, store64_relaxed
from gcheap.core.records cimport (
    CycleRecord, Events, HISTOGRAM_SLOTS, Histogram, PauseRecord, PhaseRecord, StallRecord)
from libc.stdint cimport uint64_t


cdef inline uint64_t hist_slot(uint64_t value) noexcept nogil:
    """Values below 2048 have a slot each; above, every power of two is cut in 1024.

    The layout of HdrHistogram (G. Tene) at 3 significant digits, as a flat array.
    """
    cdef uint64_t bucket
    if value < 2048:
        return value
    bucket = 53 - count_leading_zeros(value)      # msb - 10
    return bucket * 1024 + (value >> bucket)


cdef inline uint64_t hist_upper(uint64_t slot) noexcept nogil:
    """The greatest value that falls into `slot`."""
    cdef uint64_t bucket
    if slot < 2048:
        return slot
    bucket = slot // 1024 - 1
    return ((slot - bucket * 1024 + 1) << bucket) - 1


cdef inline void hist_record(Histogram* h, uint64_t value) noexcept nogil:
    """Adds one value.  One writer; relaxed, so that another thread may read meanwhile."""
    cdef uint64_t slot = hist_slot(value)
    if slot >= HISTOGRAM_SLOTS:
        slot = HISTOGRAM_SLOTS - 1
    store64_relaxed(&h.counts[slot], h.counts[slot] + 1)
    store64_relaxed(&h.count, h.count + 1)
    store64_relaxed(&h.total, h.total + value)
    if value > h.max:
        store64_relaxed(&h.max, value)


cdef inline void hist_add(Histogram* into, const Histogram* h) noexcept nogil:
    """Merges `h` (which its owner may be writing) into a private histogram."""
    cdef uint64_t i, n
    for i in range(HISTOGRAM_SLOTS):
        n = load64_relaxed(&h.counts[i])
        if n:
            into.counts[i] += n
            into.count += n
    into.total += load64_relaxed(&h.total)
    if load64_relaxed(&h.max) > into.max:
        into.max = load64_relaxed(&h.max)


cdef Histogram* new_histogram() noexcept nogil          # NULL when memory is out; free() it
cdef void record_pause(Events* events, const PauseRecord* record) noexcept nogil
cdef void record_start(Events* events, const CycleRecord* record) noexcept nogil
cdef void record_cycle(Events* events, const CycleRecord* record) noexcept nogil
cdef void record_phase(Events* events, const PhaseRecord* record) noexcept nogil
cdef void record_stall(Events* events, const StallRecord* record) noexcept nogil
cdef uint64_t copy_since(const void* ring, uint64_t written, uint64_t size, uint64_t* seen,
                         void* into, uint64_t room, uint64_t* lost) noexcept nogil
# The last records, oldest first, into an array of RECORDS; both return how many.
cdef uint64_t copy_pauses(Events* events, void* into) noexcept nogil
cdef uint64_t copy_cycles(Events* events, void* into) noexcept nogil
cdef bint find_cycle(Events* events, uint64_t cycle, CycleRecord* into) noexcept nogil
cdef uint64_t find_pauses(Events* events, uint64_t cycle, PauseRecord* into,
                          uint64_t room) noexcept nogil
