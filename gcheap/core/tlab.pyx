"""Handing out: capacity, the units of TLABs, and what a mutator has allocated.

`used` counts bytes of objects as `capacity` does: whole TLABs when they are handed out, large
objects by their size; a cycle replaces what it marked by the exact live bytes.
"""
from gcheap.core.failpoint cimport (
    FP_MEMORY_POPULATE, FP_TLAB_REFILL, FP_TLAB_TAKEN, failpoint)
from gcheap.core.layout cimport HeapState, MutatorState, word
from gcheap.core.lockfree cimport bump_below
from gcheap.core.native cimport (
    add64_relaxed, fence_seq, load32_acquire, load32_relaxed, load64_relaxed, sleep_ns,
    store32_relaxed, store32_release, store64_relaxed, sub64_relaxed)
from gcheap.core.pacing cimport ask_when_due
from libc.stdint cimport uint32_t, uint64_t
from posix.mman cimport madvise

cdef enum:
    MADV_POPULATE_WRITE = 23    # libc headers older than 2.35 lack it
    SEQLOCK_TRIES = 1000
    SEQLOCK_NS = 20000


cdef bint small_room(HeapState* h) noexcept nogil:
    """Whether another TLAB finds a place now."""
    return load64_relaxed(&h.top) + h.tlab_bytes <= load64_relaxed(&h.alloc_limit)


cdef int charge(HeapState* h, uint64_t count) noexcept nogil:
    """Counts bytes of objects as used, if capacity allows it."""
    cdef uint64_t seen
    return TAKEN if bump_below(&h.used, count, &h.capacity, &seen) else NO_ROOM


cdef void discharge(HeapState* h, uint64_t count) noexcept nogil:
    sub64_relaxed(&h.used, count)


cdef int take_units(HeapState* h, uint64_t nbytes, word* at) noexcept nogil:
    """A TLAB's units at the top of the current half, charged to `used`.

    Lock-free; called by running mutators, so that no flip can happen meanwhile, and
    alloc_limit changes only inside a pause.  Relaxed: the memory itself is handed over by
    the pause that made it available.
    """
    cdef uint64_t seen
    if charge(h, nbytes) != TAKEN:
        return NO_ROOM
    if not bump_below(&h.top, nbytes, &h.alloc_limit, &seen):
        discharge(h, nbytes)
        return NO_ROOM
    ask_when_due(h, seen + nbytes + load64_relaxed(&h.headroom) > load64_relaxed(&h.alloc_limit))
    at[0] = h.base[h.current] + seen
    add64_relaxed(&h.handed_out, nbytes)
    return TAKEN


cdef void set_tlab(MutatorState* m, word top, word end, word limit) noexcept nogil:
    """Replaces a mutator's place of allocation, and accounts what it allocated in the old one.
    stats() of another thread may be reading: a seqlock."""
    store32_relaxed(&m.tlab_changes, m.tlab_changes + 1)
    fence_seq()
    store64_relaxed(&m.allocated, m.allocated + (m.tlab_top - m.tlab_start))
    store64_relaxed(&m.tlab_start, top)
    store64_relaxed(&m.tlab_top, top)
    m.tlab_end = end
    m.tlab_limit = limit
    store32_release(&m.tlab_changes, m.tlab_changes + 1)


cdef uint64_t allocated_by(MutatorState* m) noexcept nogil:
    """Bytes of objects a mutator has allocated; from any thread."""
    cdef uint32_t seen, tries = 0
    cdef uint64_t nbytes
    while True:
        tries += 1
        if tries % SEQLOCK_TRIES == 0:
            sleep_ns(SEQLOCK_NS)        # the mutator may need this processor to get on
        seen = load32_acquire(&m.tlab_changes)
        nbytes = load64_relaxed(&m.allocated) + (
            load64_relaxed(&m.tlab_top) - load64_relaxed(&m.tlab_start))
        fence_seq()
        if not seen & 1 and load32_relaxed(&m.tlab_changes) == seen:
            return nbytes


cdef int take_tlab(HeapState* h, MutatorState* m) noexcept nogil:
    """Gives a mutator its next unit: the rest of its TLAB first, then a new TLAB."""
    cdef word at
    if m.tlab_end < m.tlab_limit:
        set_tlab(m, m.tlab_end, m.tlab_end + h.unit_bytes, m.tlab_limit)
        return TAKEN
    failpoint(FP_TLAB_REFILL)
    if take_units(h, h.tlab_bytes, &at) != TAKEN:
        return NO_ROOM
    failpoint(FP_TLAB_TAKEN)
    # One call instead of a page fault per page; where it is unknown (before Linux 5.14) the
    # faults do the same work.
    if failpoint(FP_MEMORY_POPULATE) == 0:
        madvise(<void*>at, h.tlab_bytes, MADV_POPULATE_WRITE)
    set_tlab(m, at, at + h.unit_bytes, at + h.tlab_bytes)
    return TAKEN


cdef void retire_tlab(MutatorState* m) noexcept nogil:
    """Takes a mutator's TLAB away; what was not used of it stays zero."""
    set_tlab(m, 0, 0, 0)
