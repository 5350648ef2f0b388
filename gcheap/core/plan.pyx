"""Planning the slide: one pass over the blocks, then the units, then the chunks.

The live words below TAMS keep their order and close ranks: word number n of them goes to word
n of to-space.  Prefix sums over blocks make that a table lookup and a popcount (`forward`).
For each to-space unit the plan says at which from-space word it begins, and, where an object
straddles the boundary, what of it lies in this unit: assembly must read no header outside its
own source range, because that header may lie in a page that is gone already (I3).

Instead of a second bitmap of object starts, each block remembers its lowest start (it costs
nothing at mark time: the block's line is being written anyway).  Which object covers a given
live word is found by walking headers from there; all of from-space is still intact here.

Units above TAMS are black: they keep their layout and shift by a whole number of units.

Source: the offset vector and first-object arrays of Android ART's mark-compact collector
(runtime/gc/collector/mark_compact.h), after Kermany and Petrank's Compressor (PLDI 2006).
"""
from gcheap.core.layout cimport (
    BLOCK_BYTES, BLOCK_WORDS, Block, CHUNK_FREE, CHUNK_IN_USE, HeapState, NO_START, ShapeInfo,
    UNCLAIMED, UnitPlan, WORD, word)
from gcheap.core.native cimport check_that, popcount, select_bit
from gcheap.core.objects cimport header_words, object_bytes, object_slots, shape_of_header
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset


cdef uint64_t sum_blocks(HeapState* h) noexcept nogil:
    """Fills `before` of every block and `first` of every unit; returns the live words."""
    cdef uint64_t blocks = h.r.tams_bytes // BLOCK_BYTES
    cdef uint64_t total = 0, boundary = 0, unit = 0, i, n
    cdef Block* block = h.blocks
    for i in range(blocks):
        block.before = <uint32_t>total
        n = popcount(block.live)
        while boundary < total + n:
            h.plan[unit].first = i * BLOCK_WORDS + select_bit(block.live,
                                                              <unsigned>(boundary - total))
            unit += 1
            boundary += h.unit_words
        total += n
        block += 1
    block.before = <uint32_t>total
    block.live = 0
    block.first_start = NO_START
    return total


cdef uint64_t object_at(HeapState* h, uint64_t index, uint64_t* end) noexcept nogil:
    """The start (and end) of the live object that covers live word `index`."""
    cdef uint64_t b = index // BLOCK_WORDS, start
    cdef word obj
    if h.blocks[b].first_start > index % BLOCK_WORDS:
        check_that(b > 0, b"a live word belongs to no object (index)", index, 0)
        b -= 1
        while h.blocks[b].first_start == NO_START:
            check_that(b > 0, b"a live word belongs to no object (index)", index, 0)
            b -= 1
    start = b * BLOCK_WORDS + h.blocks[b].first_start
    while True:
        obj = h.r.from_base + start * WORD
        end[0] = start + object_bytes(&h.shapes[shape_of_header((<word*>obj)[0])], obj) // WORD
        if end[0] > index:
            return start
        start = next_live(h, end[0])


cdef void plan_straddles(HeapState* h) noexcept nogil:
    cdef uint64_t t, start = 0, end = 0, first, slots_begin, slots_end
    cdef UnitPlan* u
    cdef ShapeInfo* shape
    cdef word obj
    for t in range(h.r.slid_units):
        u = &h.plan[t]
        first = u.first
        # A large object covers many units: it is looked up once.
        if first >= end:
            start = object_at(h, first, &end)
        u.straddle.words = u.straddle.slots = 0
        u.straddle.skip = 0
        if start == first:
            continue
        obj = h.r.from_base + start * WORD
        u.straddle.shape = shape_of_header((<word*>obj)[0])
        shape = &h.shapes[u.straddle.shape]
        u.straddle.words = min(end - first, h.unit_words)
        slots_begin = max(start + header_words(shape), first)
        slots_end = min(start + header_words(shape) + object_slots(shape, obj),
                        first + u.straddle.words)
        if slots_end > slots_begin:
            u.straddle.skip = <uint32_t>(slots_begin - first)
            u.straddle.slots = slots_end - slots_begin


cdef void plan_chunks(HeapState* h) noexcept nogil:
    """How many units read each from-space chunk (I3); one that nobody reads is free at once."""
    cdef uint64_t c, low, high
    for c in range(h.r.chunks):
        low = h.blocks[c * (h.unit_bytes // BLOCK_BYTES)].before
        high = h.blocks[(c + 1) * (h.unit_bytes // BLOCK_BYTES)].before
        if high == low:
            h.readers[c] = 0
            h.chunk_states[c] = CHUNK_FREE
        else:
            h.readers[c] = <uint32_t>((high - 1) // h.unit_words - low // h.unit_words + 1)
            h.chunk_states[c] = CHUNK_IN_USE


cdef void plan(HeapState* h) noexcept nogil:
    """Plans the slide of what is marked below TAMS.  Mutators may run; they touch none of it.

    Needs r.from_base, r.tams_bytes and r.to_base; fills the rest of `r` except what the flip
    alone knows (from_bytes, units).
    """
    h.r.slid_words = sum_blocks(h)
    h.r.slid_units = (h.r.slid_words + h.unit_words - 1) // h.unit_words
    h.r.black_shift = h.r.slid_units * h.unit_bytes - h.r.tams_bytes
    h.r.chunks = h.r.tams_bytes >> h.unit_shift
    plan_straddles(h)
    plan_chunks(h)
    h.r.registered_bytes = (h.r.slid_units * h.unit_bytes
                            + (h.alloc_limit - h.r.tams_bytes))
    memset(h.states, UNCLAIMED, h.r.registered_bytes >> h.unit_shift)
    h.r.take_cursor = h.r.release_cursor = h.r.free_hint = 0
