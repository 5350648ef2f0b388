"""A set of object addresses, anywhere in the reservation.  See addresses.pyx."""
from gcheap.core.layout cimport AddressSet, HeapState, WORD, word
from gcheap.core.native cimport load64_relaxed, store64_relaxed, store8_relaxed
from libc.stdint cimport uint64_t

cdef enum:
    GROUP_WORDS = 512           # words of bits that one byte of `groups` speaks for

cdef int set_open(AddressSet* s, HeapState* h) noexcept nogil       # errno
cdef void set_close(AddressSet* s) noexcept nogil
cdef void set_clear(AddressSet* s) noexcept nogil
cdef word set_next(AddressSet* s, word at, word limit) noexcept nogil   # 0: none below limit


cdef inline bint set_add(AddressSet* s, word address) noexcept nogil:
    """Adds an object; whether it is new.  One writer; relaxed, so that others may read."""
    cdef uint64_t index = (address - s.low) // WORD
    cdef uint64_t* bits = &s.bits[index // 64]
    cdef uint64_t bit = <uint64_t>1 << (index % 64)
    if bits[0] & bit:
        return False
    store64_relaxed(bits, bits[0] | bit)
    store8_relaxed(&s.groups[index // (64 * GROUP_WORDS)], 1)
    return True


cdef inline void set_remove(AddressSet* s, word address) noexcept nogil:
    cdef uint64_t index = (address - s.low) // WORD
    cdef uint64_t* bits = &s.bits[index // 64]
    store64_relaxed(bits, bits[0] & ~(<uint64_t>1 << (index % 64)))


cdef inline bint set_has(AddressSet* s, word address) noexcept nogil:
    cdef uint64_t index = (address - s.low) // WORD
    return (load64_relaxed(&s.bits[index // 64]) >> (index % 64)) & 1
