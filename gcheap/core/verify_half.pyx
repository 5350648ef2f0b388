"""Verification, level 3: the old half is inaccessible between relocations (I1).

After a cycle nobody may know an address in it, so whoever reads or writes one gets SIGSEGV there
and then instead of a zero.  Only whole halves are protected: a part would split the mapping, for
good when the parts get their anon_vma apart, and MOVE would refuse the seam.  It is opened again
before REGISTER, because MOVE wants both its sides alike: with a source that is read-only it is
EINVAL.
"""
from gcheap.core.failpoint cimport FP_VERIFY_CLOSE, FP_VERIFY_OPEN, failpoint
from gcheap.core.layout cimport HeapState, LARGE_SPACES
from gcheap.core.native cimport check_that
from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t
from posix.mman cimport PROT_NONE, PROT_READ, PROT_WRITE, mprotect


cdef int protect_half(HeapState* h, uint64_t half, int protection) noexcept nogil:
    """Every space's half of this number; returns an errno."""
    cdef int i
    if mprotect(<void*>h.base[half], h.half_bytes, protection) != 0:
        return errno
    for i in range(LARGE_SPACES):
        if mprotect(<void*>h.large[i].base[half], h.large[i].half_bytes, protection) != 0:
            return errno
    return 0


cdef void close_old_half(HeapState* h) noexcept nogil:
    """Makes it inaccessible; where the kernel refuses (no mapping left), what it did is undone
    before the next REGISTER."""
    cdef uint64_t old = 1 - h.current
    if h.verification.closed_half == 0:
        if failpoint(FP_VERIFY_CLOSE) == 0:
            protect_half(h, old, PROT_NONE)
        h.verification.closed_half = <uint32_t>(old + 1)


cdef void open_old_half(HeapState* h) noexcept nogil:
    """Before the half becomes to-space."""
    cdef int error
    if h.verification.closed_half:
        error = <int>failpoint(FP_VERIFY_OPEN)
        if error == 0:
            error = protect_half(h, h.verification.closed_half - 1, PROT_READ | PROT_WRITE)
        check_that(error == 0, b"verify: the old half cannot be opened again (half, errno)",
                   h.verification.closed_half - 1, <uint64_t>error)
        h.verification.closed_half = 0
