"""What the flip will look at, fetched into the caches before it begins.

The flip does a constant number of steps a root.  Each step reads a line of the block table wherever
in the heap the root leads; in a heap of gigabytes that is a miss of the caches and of the TLB,
several times the step itself.  So the pause would grow with the heap until all of its reads miss:
measured, 15 ns a handle with 64 MiB live and 60 ns with 1 GiB.  The collector therefore walks the
handles once before it asks for the stop, and prefetches: the same misses, overlapping each other,
while mutators run.

Nothing depends on what this reads.  Handles come and go meanwhile, and a stale address costs a
useless prefetch, which never faults.  Shadow stacks are left out: they are their mutators' own, and
change too fast.
"""
from gcheap.core.layout cimport BLOCK_BYTES, HANDLE_CHUNK, HandleChunk, HeapState, word
from gcheap.core.native cimport (
    load32_acquire, load32_relaxed, load64_relaxed, prefetch_read)
from libc.stdint cimport uint64_t


cdef void warm_roots(HeapState* h) noexcept nogil:
    """Prefetches the blocks of what handles name.  Collector thread, outside of pauses."""
    cdef uint64_t c, i, offset, chunks = load32_acquire(&h.handle_high) // HANDLE_CHUNK
    cdef HandleChunk* chunk
    cdef word value
    for c in range(chunks):
        chunk = h.handles[c]
        for i in range(HANDLE_CHUNK):
            # Relaxed: see above.
            if load32_relaxed(&chunk.link[i]) == 0:
                value = load64_relaxed(&chunk.value[i])
                offset = value - h.base[h.current]
                if offset < h.half_bytes:
                    prefetch_read(&h.blocks[offset // BLOCK_BYTES])
