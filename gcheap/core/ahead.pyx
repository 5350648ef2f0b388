"""Rewriting roots in the flip, without waiting for memory.

Forwarding a root reads a line of the block table wherever in the heap it leads; in a heap of
gigabytes that is a miss of the caches and of the TLB, several times the step itself, and the pause
would grow with the heap until all of its reads miss (measured: 15 ns a handle with 64 MiB live, 60
ns with 1 GiB).  Prefetching those lines before the stop did not settle it: TLB entries do not
stay, and when the stop takes long, neither do the lines.

But the plan is final before the flip.  So the collector forwards every handle while mutators run,
and notes what it held and where that goes.  The pause compares and stores, in the order of the
table: it reads nothing of the heap's size.  Mutators take, drop and rewrite handles meanwhile.  A
note counts only for a handle that still holds the very address that was forwarded, which is right
whoever put it there; every other one is forwarded inside the pause.

Shadow stacks and root areas are the mutators' own, and change too fast for that.  Their words are
forwarded inside the pause, and the lines that this reads are fetched some words ahead, so that
their misses overlap.
"""
from gcheap.core.layout cimport BLOCK_BYTES, HANDLE_CHUNK, HandleChunk, HeapState, word
from gcheap.core.large cimport fetch_large
from gcheap.core.native cimport (
    load32_acquire, load32_relaxed, load64_relaxed, prefetch_read, store64_relaxed)
from gcheap.core.objects cimport is_reference
from gcheap.core.plan cimport forward, forward_slid
from gcheap.core.roots cimport visit_ranges
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc

cdef enum:
    WORDS_AHEAD = 16            # misses under way at once


cdef void forward_ahead(HeapState* h, Ahead* ahead) noexcept nogil:
    """Forwards what handles hold.  Collector thread, outside of pauses, between planning and the
    flip.  Without memory it forwards none, and the pause does it all."""
    cdef uint64_t c, i, count = load32_acquire(&h.handle_high)
    cdef HandleChunk* chunk
    cdef word value
    ahead.count = 0
    ahead.old = <word*>calloc(count, sizeof(word)) if count else NULL
    ahead.new = <word*>malloc(count * sizeof(word)) if count else NULL
    if ahead.old == NULL or ahead.new == NULL:
        return
    ahead.count = count
    for c in range(count // HANDLE_CHUNK):
        chunk = h.handles[c]
        for i in range(HANDLE_CHUNK):
            # Relaxed: whatever this reads, the pause compares it again.
            if load32_relaxed(&chunk.link[i]) == 0:
                value = load64_relaxed(&chunk.value[i])
                # The rest is not final before the flip.
                if value - h.r.from_base < h.r.tams_bytes:
                    ahead.old[c * HANDLE_CHUNK + i] = value
                    ahead.new[c * HANDLE_CHUNK + i] = forward_slid(
                        h, value - h.r.from_base)


cdef inline void fetch(HeapState* h, word value, uint64_t tag_mask,
                       uint64_t tag_bits) noexcept nogil:
    cdef uint64_t offset
    if is_reference(tag_mask, tag_bits, value):
        offset = (value & ~tag_mask) - h.r.from_base
        if offset < h.r.tams_bytes:
            prefetch_read(&h.blocks[offset // BLOCK_BYTES])
        elif offset >= h.half_bytes:
            fetch_large(h, value & ~tag_mask)


cdef void fetch_first(void* context, HeapState* h, word* at, uint64_t count, uint64_t tag_mask,
                      uint64_t tag_bits) noexcept nogil:
    cdef uint64_t i
    for i in range(min(count, <uint64_t>WORDS_AHEAD)):
        fetch(h, at[i], tag_mask, tag_bits)


cdef void rewrite_words(void* context, HeapState* h, word* at, uint64_t count, uint64_t tag_mask,
                        uint64_t tag_bits) noexcept nogil:
    cdef uint64_t i
    for i in range(count):
        if i + WORDS_AHEAD < count:
            fetch(h, at[i + WORDS_AHEAD], tag_mask, tag_bits)
        if is_reference(tag_mask, tag_bits, at[i]):
            at[i] = forward(h, at[i] & ~tag_mask) | tag_bits


cdef void rewrite_handles(HeapState* h, const Ahead* ahead) noexcept nogil:
    cdef uint64_t c, i, at, count = load32_acquire(&h.handle_high)
    cdef HandleChunk* chunk
    cdef word value
    for c in range(count // HANDLE_CHUNK):
        chunk = h.handles[c]
        for i in range(HANDLE_CHUNK):
            # Relaxed, as in visit_roots.
            if load32_relaxed(&chunk.link[i]) == 0 and (c or i):
                at = c * HANDLE_CHUNK + i
                value = chunk.value[i]
                store64_relaxed(&chunk.value[i], ahead.new[at]
                                if at < ahead.count and ahead.old[at] == value
                                else forward(h, value))


cdef void rewrite_roots(HeapState* h, const Ahead* ahead) noexcept nogil:
    """Inside the flip's pause: every root gets its new address (I1)."""
    visit_ranges(h, fetch_first, NULL)      # they arrive while handles are rewritten
    rewrite_handles(h, ahead)
    visit_ranges(h, rewrite_words, NULL)


cdef void end_ahead(Ahead* ahead) noexcept nogil:
    free(ahead.old)
    free(ahead.new)
    ahead.old = ahead.new = NULL
    ahead.count = 0
