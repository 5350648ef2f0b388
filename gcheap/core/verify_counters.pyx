"""Verification, level 1: counters and states that must agree, in time per unit, never per object.

What is compared was counted in different places, so that an update that got lost or was made
twice shows: bytes that pages were placed for against units planned, bytes by ioctl against pages
by ioctl, what mutators say they allocated against what was handed out to them, the chains of
free handles against the links that say which are free.
"""
from gcheap.core.layout cimport (
    BACKEND_STW, CHUNK_IN_USE, HANDLE_DROPPED, HeapState, LARGE_SPACES, LargeSpace, MutatorState,
    PLACED, RUNNING)
from gcheap.core.native cimport (
    check_that, load32_acquire, load32_relaxed, load64_relaxed, load8_acquire,
    sleep_ns)
from gcheap.core.records cimport IOCTL_COPY, IOCTL_MOVE
from gcheap.core.roots cimport handle_link
from gcheap.core.tlab cimport allocated_by
from gcheap.core.units cimport state_of
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    ENTERED_NS = 10000
    ENTERING_LOOKS = 1000000    # ten seconds of sleep at least; a stop of this process is none


cdef void check_placed(HeapState* h) noexcept nogil:
    """Compaction has returned: no unit is missing (I6)."""
    cdef LargeSpace* s
    cdef uint64_t i
    cdef int k
    for i in range(h.r.units):
        check_that(state_of(h, i) == PLACED, b"verify: a unit was never placed (unit, state)", i,
                   state_of(h, i))
    for k in range(LARGE_SPACES):
        s = &h.large[k]
        for i in range(s.grains):
            check_that(state_of(h, s.first_state + i) == PLACED,
                       b"verify: a grain of a large object was never placed (grain, state)", i,
                       state_of(h, s.first_state + i))


cdef void check_sources(HeapState* h) noexcept nogil:
    """Nothing reads from-space any more (I3), and every page went somewhere.  In a pause: a
    mutator counts its readers down after its unit is PLACED."""
    cdef uint64_t i, placed, planned = h.r.units << h.unit_shift
    cdef int k
    for i in range(h.r.chunks):
        check_that(load32_acquire(&h.readers[i]) == 0,
                   b"verify: a chunk still has readers (chunk, readers)", i, h.readers[i])
        check_that(load8_acquire(&h.chunk_states[i]) != CHUNK_IN_USE,
                   b"verify: a chunk was never freed (chunk, state)", i, h.chunk_states[i])
    if h.r.backend != BACKEND_STW:
        for k in range(LARGE_SPACES):
            planned += h.large[k].grains << h.large[k].shift
        placed = (load64_relaxed(&h.moved_bytes) + load64_relaxed(&h.copied_bytes)
                  + load64_relaxed(&h.skipped_bytes) - h.verification.placed_before)
        check_that(placed >= planned,
                   b"verify: fewer bytes were placed than planned (placed, planned)", placed,
                   planned)


cdef bint stands_still(MutatorState* m) noexcept nogil:
    """Whether a mutator is not RUNNING in a pause.  One that enters the heap is, until it has
    looked whether there is a pause: it touches nothing meanwhile, and is waited for."""
    cdef uint64_t looks = 0
    while load32_acquire(&m.run) == RUNNING:
        # Looks, not time: after SIGSTOP the clock has gone on, and that thread has not.
        if looks == ENTERING_LOOKS:
            return False
        looks += 1
        sleep_ns(ENTERED_NS)
    return True


