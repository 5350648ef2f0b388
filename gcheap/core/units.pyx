"""Units of to-space and chunks of from-space: the protocol of relocation.

A **unit** of to-space is built once, by whoever claims it first: the compactor, or a mutator
that touched one of its pages.

                claim           buffer full         ioctl begins     ioctl done
    UNCLAIMED -------> ASSEMBLING ---------> ASSEMBLED ---------> PLACING ------> PLACED
        |                   |                                        |              |
        |                   +--- one owner, which alone maps it (I2)-+              |
        +--- whoever loses the claim, or comes in between, waits for PLACED: -------+
             it spins, then sleeps on one of WAIT_SHARDS futex words

  Who may do what: only `claim` is contended.  All later transitions are the owner's, for one
  unit (a mutator) or for a batch that goes through them together (the compactor).  An owner
  never waits for another unit, so there is no cycle of waiting; it cannot fault on to-space,
  because assembly reads from-space and side tables only (I4).  A unit that is ASSEMBLED or
  later is never assembled again, because its slots may have been fixed in place (I7).

A **chunk** is a unit-sized, aligned piece of from-space.  `readers` counts the units that take
a live word from it and are not PLACED:

             last reader PLACED           CAS by whoever needs a buffer
    IN_USE ---------------------> FREE -------------------------------> TAKEN

  A FREE chunk is read by nobody any more (I3): its pages are the buffers for the next units.
  A MOVE takes the pages away, so a TAKEN chunk is either somebody's buffer or empty.  Under
  copy and stw nobody takes chunks: the compactor gives FREE ones back to the kernel.

Memory order: PLACED is stored with release after the ioctl, and read with acquire.  Readers
are counted down with acquire-release, so that whoever frees a chunk has seen all its reads
done.  Waiting: the waiter announces itself, re-reads the state and sleeps on the shard's
word; the owner stores PLACED, bumps the word and looks for announcements, all sequentially
consistent, so that one of the two sees the other.
"""
from gcheap.core.failpoint cimport (
    FP_RECYCLE_POP, FP_RECYCLE_PUSH, FP_UNIT_PUBLISHED, FP_UNIT_SLEEP, failpoint)
from gcheap.core.layout cimport (
    BACKEND_MOVE, CHUNK_FREE, CHUNK_TAKEN, HeapState, PLACED, WAIT_SHARDS,
    word)
from gcheap.core.native cimport (
    add32_seq, add64_relaxed, cas8, cpu_relax, futex_wait, futex_wake_all, load32_seq,
    load64_relaxed, load8_acquire, load8_relaxed, store64_relaxed, store8_release, sub32_acq_rel,
    sub32_seq, sub64_relaxed, fence_seq)
from gcheap.core.plan cimport words_before_chunk
from gcheap.core.space cimport release_pages
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    SPINS = 2000                # tens of microseconds: about what building a unit takes
    LOOK_AHEAD = 64             # chunks searched for a buffer
    MUTATOR_TRIES = 8
    RELEASE_BYTES = 8 << 20     # evacuated memory is given back in pieces of this size


# ---- units -------------------------------------------------------------------------------

cdef void set_state(HeapState* h, uint64_t unit, uint64_t count, uint8_t state) noexcept nogil:
    """The owner's own transitions."""
    cdef uint64_t i
    for i in range(unit, unit + count):
        store8_release(&h.states[i], state)


cdef void free_sources(HeapState* h, uint64_t unit) noexcept nogil:
    """A slid unit is PLACED: it reads its source chunks no more (I3)."""
    cdef uint64_t low = unit * h.unit_words, high = low + h.unit_words
    cdef uint64_t chunk = (h.plan[unit].first * 8) >> h.unit_shift
    cdef uint64_t before = words_before_chunk(h, chunk), after
    if h.plan[unit].whole:
        sub32_acq_rel(&h.readers[chunk], 1)
        # It was the chunk's only reader; a MOVE has taken the pages, so they are no buffer.
        if h.r.backend == BACKEND_MOVE:
            store8_release(&h.chunk_states[chunk], CHUNK_TAKEN)
        else:
            store8_release(&h.chunk_states[chunk], CHUNK_FREE)
            add64_relaxed(&h.pool_bytes, h.unit_bytes)
        return
    while before < high and chunk < h.r.chunks:
        after = words_before_chunk(h, chunk + 1)
        if after > before and after > low and sub32_acq_rel(&h.readers[chunk], 1) == 1:
            failpoint(FP_RECYCLE_PUSH)
            add64_relaxed(&h.pool_bytes, h.unit_bytes)
            store8_release(&h.chunk_states[chunk], CHUNK_FREE)
            store64_relaxed(&h.r.free_hint, chunk)
        before = after
        chunk += 1


