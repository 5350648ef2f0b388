"""Assembly: building the contents of one to-space unit in a buffer, slots fixed.

The caller owns the unit (I2).  Reads: from-space words in the unit's own source range, the
side tables, the shape table.  Writes: the buffer.  Nothing else, no call that could block:
this runs on faulting threads (I4).

What assembly waits for is memory: each reference is looked up in a block somewhere.  So a
reference is first only noted and its block prefetched; it is fixed when RING more have been
noted.
"""
from gcheap.core.layout cimport (
    BLOCK_BYTES, HeapState, ShapeInfo, Straddle, WORD, word)
from gcheap.core.native cimport prefetch_read
from gcheap.core.objects cimport (
    header_words, is_reference, object_bytes, object_slots, shape_of_header)
from gcheap.core.plan cimport forward, next_live
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    RING = 16                   # references between prefetch and lookup
    AHEAD = 128                 # words: hardware prefetch stops at the end of a page

cdef struct Pending:
    word* slot
    word target
    word bits

cdef struct Fixer:
    HeapState* heap
    uint64_t noted
    Pending ring[RING]


cdef inline void fix_one(HeapState* h, const Pending* p) noexcept nogil:
    p.slot[0] = forward(h, p.target) | p.bits


cdef inline void note(Fixer* f, const ShapeInfo* shape, word* to, word value) noexcept nogil:
    """Will forward the reference `value` into the slot `to`."""
    cdef Pending* p = &f.ring[f.noted % RING]
    cdef uint64_t offset
    if f.noted >= RING:
        fix_one(f.heap, p)
    f.noted += 1
    p.slot = to
    p.target = value & ~shape.tag_mask
    p.bits = shape.tag_bits
    offset = p.target - f.heap.r.from_base
    if offset < f.heap.r.tams_bytes:
        prefetch_read(&f.heap.blocks[offset // BLOCK_BYTES])


cdef inline void note_slots(Fixer* f, const ShapeInfo* shape, word* to, const word* source,
                            uint64_t count) noexcept nogil:
    """Copies `count` slots; their references will be forwarded."""
    cdef uint64_t i
    for i in range(count):
        to[i] = source[i]
        if is_reference(shape.tag_mask, shape.tag_bits, source[i]):
            note(f, shape, to + i, source[i])


cdef inline void note_in_place(Fixer* f, const ShapeInfo* shape, word* at,
                               uint64_t count) noexcept nogil:
    """The same where they stand.  Writes references only: a page that has none is a hole still,
    or the clean page it was."""
    cdef uint64_t i
    for i in range(count):
        if is_reference(shape.tag_mask, shape.tag_bits, at[i]):
            note(f, shape, at + i, at[i])


cdef inline void finish_slots(Fixer* f) noexcept nogil:
    cdef uint64_t i
    for i in range(f.noted - min(f.noted, <uint64_t>RING), f.noted):
        fix_one(f.heap, &f.ring[i % RING])


cdef inline void copy_words(word* to, const word* source, uint64_t count) noexcept nogil:
    """memcpy, without the call for the few words that most objects have."""
    cdef uint64_t i
    if count > 16:
        memcpy(to, source, count * WORD)
        return
    for i in range(count):
        to[i] = source[i]


cdef void assemble_unit(HeapState* h, uint64_t unit, word buffer) noexcept nogil:
    """Copies the live words of a slid unit to `buffer` in order, slots forwarded; zeroes the
    rest of a unit that is not full."""
    cdef Straddle* s = &h.plan[unit].straddle
    cdef uint64_t index = h.plan[unit].first
    cdef word* to = <word*>buffer
    cdef word* end = to + h.plan[unit].words
    cdef word* source
    cdef ShapeInfo* shape
    cdef uint64_t n, slots, head
    cdef Fixer f
    f.heap = h
    f.noted = 0
    if s.words:
        source = <word*>(h.r.from_base + index * WORD)
        memcpy(to, source, s.words * WORD)
        if s.slots:
            note_slots(&f, &h.shapes[s.shape], to + s.skip, source + s.skip, s.slots)
        to += s.words
        index += s.words
    while to < end:
        # The next live word starts an object.
        index = next_live(h, index)
        source = <word*>(h.r.from_base + index * WORD)
        prefetch_read(source + AHEAD)       # a hint only: what lies there is not looked at
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
        note_slots(&f, shape, to + head, source + head, slots)
        copy_words(to + head + slots, source + head + slots, n - head - slots)
        to += n
    finish_slots(&f)
    end = <word*>(buffer + h.unit_bytes)
    if to < end:
        memset(to, 0, <word>end - <word>to)


cdef void fix_slots(HeapState* h, const ShapeInfo* shape, word* at, uint64_t count) noexcept nogil:
    """Forwards `count` slots where they stand."""
    cdef Fixer f
    f.heap = h
    f.noted = 0
    note_in_place(&f, shape, at, count)
    finish_slots(&f)


cdef void fix_black_unit(HeapState* h, uint64_t from_unit) noexcept nogil:
    """Forwards the slots of a whole from-space unit in place: it will move as it is (I1)."""
    cdef word* at = <word*>(h.r.from_base + (from_unit << h.unit_shift))
    cdef word* end = at + h.unit_words
    cdef ShapeInfo* shape
    cdef uint64_t head
    cdef Fixer f
    f.heap = h
    f.noted = 0
    while at < end and at[0]:
        shape = &h.shapes[shape_of_header(at[0])]
        head = header_words(shape)
        note_in_place(&f, shape, at + head, object_slots(shape, <word>at))
        at += object_bytes(shape, <word>at) // WORD
    finish_slots(&f)


cdef inline bint goes_on(HeapState* h, uint64_t unit) noexcept nogil:
    """Whether the object across the end of a unit goes on in the next one of to-space."""
    return unit + 1 < h.r.slid_units and h.plan[unit + 1].straddle.words > 0


cdef void fix_dense_unit(HeapState* h, uint64_t unit) noexcept nogil:
    """The same for a dense chunk, which is parsed from what straddles into it on.  Dead objects in
    it have their slots forwarded too: to nowhere in particular, and nobody reads them.

    A dead one at its end whose rest stays behind is zeroed: the next plan may parse this memory
    again, and would take what then follows for that rest.
    """
    cdef Straddle* s = &h.plan[unit].straddle
    cdef word* at = <word*>(h.r.from_base + h.plan[unit].first * WORD)
    cdef word* end = at + h.unit_words
    cdef ShapeInfo* shape
    cdef uint64_t head, n
    cdef Fixer f
    f.heap = h
    f.noted = 0
    if s.slots:
        note_in_place(&f, &h.shapes[s.shape], at + s.skip, s.slots)
    at += s.words
    while at < end:
        if at[0] == 0:
            at += 1
            continue
        n = 2                   # its second word may lie in a unit that has moved on
        if at + 1 < end:
            shape = &h.shapes[shape_of_header(at[0])]
            n = object_bytes(shape, <word>at) // WORD
        if n > <uint64_t>(end - at) and not goes_on(h, unit):
            memset(at, 0, <word>end - <word>at)
            break
        if at + 1 < end:
            head = header_words(shape)
            note_in_place(&f, shape, at + head,
                          min(object_slots(shape, <word>at), <uint64_t>(end - at) - head))
        at += n
    finish_slots(&f)
