"""Verification, level 4, at Mark End: marks against a second marking with the world stopped.

verify_graph has just walked from the roots as they are now, and noted every word of every object
it reached in a bitmap of its own.  All of those below TAMS must be marked.  What is marked beyond
them is floating garbage: it was reachable at Mark Start, which is what a snapshot at the beginning
promises to keep, and dies a cycle later.
"""
from gcheap.core.layout cimport (
    BLOCK_BYTES, HeapState, LARGE_SPACES, LargeRun, LargeSpace, WORD)
from gcheap.core.native cimport check_that, popcount, store64_relaxed
from gcheap.core.verify_graph cimport seen_last
from libc.stdint cimport uint64_t


cdef uint64_t compare_large(HeapState* h) noexcept nogil:
    """The same of large objects; returns the bytes of floating ones."""
    cdef LargeSpace* s
    cdef LargeRun* run
    cdef uint64_t grain, floating = 0
    cdef bint marked
    cdef int i
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        for grain in range(s.tams):
            run = &s.from_runs[grain]
            marked = run.epoch == h.epoch
            check_that(not run.bytes or marked or not seen_last(run),
                       b"verify: a reachable large object is not marked (grain, bytes)", grain,
                       run.bytes)
            if run.bytes and marked and not seen_last(run):
                floating += run.bytes
    return floating


cdef void compare_marks(HeapState* h) noexcept nogil:
    """Aborts when something reachable is not marked; counts floating garbage (`floating_bytes`).
    A word of `visited` is a block's."""
    cdef uint64_t i, missed, floating = 0
    for i in range(h.r.tams_bytes // BLOCK_BYTES):
        missed = h.visited[i] & ~h.blocks[i].live
        check_that(missed == 0, b"verify: reachable words are not marked (address, words)",
                   h.r.from_base + i * BLOCK_BYTES, missed)
        floating += popcount(h.blocks[i].live & ~h.visited[i])
    floating = floating * WORD + compare_large(h)
    # Relaxed: stats() reads it.
    store64_relaxed(&h.verification.floating_bytes, floating)
