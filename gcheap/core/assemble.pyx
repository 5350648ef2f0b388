"""Assembly: building the contents of one to-space unit in a buffer, slots fixed.

The caller owns the unit (I2).  Reads: from-space words in the unit's own source range, the
side tables, the shape table.  Writes: the buffer.  Nothing else, no call that could block:
this runs on faulting threads (I4).
"""
from gcheap.core.layout cimport (
    BLOCK_WORDS, Block, HeapState, ShapeInfo, Straddle, WORD, word)
from gcheap.core.native cimport count_trailing_zeros, likely
from gcheap.core.objects cimport (
    header_words, is_reference, object_bytes, object_slots, shape_of_header)
from gcheap.core.plan cimport forward
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset


cdef inline word fixed(HeapState* h, const ShapeInfo* shape, word value) noexcept nogil:
    """A slot's word with its reference, if it is one, forwarded."""
    if is_reference(shape.tag_mask, shape.tag_bits, value):
        return forward(h, value & ~shape.tag_mask) | shape.tag_bits
    return value


cdef inline void fix_slots(HeapState* h, const ShapeInfo* shape, word* to, const word* source,
                           uint64_t count) noexcept nogil:
    cdef uint64_t i
    for i in range(count):
        to[i] = fixed(h, shape, source[i])


cdef void assemble_unit(HeapState* h, uint64_t unit, word buffer) noexcept nogil:
    """Copies the live words of a slid unit to `buffer` in order, slots forwarded; zeroes the
    rest of the last unit."""
    cdef Straddle* s = &h.plan[unit].straddle
    cdef uint64_t index = h.plan[unit].first
    cdef word* to = <word*>buffer
    cdef word* end = to + min(h.unit_words, h.r.slid_words - unit * h.unit_words)
    cdef word* source
    cdef ShapeInfo* shape
    cdef Block* block
    cdef uint64_t bits, n, slots, head
    if s.words:
        source = <word*>(h.r.from_base + index * WORD)
        memcpy(to, source, s.words * WORD)
        if s.slots:
            fix_slots(h, &h.shapes[s.shape], to + s.skip, source + s.skip, s.slots)
        to += s.words
        index += s.words
    while to < end:
        # The next live word starts an object.
        block = &h.blocks[index // BLOCK_WORDS]
        bits = block.live >> (index % BLOCK_WORDS)
        if likely(bits != 0):
            index += count_trailing_zeros(bits)
        else:
            index = index // BLOCK_WORDS * BLOCK_WORDS
            while True:
                block += 1
                index += BLOCK_WORDS
                if block.live:
                    break
            index += count_trailing_zeros(block.live)
        source = <word*>(h.r.from_base + index * WORD)
        to[0] = source[0]
        if to + 1 == end:
            to += 1             # its second word (an array's length) is the next unit's to read
            break
        shape = &h.shapes[shape_of_header(source[0])]
        n = object_bytes(shape, <word>source) // WORD
        slots = object_slots(shape, <word>source)
        index += n
        if n > <uint64_t>(end - to):
            n = end - to
        head = header_words(shape)
        to[1] = source[1]       # an array's length; a slot is overwritten below
        if slots > n - head:
            slots = n - head
        fix_slots(h, shape, to + head, source + head, slots)
        if n > head + slots:
            memcpy(to + head + slots, source + head + slots, (n - head - slots) * WORD)
        to += n
    end = <word*>(buffer + h.unit_bytes)
    if to < end:
        memset(to, 0, <word>end - <word>to)


cdef void fix_black_unit(HeapState* h, uint64_t from_unit) noexcept nogil:
    """Forwards the slots of a whole from-space unit in place: it will move as it is (I1)."""
    cdef Straddle* s = &h.straddle[from_unit]
    cdef word* at = <word*>(h.r.from_base + (from_unit << h.unit_shift))
    cdef word* end = at + h.unit_words
    cdef ShapeInfo* shape
    cdef uint64_t slots, head
    if s.words:
        fix_slots(h, &h.shapes[s.shape], at, at, s.slots)
        return                  # the rest of a large run's last unit is empty
    while at < end and at[0]:
        shape = &h.shapes[shape_of_header(at[0])]
        head = header_words(shape)
        slots = min(object_slots(shape, <word>at), <uint64_t>(end - at) - head)
        fix_slots(h, shape, at + head, at + head, slots)
        at += object_bytes(shape, <word>at) // WORD
