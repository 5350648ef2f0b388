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
from gcheap.core.assemble cimport assemble_unit, fix_black_unit
from gcheap.core.failpoint cimport (
    FP_COMPACTOR_ASSEMBLED, FP_COMPACTOR_CLAIMED, FP_COMPACTOR_PLACED, FP_MUTATOR_ASSEMBLED,
    FP_MUTATOR_CLAIMED, FP_MUTATOR_PLACED, failpoint)
from gcheap.core.layout cimport (
    ASSEMBLED, BACKEND_MOVE, BACKEND_STW, HeapState, MutatorState, PLACED, PLACING,
    UNCLAIMED, word)
from gcheap.core.native cimport add64_relaxed, load32_relaxed
from gcheap.core.place cimport place
from gcheap.core.units cimport (
    claim, give_back, publish, release_evacuated, set_state, state_of, take_one, take_run,
    wait_placed)
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef enum:
    PAGE_TABLE_BYTES = 2 << 20


cdef inline word unit_address(HeapState* h, uint64_t unit) noexcept nogil:
    return h.r.to_base + (unit << h.unit_shift)


cdef inline word black_source(HeapState* h, uint64_t unit) noexcept nogil:
    """Where a whole-moved unit stands in from-space."""
    return h.r.from_base + h.r.tams_bytes + ((unit - h.r.slid_units) << h.unit_shift)


cdef uint64_t batch_limit(HeapState* h, uint64_t unit) noexcept nogil:
    """Units from `unit` that one batch may hold."""
    cdef uint64_t per_table = PAGE_TABLE_BYTES >> h.unit_shift
    cdef uint64_t end = h.r.slid_units if unit < h.r.slid_units else h.r.units
    cdef uint64_t n = min(end - unit, <uint64_t>h.batch_units)
    if per_table > 1:
        n = min(n, per_table - unit % per_table)
    return n


cdef uint64_t slide_batch(HeapState* h, uint64_t unit) noexcept nogil:
    """Assembles and places units from `unit` on; returns the first one not looked at."""
    cdef uint64_t want = batch_limit(h, unit), n = 0, i = 0
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
    while i < want and claim(h, unit + i):
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
    if h.r.backend != BACKEND_STW:
        place(h, unit_address(h, unit), buffer, i << h.unit_shift, False)
        if recycled:
            add64_relaxed(&h.recycled_bytes, i << h.unit_shift)
    publish(h, unit, i)
    failpoint(FP_COMPACTOR_PLACED)
    return unit + i


cdef uint64_t black_batch(HeapState* h, uint64_t unit) noexcept nogil:
    """Fixes and moves whole units from `unit` on; returns the first one not looked at."""
    cdef uint64_t want = batch_limit(h, unit), i = 0
    cdef word source = black_source(h, unit)
    while i < want and claim(h, unit + i):
        failpoint(FP_COMPACTOR_CLAIMED)
        fix_black_unit(h, ((source - h.r.from_base) >> h.unit_shift) + i)
        set_state(h, unit + i, 1, ASSEMBLED)
        i += 1
        if load32_relaxed(&h.r.waiters):
            break
    if i == 0:
        return unit + 1
    failpoint(FP_COMPACTOR_ASSEMBLED)
    set_state(h, unit, i, PLACING)
    if h.r.backend == BACKEND_STW:
        memcpy(<void*>unit_address(h, unit), <void*>source, i << h.unit_shift)
    else:
        place(h, unit_address(h, unit), source, i << h.unit_shift, True)
    publish(h, unit, i)
    failpoint(FP_COMPACTOR_PLACED)
    return unit + i


cdef void compact(HeapState* h) noexcept nogil:
    """Builds every unit that nobody else has built; returns when all are PLACED."""
    cdef uint64_t unit = 0, i
    while unit < h.r.units:
        if state_of(h, unit) != UNCLAIMED:
            unit += 1
        elif unit < h.r.slid_units:
            unit = slide_batch(h, unit)
            if h.r.backend != BACKEND_MOVE:
                release_evacuated(h, False)
        else:
            unit = black_batch(h, unit)
    for i in range(h.r.units):
        if state_of(h, i) != PLACED:
            wait_placed(h, i)


cdef void build_unit(HeapState* h, MutatorState* m, uint64_t unit) noexcept nogil:
    """Builds one unit that a faulting mutator has claimed (I4)."""
    cdef word buffer = m.bounce, source
    cdef bint recycled = False
    failpoint(FP_MUTATOR_CLAIMED)
    if unit < h.r.slid_units:
        if h.r.backend == BACKEND_MOVE:
            recycled = take_one(h, &buffer)
            if recycled:
                add64_relaxed(&h.recycled_bytes, h.unit_bytes)
        assemble_unit(h, unit, buffer)
        source = buffer
    else:
        source = black_source(h, unit)
        fix_black_unit(h, (source - h.r.from_base) >> h.unit_shift)
    set_state(h, unit, 1, ASSEMBLED)
    failpoint(FP_MUTATOR_ASSEMBLED)
    set_state(h, unit, 1, PLACING)
    place(h, unit_address(h, unit), source, h.unit_bytes, unit >= h.r.slid_units)
    publish(h, unit, 1)
    failpoint(FP_MUTATOR_PLACED)
