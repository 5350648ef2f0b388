"""Planning the slide: where every live word goes.  See plan.pyx."""
from gcheap.core.large cimport forward_large
from gcheap.core.layout cimport BLOCK_BYTES, BLOCK_WORDS, Block, HeapState, WORD, word
from gcheap.core.native cimport count_trailing_zeros, likely, popcount
from libc.stdint cimport uint64_t

cdef void plan(HeapState* h, bint full) noexcept nogil


cdef inline word forward_slid(HeapState* h, uint64_t offset) noexcept nogil:
    """The to-space address of the object at byte `offset` of from-space, below TAMS: that many live
    words from the start.  Computed, never stored; final when planning has ended."""
    cdef Block* block = &h.blocks[offset // BLOCK_BYTES]
    # In 64 bits: as C has it, 8 times a 32-bit count wraps at 4 GiB of live objects.
    return h.r.to_base + WORD * (
        <uint64_t>block.before
        + popcount(block.live & ((<uint64_t>1 << (offset // WORD % BLOCK_WORDS)) - 1)))


cdef inline word forward(HeapState* h, word address) noexcept nogil:
    """The to-space address of a from-space object; any other address is its own.  From the flip on.

    Above TAMS a constant shift; large objects by their table.  Idempotent, because only from-space
    is mapped.
    """
    cdef uint64_t offset = address - h.r.from_base
    if offset >= h.r.from_bytes:
        return forward_large(h, address)
    if offset >= h.r.tams_bytes:
        return h.r.to_base + offset + h.r.black_shift
    return forward_slid(h, offset)


cdef inline uint64_t next_live(HeapState* h, uint64_t index) noexcept nogil:
    """The first live word at or above from-space word `index`; there is one."""
    cdef Block* block = &h.blocks[index // BLOCK_WORDS]
    cdef uint64_t bits = block.live >> (index % BLOCK_WORDS)
    if likely(bits != 0):
        return index + count_trailing_zeros(bits)
    index = index // BLOCK_WORDS * BLOCK_WORDS
    while True:
        block += 1
        index += BLOCK_WORDS
        if block.live:
            return index + count_trailing_zeros(block.live)


cdef inline uint64_t words_before_chunk(HeapState* h, uint64_t chunk) noexcept nogil:
    """Live words below from-space chunk `chunk` (the sentinel block serves the end)."""
    return h.blocks[chunk * (h.unit_bytes // BLOCK_BYTES)].before
