"""Planning the slide: one pass over the blocks, then the units, then the chunks.

The live words below TAMS keep their order and close ranks: word number n of them goes to word
n of to-space.  Prefix sums over blocks make that a table lookup and a popcount (`forward`).
For each to-space unit the plan says at which from-space word it begins, and, where an object
straddles the boundary, what of it lies in this unit: assembly must read no header outside its
own source range, because that header may lie in a page that is gone already (I3).

Instead of a second bitmap of object starts, each block remembers its lowest start (it costs
nothing at mark time: the block's line is being written anyway).  Which object covers a given
live word is found by walking headers from there; all of from-space is still intact here.

Chunks that are live but for a few words move whole, garbage and all (`sum_blocks`), like units
above TAMS, which are black: those keep their layout and shift by a whole number of units.

Source: the offset vector and first-object arrays of Android ART's mark-compact collector
(runtime/gc/collector/mark_compact.h), after Kermany and Petrank's Compressor (PLDI 2006).
"""
from gcheap.core.layout cimport (
    BLOCK_BYTES, BLOCK_WORDS, Block, CHUNK_FREE, CHUNK_IN_USE, HeapState, NO_START, ShapeInfo,
    UnitPlan, WORD, word)
from gcheap.core.native cimport (
    check_that, load64_relaxed, popcount, select_bit, store32_relaxed, store64_relaxed,
    store8_relaxed)
from gcheap.core.objects cimport header_words, object_bytes, object_slots, shape_of_header
from gcheap.core.pagemap cimport begin_map, forget_units
from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    DENSE = 20                  # a chunk of whose words at most one in so many is dead is dense
    WASTE = 16                  # at most one word of waste for so many live ones
    LEAST_RUN = 16              # chunks of a run that is worth padding


cdef uint64_t count_chunks(HeapState* h) noexcept nogil:
    """The live words of each chunk, kept in `readers` until plan_chunks; returns their sum."""
    cdef uint64_t per_chunk = h.unit_bytes // BLOCK_BYTES, c, i, n, total = 0
    cdef Block* block = h.blocks
    for c in range(h.r.chunks):
        n = 0
        for i in range(per_chunk):
            n += popcount(block[i].live)
        block += per_chunk
        h.readers[c] = <uint32_t>n
        total += n
    return total


