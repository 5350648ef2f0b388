"""Giving side tables back to the kernel, between cycles, on the collector thread.

The halves need nothing of the kind: a cycle that relocates empties the old half.  The tables of a
cycle hold as many pages as the largest one needed: a thirty-second of the heap for the blocks
alone.  Each cycle writes what it reads of them anew, so between cycles their contents are dead,
and a page dropped comes back as zeros when it is written.

Who might still read one: a mutator that placed the last unit of this cycle and is counting down
the readers of its source (`free_sources`) while the compactor, which waits for PLACED only, has
gone on.  On zeros it ends; what it may still change is `readers` and `chunk_states`, which the
next plan writes anew, after a pause (no fault outlasts one, I5).  Unit states stay: a late fault
must see PLACED.
"""
from gcheap.core.failpoint cimport FP_MEMORY_TABLES, failpoint
from gcheap.core.layout cimport (
    BLOCK_BYTES, Block, HeapState, LARGE_SPACES, LargeRun, LargeSpace, UnitPlan, WORD, word)
from libc.stdint cimport uint64_t
from posix.mman cimport MADV_DONTNEED, madvise


cdef void drop(HeapState* h, word table, uint64_t low, uint64_t high) noexcept nogil:
    """Drops the whole pages of bytes [low, high) of a table, which starts at a page.

    Memory that somebody locked (mlockall) cannot be dropped, and stays.
    """
    low = (low + h.page - 1) & ~(h.page - 1)
    high = (high + h.page - 1) & ~(h.page - 1)
    if low < high and failpoint(FP_MEMORY_TABLES) == 0:
        madvise(<void*>(table + low), high - low, MADV_DONTNEED)


cdef void release_tables(HeapState* h, uint64_t keep) noexcept nogil:
    """Drops what the tables of a cycle hold for bytes at and above `keep` of a half, and all that
    is scratch: mark stack, staging buffer, verification's bitmaps."""
    cdef uint64_t bitmap = h.half_bytes // (8 * WORD)
    drop(h, <word>h.blocks, keep // BLOCK_BYTES * sizeof(Block),
         (h.half_bytes // BLOCK_BYTES + 1) * sizeof(Block))
    drop(h, <word>h.plan, (keep >> h.unit_shift) * sizeof(UnitPlan),
         (h.half_units + 1) * sizeof(UnitPlan))
    drop(h, <word>h.mark_stack, 0, h.half_bytes // 2)
    drop(h, h.staging, 0, h.batch_units * h.unit_bytes)
    if h.visited != NULL:
        drop(h, <word>h.visited, 0, 2 * bitmap)


cdef void release_large_tables(HeapState* h) noexcept nogil:
    """Drops the tables of the large spaces' halves that hold no objects: an entry is written when
    its grains are handed out or planned."""
    cdef LargeSpace* s
    cdef int i
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        drop(h, <word>s.runs[1 - h.current], 0, s.half_grains * sizeof(LargeRun))
