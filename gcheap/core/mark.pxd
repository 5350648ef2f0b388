"""Marking: which words of from-space are live.  See mark.pyx."""
from gcheap.core.layout cimport BLOCK_WORDS, Block, HeapState
from libc.stdint cimport uint32_t, uint64_t

cdef void clear_marks(HeapState* h, uint64_t low, uint64_t high) noexcept nogil
cdef uint64_t mark(HeapState* h) noexcept nogil        # live words below TAMS


cdef inline bint is_marked(HeapState* h, uint64_t index) noexcept nogil:
    """Whether the object that starts at from-space word `index` is live."""
    return (h.blocks[index // BLOCK_WORDS].live >> (index % BLOCK_WORDS)) & 1


cdef inline void set_live(Block* blocks, uint64_t index, uint64_t words) noexcept nogil:
    """Marks the object of `words` words at word `index`: a live bit for each of its words, and
    its place as the lowest start in its block where it is that."""
    cdef Block* block = &blocks[index // BLOCK_WORDS]
    cdef uint64_t offset = index % BLOCK_WORDS
    cdef uint64_t n
    if offset < block.first_start:
        block.first_start = <uint32_t>offset
    while True:
        n = min(words, BLOCK_WORDS - offset)
        if n == BLOCK_WORDS:
            block.live = <uint64_t>-1
        else:
            block.live |= ((<uint64_t>1 << n) - 1) << offset
        words -= n
        if words == 0:
            return
        block += 1
        offset = 0