cdef uint64_t dense_run(HeapState* h, uint64_t chunk, uint64_t least) noexcept nogil:
    """How many chunks from `chunk` on may move whole; 0 where no object starts exactly there,
    because one that straddles in must stay in one piece with its head."""
    cdef Block* block = &h.blocks[chunk * (h.unit_bytes // BLOCK_BYTES)]
    cdef uint64_t end = chunk
    if block.live & 1 and block.first_start == 0:
        while end < h.r.chunks and h.readers[end] >= least:
            end += 1
    return end - chunk


cdef void sum_whole(HeapState* h, uint64_t chunk, uint64_t total) noexcept nogil:
    """A dense chunk goes to word `total` of to-space as it stands: its garbage counts as live, so
    that one formula forwards everything."""
    cdef uint64_t per_chunk = h.unit_bytes // BLOCK_BYTES, i
    cdef Block* block = &h.blocks[chunk * per_chunk]
    cdef UnitPlan* u = &h.plan[total // h.unit_words]
    u.first = chunk * h.unit_words
    u.words = <uint32_t>h.unit_words
    u.whole = 1
    h.r.dense_units += 1
    for i in range(per_chunk):
        # Relaxed, here and below: pagemap.pyx may be reading, and a mutator in weak_load, which
        # learns from its cell that what it looks up has died.
        store32_relaxed(&block[i].before, <uint32_t>(total + i * BLOCK_WORDS))
        store64_relaxed(&block[i].live, <uint64_t>-1)


cdef uint64_t sum_chunk(HeapState* h, uint64_t chunk, uint64_t total) noexcept nogil:
    """Closes the ranks of one chunk's live words from word `total` on; returns the new total."""
    cdef uint64_t per_chunk = h.unit_bytes // BLOCK_BYTES, i, n
    cdef uint64_t boundary = (total + h.unit_words - 1) // h.unit_words * h.unit_words
    cdef Block* block = &h.blocks[chunk * per_chunk]
    cdef UnitPlan* u
    for i in range(chunk * per_chunk, (chunk + 1) * per_chunk):
        store32_relaxed(&block.before, <uint32_t>total)
        n = popcount(block.live)
        while boundary < total + n:
            u = &h.plan[boundary // h.unit_words]
            u.first = i * BLOCK_WORDS + select_bit(block.live, <unsigned>(boundary - total))
            u.words = <uint32_t>h.unit_words
            u.whole = 0
            boundary += h.unit_words
        total += n
        block += 1
    return total


cdef uint64_t sum_blocks(HeapState* h, bint full) noexcept nogil:
    """Fills `before` of every block, `first`, `words` and `whole` of every unit; returns the words
    of the slide.

    A run of dense chunks (at most 5 % dead) keeps its garbage and moves whole: it begins at a
    unit of to-space, if need be behind padding.  Garbage and padding together stay below 1/WASTE
    of the live words.  A full slide has neither: there only chunks without a dead word that
    happen to lie right move whole, as an old and unchanged beginning of the heap does.
    """
    cdef uint64_t live = count_chunks(h), total = 0, c, run_end = 0, run, pad
    cdef uint64_t budget = 0 if full else live // WASTE
    cdef uint64_t least = h.unit_words - (0 if full else h.unit_words // DENSE)
    cdef uint64_t spare = budget
    h.r.dense_units = 0
    for c in range(h.r.chunks):
        if c >= run_end and h.readers[c] >= least:
            pad = (h.unit_words - total % h.unit_words) % h.unit_words
            # Looked for only where it could be used: runs are long, and begin anywhere.
            run = dense_run(h, c, least) if pad <= spare else 0
            if run and (pad == 0 or run >= LEAST_RUN):
                run_end = c + run
                if pad:
                    h.plan[total // h.unit_words].words = <uint32_t>(total % h.unit_words)
                    total += pad
                    spare -= pad
        if c < run_end and h.unit_words - h.readers[c] <= spare:
            spare -= h.unit_words - h.readers[c]
            sum_whole(h, c, total)
            total += h.unit_words
        else:
            run_end = c         # what follows in this run is no longer aligned
            total = sum_chunk(h, c, total)
    if total % h.unit_words:
        h.plan[total // h.unit_words].words = <uint32_t>(total % h.unit_words)
    h.r.wasted_words = budget - spare
    store32_relaxed(&h.blocks[h.r.chunks * (h.unit_bytes // BLOCK_BYTES)].before,
                    <uint32_t>total)
    h.blocks[h.r.chunks * (h.unit_bytes // BLOCK_BYTES)].live = 0
    h.blocks[h.r.chunks * (h.unit_bytes // BLOCK_BYTES)].first_start = NO_START
    return total


cdef uint64_t object_at(HeapState* h, uint64_t index, uint64_t* end) noexcept nogil:
    """The start (and end) of the object that covers live word `index`.  Inside a dense run that
    may be a dead one, or a zero word behind the last object of a TLAB."""
    cdef uint64_t b = index // BLOCK_WORDS, start
    cdef word obj, header
    if h.blocks[b].first_start > index % BLOCK_WORDS:
        check_that(b > 0, b"a live word belongs to no object (index)", index, 0)
        b -= 1
        while h.blocks[b].first_start == NO_START:
            check_that(b > 0, b"a live word belongs to no object (index)", index, 0)
            b -= 1
    start = b * BLOCK_WORDS + h.blocks[b].first_start
    while True:
        obj = h.r.from_base + start * WORD
        header = load64_relaxed(<word*>obj)     # a mutator may give it its hash now
        end[0] = start + 1
        if header:
            end[0] = start + object_bytes(&h.shapes[shape_of_header(header)], obj) // WORD
        if end[0] > index:
            return start
        start = next_live(h, end[0])


cdef void plan_straddles(HeapState* h) noexcept nogil:
    cdef uint64_t t, start, end, first, slots_begin, slots_end
    cdef UnitPlan* u
    cdef ShapeInfo* shape
    cdef word obj
    for t in range(h.r.slid_units):
        u = &h.plan[t]
        first = u.first
        start = object_at(h, first, &end)
        u.straddle.words = u.straddle.slots = 0
        u.straddle.skip = 0
        if start == first:
            continue
        obj = h.r.from_base + start * WORD
        u.straddle.shape = shape_of_header(load64_relaxed(<word*>obj))
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
    cdef uint64_t c, low, high, pool = 0
    for c in range(h.r.chunks):
        low = h.blocks[c * (h.unit_bytes // BLOCK_BYTES)].before
        high = h.blocks[(c + 1) * (h.unit_bytes // BLOCK_BYTES)].before
        if high == low:
            h.readers[c] = 0
            store8_relaxed(&h.chunk_states[c], CHUNK_FREE)
            pool += h.unit_bytes
        else:
            h.readers[c] = <uint32_t>((high - 1) // h.unit_words - low // h.unit_words + 1)
            store8_relaxed(&h.chunk_states[c], CHUNK_IN_USE)
    store64_relaxed(&h.pool_bytes, pool)


cdef void plan(HeapState* h, bint full) noexcept nogil:
    """Plans the slide of what is marked below TAMS.  Mutators may run; they touch none of it.

    Needs r.from_base, r.tams_bytes and r.to_base; fills the rest of `r` except what the flip
    alone knows (from_bytes, units).  `full`: not a word of waste.
    """
    begin_map(h)
    h.r.chunks = h.r.tams_bytes >> h.unit_shift
    h.r.slid_words = sum_blocks(h, full)
    h.r.slid_units = (h.r.slid_words + h.unit_words - 1) // h.unit_words
    h.r.black_shift = h.r.slid_units * h.unit_bytes - h.r.tams_bytes
    plan_straddles(h)
    plan_chunks(h)
    h.r.registered_bytes = (h.r.slid_units * h.unit_bytes
                            + (h.alloc_limit - h.r.tams_bytes))
    forget_units(h, 0, h.r.registered_bytes >> h.unit_shift)
    h.r.take_cursor = h.r.release_cursor = h.r.free_hint = 0
