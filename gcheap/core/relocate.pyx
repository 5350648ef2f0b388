"""Concurrent relocation: the compactor's walk over to-space, and one unit for a mutator.

The compactor claims units in address order and places them in batches: a MOVE costs one TLB
shootdown per ioctl, not per page, so the more pages go at once the better.  A batch ends

* when it has `batch_units`, or the destination's page table ends (one flush serves a range
  only while source and destination each stay within one page table),
* at a unit that a mutator has claimed,
* when its run of buffer chunks ends,
* as soon as anybody waits for a unit: a waiter pays for the rest of no batch.

Buffers are evacuated chunks; before there are any, the staging area, whose pages fault in
afresh each time a MOVE has taken them.  Under stw the destination itself is the buffer.
"""
from gcheap.core.assemble cimport assemble_unit, fix_black_unit, fix_dense_unit
from gcheap.core.failpoint cimport (
    FP_COMPACTOR_ARRIVED, FP_COMPACTOR_ASSEMBLED, FP_COMPACTOR_CLAIMED, FP_COMPACTOR_PLACED,
    FP_COMPACTOR_PLACING, FP_MUTATOR_ARRIVED, FP_MUTATOR_ASSEMBLED, FP_MUTATOR_CLAIMED,
    FP_MUTATOR_PLACED, FP_MUTATOR_PLACING, failpoint)
from gcheap.core.large cimport adopt_black, fix_grain, grain_address, source_grain
from gcheap.core.layout cimport (
    ASSEMBLED, BACKEND_MOVE, BACKEND_STW, HeapState, LARGE_HUGE, LARGE_SPACES, LargeSpace,
    MutatorState, PLACED, PLACED_BY_MUTATOR, PLACING, UNCLAIMED, WORD, word)
from gcheap.core.native cimport add64_relaxed, load32_relaxed, store8_relaxed
from gcheap.core.place cimport BY_COMPACTOR, BY_MUTATOR, OF_LARGE, place
from gcheap.core.records cimport BATCH_LARGE, BATCH_SLIDE, BATCH_WHOLE, TRACE_BATCH, TRACE_PLACE
from gcheap.core.residency cimport close_pagemap, first_pages, open_pagemap
from gcheap.core.space cimport release_pages
from gcheap.core.trace cimport trace_compactor, trace_start, tracing
from gcheap.core.units cimport (
    claim, give_back, publish, release_evacuated, set_state, state_of, take_one, take_run,
    wait_placed)
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    PAGE_TABLE_BYTES = 2 << 20
    HUGE_BATCH = 16 << 20       # of small pages it takes 0.3 ms, of huge ones almost nothing


cdef inline word unit_address(HeapState* h, uint64_t unit) noexcept nogil:
    return h.r.to_base + (unit << h.unit_shift)


cdef inline bint moves_whole(HeapState* h, uint64_t unit) noexcept nogil:
    """Whether a unit is a chunk of from-space as it stands: black, or part of a dense run."""
    return unit >= h.r.slid_units or h.plan[unit].whole


cdef inline word whole_source(HeapState* h, uint64_t unit) noexcept nogil:
    """Where a whole-moved unit stands in from-space."""
    if unit < h.r.slid_units:
        return h.r.from_base + h.plan[unit].first * WORD
    return h.r.from_base + h.r.tams_bytes + ((unit - h.r.slid_units) << h.unit_shift)


cdef inline void fix_whole(HeapState* h, uint64_t unit) noexcept nogil:
    if unit < h.r.slid_units:
        fix_dense_unit(h, unit)
    else:
        fix_black_unit(h, (whole_source(h, unit) - h.r.from_base) >> h.unit_shift)


cdef uint64_t batch_limit(HeapState* h, uint64_t unit) noexcept nogil:
    """Units from `unit` that one batch may hold."""
    cdef uint64_t per_table = PAGE_TABLE_BYTES >> h.unit_shift
    cdef uint64_t end = h.r.slid_units if unit < h.r.slid_units else h.r.units
    cdef uint64_t n = min(end - unit, <uint64_t>h.batch_units)
    if per_table > 1:
        n = min(n, per_table - unit % per_table)
    return n


