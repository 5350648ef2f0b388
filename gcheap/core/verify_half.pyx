"""Verification, level 3: the old half is inaccessible between relocations (I1).

After a cycle nobody may know an address in it, so whoever reads or writes one gets SIGSEGV there
and then instead of a zero.  Only whole halves are protected: a part would split the mapping, for
good when the parts get their anon_vma apart, and MOVE would refuse the seam.  It is opened again
before REGISTER, because MOVE wants both its sides alike: with a source that is read-only it is
EINVAL.
"""
from gcheap.core.layout cimport HeapState
from gcheap.core.native cimport check_that
from libc.errno cimport errno
from libc.stdint cimport uint64_t
from posix.mman cimport PROT_NONE, PROT_READ, PROT_WRITE, mprotect


cdef void close_old_half(HeapState* h) noexcept nogil:
    """Makes it inaccessible, unless the kernel refuses (no mapping left): then it stays open."""
    cdef uint64_t old = 1 - h.current
    if h.verification.closed_half == 0 and (
            mprotect(<void*>h.base[old], h.half_bytes, PROT_NONE) == 0):
        h.verification.closed_half = <unsigned>(old + 1)


cdef void open_old_half(HeapState* h) noexcept nogil:
    """Before the half becomes to-space."""
    if h.verification.closed_half:
        check_that(mprotect(<void*>h.base[h.verification.closed_half - 1], h.half_bytes,
                            PROT_READ | PROT_WRITE) == 0,
                   b"verify: the old half cannot be opened again (half, errno)",
                   h.verification.closed_half - 1, <uint64_t>errno)
        h.verification.closed_half = 0