cdef void publish(HeapState* h, uint64_t unit, uint64_t count) noexcept nogil:
    """PLACING -> PLACED for a batch: wakes who waits, and frees what was read."""
    cdef uint64_t i
    cdef uint32_t shard
    set_state(h, unit, count, PLACED)
    failpoint(FP_UNIT_PUBLISHED)
    fence_seq()                 # PLACED before the look for waiters
    for i in range(unit, unit + count):
        shard = <uint32_t>(i % WAIT_SHARDS)
        if load32_seq(&h.unit_waiters[shard]):
            add32_seq(&h.unit_event[shard], 1)
            futex_wake_all(&h.unit_event[shard])
    for i in range(unit, unit + count):
        if i < h.r.slid_units:
            free_sources(h, i)


cdef void wait_placed(HeapState* h, uint64_t unit) noexcept nogil:
    """Waits until somebody else's unit is PLACED: spins, then sleeps, so that the owner gets
    the processor even when this thread has the higher priority."""
    cdef uint32_t shard = <uint32_t>(unit % WAIT_SHARDS), seen
    cdef int _i
    add32_seq(&h.r.waiters, 1)          # a batch in progress ends early for it
    for _i in range(SPINS):
        if load8_acquire(&h.states[unit]) == PLACED:
            sub32_seq(&h.r.waiters, 1)
            return
        cpu_relax()
    add32_seq(&h.unit_waiters[shard], 1)
    while True:
        seen = load32_seq(&h.unit_event[shard])
        fence_seq()
        if load8_acquire(&h.states[unit]) == PLACED:
            break
        if failpoint(FP_UNIT_SLEEP) == 0:
            futex_wait(&h.unit_event[shard], seen, 0)
    sub32_seq(&h.unit_waiters[shard], 1)
    sub32_seq(&h.r.waiters, 1)


# ---- chunks ------------------------------------------------------------------------------

cdef inline word chunk_address(HeapState* h, uint64_t chunk) noexcept nogil:
    return h.r.from_base + (chunk << h.unit_shift)


cdef uint64_t take_run(HeapState* h, uint64_t want, word* at) noexcept nogil:
    """Up to `want` adjacent free chunks for the compactor, the lowest; 0 when there is none."""
    cdef uint64_t c = h.r.take_cursor, n = 0, limit
    while c < h.r.chunks and load8_relaxed(&h.chunk_states[c]) == CHUNK_TAKEN:
        c += 1
    h.r.take_cursor = c
    limit = min(h.r.chunks, c + LOOK_AHEAD)
    while c < limit and not cas8(&h.chunk_states[c], CHUNK_FREE, CHUNK_TAKEN):
        c += 1
    if c >= limit:
        return 0
    failpoint(FP_RECYCLE_POP)
    at[0] = chunk_address(h, c)
    n = 1
    while n < want and c + n < h.r.chunks and cas8(&h.chunk_states[c + n], CHUNK_FREE, CHUNK_TAKEN):
        n += 1
    sub64_relaxed(&h.pool_bytes, n << h.unit_shift)
    return n


cdef bint take_one(HeapState* h, word* at) noexcept nogil:
    """A free chunk for a mutator, near one that was freed lately; bounded search."""
    cdef uint64_t hint = load64_relaxed(&h.r.free_hint), i, c
    for i in range(MUTATOR_TRIES):
        c = hint - i
        if c >= h.r.chunks:
            return False
        if cas8(&h.chunk_states[c], CHUNK_FREE, CHUNK_TAKEN):
            failpoint(FP_RECYCLE_POP)
            sub64_relaxed(&h.pool_bytes, h.unit_bytes)
            at[0] = chunk_address(h, c)
            return True
    return False


cdef void give_back(HeapState* h, word at, uint64_t count) noexcept nogil:
    """Returns chunks of a run that were not used; only the compactor takes runs."""
    cdef uint64_t c = (at - h.r.from_base) >> h.unit_shift, i
    add64_relaxed(&h.pool_bytes, count << h.unit_shift)
    for i in range(count):
        store8_release(&h.chunk_states[c + i], CHUNK_FREE)
    if count and c < h.r.take_cursor:
        h.r.take_cursor = c


cdef void release_evacuated(HeapState* h, bint all) noexcept nogil:
    """copy and stw: gives evacuated chunks back to the kernel, in order, in large pieces."""
    cdef uint64_t first = h.r.release_cursor, c = first
    while c < h.r.chunks and load8_acquire(&h.chunk_states[c]) == CHUNK_FREE:
        c += 1
    if c == first or (((c - first) << h.unit_shift) < RELEASE_BYTES and not all):
        return
    release_pages(h, chunk_address(h, first), (c - first) << h.unit_shift)
    sub64_relaxed(&h.pool_bytes, (c - first) << h.unit_shift)
    h.r.release_cursor = c
