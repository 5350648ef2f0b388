"""Scratch memory for measurements: two registered ranges between which pages travel, a plain one.

    full 0 or 1: that range has all the pages, the other none; -1: both are empty

Each range begins at a page table of its own and none is touched before it has pages.  A function
that fails notes it in `error` and `what` and returns false or 0.  Of one thread at a time.
"""
from gcheap.core.layout cimport word
from libc.stdint cimport uint64_t

cdef enum:
    PAGE_TABLE_PAGES = 512      # pages of one page table; a MOVE shares one TLB flush within it

cdef enum Placement:
    MOVE
    COPY
    ZEROPAGE

cdef struct Ranges:
    int fd
    int full
    int error                   # errno of the first failure, 0
    const char* what            # the call that failed
    uint64_t page, bytes
    word side[2]
    word plain
    word warm                   # a buffer of PAGE_TABLE_PAGES pages, present
    word from_, to              # of the measurement that runs
    uint64_t step, faults       # bytes that are moved at a fault, and how often
    uint64_t turns              # atomic; see _fault_costs.pyx

cdef uint64_t refuse(Ranges* r, const char* what, int error) noexcept nogil
cdef bint whole(Ranges* r, int kind, word dst, word src, uint64_t nbytes) noexcept nogil
cdef bint advise(Ranges* r, word start, uint64_t nbytes, int advice) noexcept nogil
cdef bint empty_both(Ranges* r) noexcept nogil
cdef bint fill_one(Ranges* r) noexcept nogil
cdef bint aim(Ranges* r) noexcept nogil        # from_ is the full range, to the empty one
cdef bint touch_plain(Ranges* r) noexcept nogil

# These need the GIL and raise OSError.
cdef (word, uint64_t) reserve(uint64_t nbytes, uint64_t count, uint64_t align, word* starts)
cdef int descriptor(uint64_t features) except -1
cdef register_sides(Ranges* r)
cdef raise_error(Ranges* r)