cdef void check_allocation(HeapState* h) noexcept nogil:
    """The world is stopped, so no allocation is half done."""
    cdef uint64_t used = load64_relaxed(&h.used), top = load64_relaxed(&h.top)
    cdef uint64_t live = load64_relaxed(&h.live_bytes), handed = load64_relaxed(&h.handed_out)
    cdef uint64_t allocated = h.retired.allocated, at
    cdef MutatorState* m = h.mutators
    check_that(live <= used, b"verify: more is live than used (live, used)", live, used)
    check_that(used <= h.capacity, b"verify: more is used than the capacity (used, capacity)", used,
               h.capacity)
    check_that(used <= handed, b"verify: more is used than was handed out (used, handed out)", used,
               handed)
    check_that(top % h.unit_bytes == 0 and top <= h.alloc_limit and h.alloc_limit <= h.half_bytes,
               b"verify: the top lies outside the half (top, limit)", top, h.alloc_limit)
    check_that(h.marking == 0, b"verify: the barrier is on between cycles (marking, phase)",
               h.marking, h.phase)
    while m != NULL:
        check_that(stands_still(m), b"verify: a mutator runs in a pause (thread)", m.thread_id, 0)
        at = m.tlab_top - h.base[h.current]
        check_that(m.tlab_top <= m.tlab_end and m.tlab_end <= m.tlab_limit and (
                       m.tlab_top == 0 or (at <= top and m.tlab_limit - m.tlab_top <= top - at)),
                   b"verify: a TLAB lies outside the objects (top, end)", m.tlab_top, m.tlab_end)
        allocated += allocated_by(m)
        m = m.next
    check_that(allocated <= handed,
               b"verify: more was allocated than handed out (allocated, handed out)", allocated,
               handed)


cdef uint64_t chain_length(HeapState* h, uint32_t first) noexcept nogil:
    """Handles on a chain of free ones.  Whoever drops meanwhile pushes before its head."""
    cdef uint32_t high = load32_acquire(&h.handle_high), link
    cdef uint64_t n = 0
    while first:
        check_that(first < high, b"verify: a free handle does not exist (handle, handles)", first,
                   high)
        link = load32_acquire(handle_link(h, first))
        check_that(link & HANDLE_DROPPED,
                   b"verify: a handle in use is on a free chain (handle, link)", first, link)
        n += 1
        check_that(n < high, b"verify: a chain of free handles has no end (handle, length)", first,
                   n)
        first = link & ~<uint32_t>HANDLE_DROPPED
    return n


cdef void check_handles(HeapState* h) noexcept nogil:
    cdef uint64_t i, chained, free = 0
    cdef uint32_t high
    cdef MutatorState* m = h.mutators
    # The chains first: a handle that is dropped meanwhile is free before it is chained.
    chained = chain_length(h, load32_acquire(&h.handle_dropped))
    while m != NULL:
        chained += chain_length(h, m.handle_free)
        m = m.next
    high = load32_acquire(&h.handle_high)
    for i in range(1, high):
        if load32_relaxed(handle_link(h, <uint32_t>i)) & HANDLE_DROPPED:
            free += 1
    check_that(chained <= free, b"verify: a free handle is on two chains (chained, free)", chained,
               free)


cdef void check_ioctls(HeapState* h) noexcept nogil:
    """Bytes and pages are counted apart.  (Holes may be zeroed by threads that no pause stops.)"""
    cdef int move = IOCTL_MOVE, copy = IOCTL_COPY
    cdef uint64_t pages = load64_relaxed(&h.ioctls[move].pages)
    check_that(pages * h.page == load64_relaxed(&h.moved_bytes),
               b"verify: pages and bytes moved differ (pages, bytes)", pages, h.moved_bytes)
    pages = load64_relaxed(&h.ioctls[copy].pages)
    check_that(pages * h.page == load64_relaxed(&h.copied_bytes),
               b"verify: pages and bytes copied differ (pages, bytes)", pages, h.copied_bytes)


cdef void check_large_tops(HeapState* h) noexcept nogil:
    cdef LargeSpace* s
    cdef int i
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        check_that(s.top <= s.limit and s.limit <= s.half_grains,
                   b"verify: the top of large objects lies outside the half (top, limit)", s.top,
                   s.limit)


cdef void check_counters(HeapState* h, bint relocated) noexcept nogil:
    """Inside a pause after a cycle that relocated, or did not."""
    cdef uint64_t i
    check_allocation(h)
    check_large_tops(h)
    check_handles(h)
    check_ioctls(h)
    if not relocated:
        return
    check_sources(h)
    for i in range(h.r.slid_units):
        check_that(h.plan[i].straddle.words <= h.unit_words
                   and (h.plan[i].straddle.slots == 0
                        or h.plan[i].straddle.skip + h.plan[i].straddle.slots
                        <= h.plan[i].straddle.words),
                   b"verify: more was planned into a unit than it holds (unit, words)", i,
                   h.plan[i].straddle.words)
