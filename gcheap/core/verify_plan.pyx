"""Verification, level 2, after Plan: the tables of forwarding agree with the live bits.

Forwarding is never stored, so it is right when the prefix sums are: they are added up again, bit
by bit of each block.  It is then monotone, and each unit must begin at the live word whose number
is the unit's first.  How many units read a chunk (I3) is counted again from the units' side.
"""
from gcheap.core.layout cimport (
    BLOCK_BYTES, BLOCK_WORDS, CHUNK_FREE, HeapState, UNCLAIMED)
from gcheap.core.mark cimport is_marked
from gcheap.core.native cimport check_that, popcount
from gcheap.core.plan cimport words_before_chunk
from gcheap.core.units cimport state_of
from libc.stdint cimport uint64_t


cdef void check_sums(HeapState* h) noexcept nogil:
    cdef uint64_t blocks = h.r.tams_bytes // BLOCK_BYTES, sum = 0, padded, i
    for i in range(blocks):
        padded = (sum + h.unit_words - 1) // h.unit_words * h.unit_words
        if padded > sum and h.blocks[i].before == padded and h.plan[padded // h.unit_words].whole:
            sum = padded            # a dense run begins at a unit
        check_that(h.blocks[i].before == sum,
                   b"verify: a prefix sum disagrees with the live bits (block, sum)", i, sum)
        sum += popcount(h.blocks[i].live)
    check_that(h.blocks[blocks].before == sum and h.r.slid_words == sum,
               b"verify: the live words disagree with the live bits (words, bits)",
               h.r.slid_words, sum)


cdef uint64_t number_of(HeapState* h, uint64_t index) noexcept nogil:
    """How many live words lie below from-space word `index`: where it goes."""
    return h.blocks[index // BLOCK_WORDS].before + popcount(
        h.blocks[index // BLOCK_WORDS].live & ((<uint64_t>1 << (index % BLOCK_WORDS)) - 1))


cdef void check_units(HeapState* h) noexcept nogil:
    cdef uint64_t i, first, reads = 0, counted = 0, chunk, high
    for i in range(h.r.slid_units):
        first = h.plan[i].first
        check_that(is_marked(h, first) and number_of(h, first) == i * h.unit_words,
                   b"verify: a unit begins at another live word (unit, word)", i, first)
        check_that(i == 0 or first > h.plan[i - 1].first,
                   b"verify: forwarding is not monotone (unit, word)", i, first)
        high = min((i + 1) * h.unit_words, h.r.slid_words)
        chunk = first // h.unit_words
        while chunk < h.r.chunks and words_before_chunk(h, chunk) < high:
            if words_before_chunk(h, chunk + 1) > words_before_chunk(h, chunk):
                reads += 1
            chunk += 1
    for i in range(h.r.chunks):
        counted += h.readers[i]
        check_that((h.readers[i] == 0) == (h.chunk_states[i] == CHUNK_FREE),
                   b"verify: a chunk is free although it is read, or not (chunk, readers)", i,
                   h.readers[i])
    check_that(reads == counted, b"verify: readers of chunks are miscounted (readers, counted)",
               reads, counted)


cdef void check_range(HeapState* h) noexcept nogil:
    """What is registered holds the slide and all that may be allocated until the flip (I6)."""
    cdef uint64_t i
    check_that(h.r.slid_units == (h.r.slid_words + h.unit_words - 1) // h.unit_words,
               b"verify: the slide needs another number of units (units, words)", h.r.slid_units,
               h.r.slid_words)
    check_that(h.r.registered_bytes == h.r.slid_units * h.unit_bytes + h.alloc_limit
               - h.r.tams_bytes and h.r.registered_bytes <= h.half_bytes,
               b"verify: the range to register is another (bytes, limit)", h.r.registered_bytes,
               h.alloc_limit)
    check_that(h.r.tams_bytes + h.r.black_shift == h.r.slid_units * h.unit_bytes,
               b"verify: black units shift to another place (shift, TAMS)", h.r.black_shift,
               h.r.tams_bytes)
    for i in range(h.r.registered_bytes >> h.unit_shift):
        check_that(state_of(h, i) == UNCLAIMED,
                   b"verify: a unit is claimed before the flip (unit, state)", i, state_of(h, i))


cdef void check_plan(HeapState* h) noexcept nogil:
    """Aborts unless the plan follows from the live bits.  Mutators may run; they allocate black,
    and touch no table of the plan."""
    check_sums(h)
    check_units(h)
    check_range(h)
