"""Verification, level 2, at Mark End: nothing that is kept leads to something that is not.

Marking is complete when no marked or black object has a slot with an unmarked one in it.  It is
asked of the live bits themselves, not of a walk from the roots: so an object that was marked too
early, or bits that cover no object, show as well.  One pass over the live bits and the black units.

Source: tri-colour invariants, Dijkstra et al. 1978; the verifier of Jikes RVM's MarkSweep asks
the same of its mark bits.
"""
from gcheap.core.large cimport large_reached
from gcheap.core.layout cimport BLOCK_WORDS, HeapState, ShapeInfo, WORD, word
from gcheap.core.mark cimport is_marked, reached
from gcheap.core.native cimport check_that, count_trailing_zeros, load64_relaxed
from gcheap.core.objects cimport is_reference, shape_of_header
from gcheap.core.verify_walk cimport checked_words, slots_of, walk_large, walk_units
from libc.stdint cimport uint64_t


cdef void check_kept(HeapState* h, word obj) noexcept nogil:
    """Every reference in a kept object leads into the heap, to an object that is kept."""
    cdef ShapeInfo* shape = &h.shapes[shape_of_header((<word*>obj)[0])]
    cdef uint64_t count, i
    cdef word* slot = slots_of(h, obj, &count)
    cdef word target
    for i in range(count):
        if is_reference(shape.tag_mask, shape.tag_bits, slot[i]):
            target = slot[i] & ~shape.tag_mask
            check_that(target - h.reservation < h.reservation_bytes,
                       b"verify: a reference leads out of the heap (object, word)", obj, target)
            check_that(reached(h, target),
                       b"verify: a kept object leads to an unmarked one (object, target)", obj,
                       target)


cdef uint64_t next_bit(HeapState* h, uint64_t index, uint64_t end) noexcept nogil:
    """The first live word at or above `index`, or `end`."""
    cdef uint64_t bits
    while index < end:
        bits = h.blocks[index // BLOCK_WORDS].live >> (index % BLOCK_WORDS)
        if bits:
            return index + count_trailing_zeros(bits)
        index = (index // BLOCK_WORDS + 1) * BLOCK_WORDS
    return end


cdef void check_marked_half(HeapState* h) noexcept nogil:
    """Live bits cover whole objects, blocks know their lowest start, slots lead to kept ones."""
    cdef uint64_t end = h.r.tams_bytes // WORD, index = next_bit(h, 0, end), words, i
    cdef uint64_t block = <uint64_t>-1
    cdef word obj
    while index < end:
        obj = h.r.from_base + index * WORD
        words = checked_words(h, obj, end - index)
        if index // BLOCK_WORDS != block:
            block = index // BLOCK_WORDS
            check_that(h.blocks[block].first_start == index % BLOCK_WORDS,
                       b"verify: a block does not know its lowest start (object, start)", obj,
                       h.blocks[block].first_start)
        for i in range(index, index + words):
            check_that(is_marked(h, i), b"verify: an object is marked in part (object, word)", obj,
                       i - index)
        check_kept(h, obj)
        index = next_bit(h, index + words, end)


cdef void check_kept_large(HeapState* h, word obj, uint64_t nbytes) noexcept nogil:
    """The same of a large object, if it is kept."""
    if large_reached(h, obj):
        check_that(checked_words(h, obj, nbytes // WORD) * WORD == nbytes,
                   b"verify: a large object has another size (object, bytes)", obj, nbytes)
        check_kept(h, obj)


cdef void check_marks(HeapState* h) noexcept nogil:
    """Aborts unless marking is complete.  Inside the pause Mark End."""
    cdef uint64_t first = h.r.tams_bytes >> h.unit_shift
    check_marked_half(h)
    walk_units(h, h.r.from_base + h.r.tams_bytes,
               (load64_relaxed(&h.top) >> h.unit_shift) - first, check_kept)
    walk_large(h, check_kept_large)
