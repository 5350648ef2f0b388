"""Where handles will lead after the flip, computed before it.

Forwarding a handle reads a line of the block table wherever in the heap it leads; in a heap of
gigabytes that is a miss of the caches and of the TLB, several times the step itself, and the pause
would grow with the heap until all of its reads miss (measured: 15 ns a handle with 64 MiB live, 60 ns
with 1 GiB).  Prefetching those lines before the stop did not settle it: TLB entries do not stay, and
when the stop takes long, neither do the lines.

But the plan is final before the flip.  So the collector forwards every handle while mutators run,
and notes what it held and where that goes.  The pause compares and stores, in the order of the table:
it reads nothing of the heap's size.

Mutators take, drop and rewrite handles meanwhile.  A note counts only for a handle that still holds
the very address that was forwarded, which is right whoever put it there; every other one is forwarded
inside the pause.  Shadow stacks and root areas are left out: they are the mutators' own, and change too
fast.
"""
from gcheap.core.layout cimport HANDLE_CHUNK, HandleChunk, HeapState, word
from gcheap.core.native cimport (
    load32_acquire, load32_relaxed, load64_relaxed, store64_relaxed)
from gcheap.core.plan cimport forward, forward_slid
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc


cdef void forward_ahead(HeapState* h, Ahead* ahead) noexcept nogil:
    """Forwards what handles hold.  Collector thread, outside of pauses, between planning and the flip.
    Without memory it forwards none, and the pause does it all."""
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


cdef void rewrite_handles(HeapState* h, const Ahead* ahead) noexcept nogil:
    """Inside the flip's pause: every handle gets its new address (I1)."""
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


cdef void end_ahead(Ahead* ahead) noexcept nogil:
    free(ahead.old)
    free(ahead.new)
    ahead.old = ahead.new = NULL
    ahead.count = 0
