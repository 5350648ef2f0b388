"""Identity hashes: in an object's header, drawn when first asked for, the same for ever after.

Never an address, so a table that hashes by identity needs no rehash when objects move.
"""
from gcheap.core.layout cimport MutatorState, word
from gcheap.core.native cimport cas64, load64_relaxed
from libc.stdint cimport uint32_t, uint64_t


cdef inline uint32_t identity_hash(MutatorState* m, word obj, word flags) noexcept nogil:
    """The identity hash of the object at `obj`, never 0; sets header bits `flags` with it.

    The mutator is RUNNING.  Relaxed: the header word alone is read and written.
    """
    cdef word* header = <word*>obj
    cdef word seen, wanted
    cdef uint64_t x
    while True:
        seen = load64_relaxed(header)
        wanted = seen | flags
        if not seen >> 32:
            # xorshift64* (Marsaglia 2003, Vigna 2014) on a per-mutator state.
            x = m.hash_state
            x ^= x >> 12
            x ^= x << 25
            x ^= x >> 27
            m.hash_state = x
            wanted |= (((x * <uint64_t>0x2545F4914F6CDD1D) >> 32) | 1) << 32
        if wanted == seen or cas64(header, seen, wanted):
            return <uint32_t>(wanted >> 32)