cdef void place_batch(HeapState* h, word dst, word src, uint64_t nbytes, bint holes,
                      uint32_t site, uint32_t what) noexcept nogil:
    """The compactor's own way to `place`: traced."""
    cdef uint64_t started = trace_start(h)
    place(h, dst, src, nbytes, holes, site)
    if tracing(h):
        trace_compactor(h, TRACE_PLACE, what, nbytes // h.page, started)


cdef uint64_t slide_batch(HeapState* h, uint64_t unit) noexcept nogil:
    """Assembles and places units from `unit` on; returns the first one not looked at."""
    cdef uint64_t want = batch_limit(h, unit), n = 0, i = 0
    cdef uint64_t started = trace_start(h)
    cdef word buffer = h.staging
    cdef bint recycled = False
    if h.r.backend == BACKEND_STW:
        buffer = unit_address(h, unit)
    elif h.r.backend == BACKEND_MOVE:
        n = take_run(h, want, &buffer)
        recycled = n > 0
        if recycled:
            want = n
        else:
            buffer = h.staging
    while i < want and not moves_whole(h, unit + i) and claim(h, unit + i):
        failpoint(FP_COMPACTOR_CLAIMED)
        assemble_unit(h, unit + i, buffer + (i << h.unit_shift))
        set_state(h, unit + i, 1, ASSEMBLED)
        i += 1
        # Relaxed: a hint; a waiter seen late waits one unit longer.
        if load32_relaxed(&h.r.waiters) and i < want:
            add64_relaxed(&h.batch_flushes, 1)
            break
    if recycled and i < n:
        give_back(h, buffer + (i << h.unit_shift), n - i)
    if i == 0:
        return unit + 1
    failpoint(FP_COMPACTOR_ASSEMBLED)
    set_state(h, unit, i, PLACING)
    failpoint(FP_COMPACTOR_PLACING)
    if h.r.backend != BACKEND_STW:
        place_batch(h, unit_address(h, unit), buffer, i << h.unit_shift, False, BY_COMPACTOR,
                    BATCH_SLIDE)
        if recycled:
            add64_relaxed(&h.recycled_bytes, i << h.unit_shift)
    failpoint(FP_COMPACTOR_ARRIVED)
    publish(h, unit, i)
    failpoint(FP_COMPACTOR_PLACED)
    if tracing(h):
        trace_compactor(h, TRACE_BATCH, BATCH_SLIDE, i * h.unit_pages, started)
    return unit + i


cdef uint64_t whole_batch(HeapState* h, uint64_t unit) noexcept nogil:
    """Fixes and moves whole units from `unit` on whose sources adjoin; returns the first one not
    looked at."""
    cdef uint64_t want = batch_limit(h, unit), i = 0
    cdef uint64_t started = trace_start(h)
    cdef word source = whole_source(h, unit)
    while (i < want and moves_whole(h, unit + i)
            and whole_source(h, unit + i) == source + (i << h.unit_shift) and claim(h, unit + i)):
        failpoint(FP_COMPACTOR_CLAIMED)
        fix_whole(h, unit + i)
        set_state(h, unit + i, 1, ASSEMBLED)
        i += 1
        if load32_relaxed(&h.r.waiters):
            break
    if i == 0:
        return unit + 1
    failpoint(FP_COMPACTOR_ASSEMBLED)
    set_state(h, unit, i, PLACING)
    failpoint(FP_COMPACTOR_PLACING)
    place_batch(h, unit_address(h, unit), source, i << h.unit_shift, True, BY_COMPACTOR,
                BATCH_WHOLE)
    failpoint(FP_COMPACTOR_ARRIVED)
    publish(h, unit, i)
    failpoint(FP_COMPACTOR_PLACED)
    if tracing(h):
        trace_compactor(h, TRACE_BATCH, BATCH_WHOLE, i * h.unit_pages, started)
    return unit + i


cdef void place_grains(HeapState* h, LargeSpace* s, word to, word source, uint64_t nbytes,
                       int pagemap) noexcept nogil:
    """Moves those grains that have pages.  For an empty one MOVE would make a page table, and
    where a huge page belongs small ones would be faulted in, now or when the array is filled."""
    cdef uint64_t grain = <uint64_t>1 << s.shift, at = 0, skipped
    cdef word low, high
    while at < nbytes:
        low = source + at
        high = source + nbytes
        if not first_pages(pagemap, &low, &high):
            low = high
        skipped = (low - source - at) & ~(grain - 1)
        add64_relaxed(&h.skipped_bytes, skipped)
        at += skipped
        high = min((high - source + grain - 1) & ~(grain - 1), nbytes)
        if at < high:
            place_batch(h, to + at, source + at, high - at, True, OF_LARGE, BATCH_LARGE)
        at = high


cdef uint64_t grain_batch(HeapState* h, LargeSpace* s, uint64_t grain,
                          int pagemap) noexcept nogil:
    """Fixes and moves grains from `grain` on whose sources adjoin; returns the first one not
    looked at."""
    cdef uint64_t first = source_grain(s, grain), want, i = 0, started = trace_start(h)
    cdef word to = grain_address(s, s.to_base, grain)
    cdef word source = grain_address(s, s.from_base, first)
    if (<uint64_t>1 << s.shift) >= PAGE_TABLE_BYTES:
        want = max(HUGE_BATCH >> s.shift, 1)
    else:
        want = (PAGE_TABLE_BYTES - to % PAGE_TABLE_BYTES) >> s.shift
    want = min(want, s.grains - grain)
    while (i < want and source_grain(s, grain + i) == first + i
            and claim(h, s.first_state + grain + i)):
        failpoint(FP_COMPACTOR_CLAIMED)
        fix_grain(h, s, first + i)
        set_state(h, s.first_state + grain + i, 1, ASSEMBLED)
        i += 1
        if load32_relaxed(&h.r.waiters):
            break
    if i == 0:
        return grain + 1
    failpoint(FP_COMPACTOR_ASSEMBLED)
    set_state(h, s.first_state + grain, i, PLACING)
    failpoint(FP_COMPACTOR_PLACING)
    place_grains(h, s, to, source, i << s.shift, pagemap)
    failpoint(FP_COMPACTOR_ARRIVED)
    publish(h, s.first_state + grain, i)
    if h.r.backend != BACKEND_MOVE:
        release_pages(h, source, i << s.shift)      # nobody else reads it
    failpoint(FP_COMPACTOR_PLACED)
    if tracing(h):
        trace_compactor(h, TRACE_BATCH, BATCH_LARGE, (i << s.shift) // h.page, started)
    return grain + i


cdef void compact_large(HeapState* h) noexcept nogil:
    """Moves every grain that nobody else has moved; returns when all are PLACED."""
    cdef LargeSpace* s
    cdef uint64_t grain
    cdef int i, pagemap
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        adopt_black(s)
        grain = 0
        pagemap = open_pagemap() if i == LARGE_HUGE and s.grains else -1
        while grain < s.grains:
            if state_of(h, s.first_state + grain) != UNCLAIMED:
                grain += 1
            else:
                grain = grain_batch(h, s, grain, pagemap)
        close_pagemap(pagemap)
        for grain in range(s.grains):
            if state_of(h, s.first_state + grain) != PLACED:
                wait_placed(h, s.first_state + grain)


cdef void compact(HeapState* h) noexcept nogil:
    """Builds every unit that nobody else has built; returns when all are PLACED."""
    cdef uint64_t unit = 0, i
    while unit < h.r.units:
        if state_of(h, unit) != UNCLAIMED:
            unit += 1
            continue
        unit = whole_batch(h, unit) if moves_whole(h, unit) else slide_batch(h, unit)
        if h.r.backend != BACKEND_MOVE:
            release_evacuated(h, False)
    for i in range(h.r.units):
        if state_of(h, i) != PLACED:
            wait_placed(h, i)


cdef void build_grain(HeapState* h, LargeSpace* s, uint64_t grain) noexcept nogil:
    """Moves one grain that a faulting mutator has claimed (I4)."""
    cdef uint64_t source = source_grain(s, grain)
    failpoint(FP_MUTATOR_CLAIMED)
    fix_grain(h, s, source)
    set_state(h, s.first_state + grain, 1, ASSEMBLED)
    failpoint(FP_MUTATOR_ASSEMBLED)
    set_state(h, s.first_state + grain, 1, PLACING)
    failpoint(FP_MUTATOR_PLACING)
    place(h, grain_address(s, s.to_base, grain), grain_address(s, s.from_base, source),
          <uint64_t>1 << s.shift, True, OF_LARGE)
    failpoint(FP_MUTATOR_ARRIVED)
    publish(h, s.first_state + grain, 1)
    failpoint(FP_MUTATOR_PLACED)


cdef void build_unit(HeapState* h, MutatorState* m, uint64_t unit) noexcept nogil:
    """Builds one unit that a faulting mutator has claimed (I4)."""
    cdef word buffer = m.bounce, source
    cdef bint recycled = False
    cdef int i
    # Relaxed: PLACED, stored later with release, publishes it.
    store8_relaxed(&h.placed_by[unit], PLACED_BY_MUTATOR)
    if unit >= h.half_units:
        i = LARGE_SPACES - 1
        while unit < h.large[i].first_state:
            i -= 1
        build_grain(h, &h.large[i], unit - h.large[i].first_state)
        return
    failpoint(FP_MUTATOR_CLAIMED)
    if not moves_whole(h, unit):
        if h.r.backend == BACKEND_MOVE:
            recycled = take_one(h, &buffer)
            if recycled:
                add64_relaxed(&h.recycled_bytes, h.unit_bytes)
        assemble_unit(h, unit, buffer)
        source = buffer
    else:
        source = whole_source(h, unit)
        fix_whole(h, unit)
    set_state(h, unit, 1, ASSEMBLED)
    failpoint(FP_MUTATOR_ASSEMBLED)
    set_state(h, unit, 1, PLACING)
    failpoint(FP_MUTATOR_PLACING)
    place(h, unit_address(h, unit), source, h.unit_bytes, moves_whole(h, unit), BY_MUTATOR)
    failpoint(FP_MUTATOR_ARRIVED)
    publish(h, unit, 1)
    failpoint(FP_MUTATOR_PLACED)
