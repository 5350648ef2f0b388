"""Walking over everything reachable in parts.  See walk.pyx."""
from gcheap.core.layout cimport HeapState
from gcheap.core.words cimport Words
from libc.stdint cimport uint32_t, uint64_t

cdef struct Bookmark:           # where a walk stands; zeroed: at the beginning
    uint32_t at                 # handle of the last object given out
    uint32_t end                # handle of the object that was the last one of all
    uint64_t chunk              # objects given out at once

# 0, an errno or INSPECT_CLOSED.  Objects found as in queries.pxd.
cdef int walk_on(HeapState* h, Bookmark* mark, Words* found) noexcept nogil
