"""A set of object addresses: one bit a word of the whole reservation.

It assumes nothing about where in the reservation an object lies.  The bits are address space,
mapped without reservation: only pages that stand for objects become memory, 1/64 of what the
objects take.  A byte for each group of bits says whether the group was ever written, so that
walking the set does not look at the address space between the objects.
"""
from gcheap.core.failpoint cimport FP_MEMORY_INSPECT, failpoint
from gcheap.core.layout cimport AddressSet, HeapState, WORD, word
from gcheap.core.mapping cimport map_memory, unmap_memory
from gcheap.core.native cimport count_trailing_zeros, load64_relaxed, load8_relaxed
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint64_t
from posix.mman cimport MADV_DONTNEED, madvise

cdef enum:
    PAGE_AT_MOST = 65536        # of every kernel that runs on x86-64 and AArch64
    GROUP_BYTES = GROUP_WORDS * 64 * WORD


cdef int set_open(AddressSet* s, HeapState* h) noexcept nogil:
    """Maps an empty set for the objects of `h`.  Returns an errno."""
    cdef uint64_t span = (h.reservation_bytes + GROUP_BYTES - 1) // GROUP_BYTES * GROUP_BYTES
    cdef uint64_t bits = (span // 64 + PAGE_AT_MOST - 1) // PAGE_AT_MOST * PAGE_AT_MOST
    cdef word at
    cdef int injected = <int>failpoint(FP_MEMORY_INSPECT)
    if injected:
        return injected
    s.bytes = bits + span // GROUP_BYTES
    at = map_memory(s.bytes, True)
    if at == 0:
        return errno
    s.low = h.reservation
    s.span = span
    s.bits = <uint64_t*>at
    s.groups = <uint8_t*>(at + bits)
    return 0


cdef void set_close(AddressSet* s) noexcept nogil:
    """Unmaps a set; one that was never opened is left alone."""
    if s.bits != NULL:
        unmap_memory(<word>s.bits, s.bytes)
        s.bits = NULL


cdef void set_clear(AddressSet* s) noexcept nogil:
    """Empties a set and gives its memory back."""
    madvise(s.bits, s.bytes, MADV_DONTNEED)


cdef word set_next(AddressSet* s, word at, word limit) noexcept nogil:
    """The lowest member in [at, limit), or 0."""
    cdef uint64_t index = (at - s.low) // WORD, end = (limit - s.low) // WORD
    cdef uint64_t bits
    end = min(end, s.span // WORD)
    while index < end:
        if not load8_relaxed(&s.groups[index // (64 * GROUP_WORDS)]):
            index = (index // (64 * GROUP_WORDS) + 1) * (64 * GROUP_WORDS)
            continue
        bits = load64_relaxed(&s.bits[index // 64]) >> (index % 64)
        if bits:
            index += count_trailing_zeros(bits)
            return s.low + index * WORD if index < end else 0
        index = (index // 64 + 1) * 64
    return 0
