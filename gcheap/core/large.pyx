"""Large objects: page-aligned runs in spaces of their own, moved whole and never copied.

An object of more than half a unit lives in one of two large spaces, each with two halves, like
the small objects' space, that swap roles at the same flip:

    LARGE_RUNS   slot arrays and medium-sized raw ones, in whole units
    LARGE_HUGE   raw arrays of HUGE_LEAST bytes and more, in 2 MiB grains, aligned: where huge
                 pages back them, a MOVE of a grain edits one entry of a page table

What the small-object halves keep in live bits and headers stands here in a table with one entry
a **grain** (unit or 2 MiB): size, shape, mark, and where the object goes.  So marking, planning,
forwarding and moving a raw array read not one byte of it: pages in swap stay there, pages that
were never touched stay holes (ALLOW_SRC_HOLES).

    from-space half   | obj 0  | obj 1 (dead) | obj 2   | gap | black ...| top
                        0        1              4             tams
    to-space half     | obj 0  | obj 2   | black ...|   gap   |  allocation goes on here
                        0        1        slid      |         registered
                                                    grains

The slide keeps the order of objects and closes the gaps between them; black ones, allocated
since Mark Start, all shift by one distance.  A grain is a unit of relocation with the states of
core/units.pyx: whoever claims it fixes its slots *in place* (I1: from-space is written by the
owner of a whole-moved unit), then moves its pages.  Slot positions follow from the table, so no
header outside the grain is read.

Two tables, one a half: planning writes the marked objects' entries of to-space; those of black
objects follow after the flip (`adopt_black`), because nobody needs them before the next cycle.
"""
from gcheap.core.assemble cimport fix_slots
from gcheap.core.failpoint cimport FP_LARGE_CLAIMED, failpoint
from gcheap.core.layout cimport (
    HUGE_LEAST, HeapState, LARGE_HUGE, LARGE_RUNS, LARGE_SPACES, LargeRun, LargeSpace,
    MutatorState, SHAPE_RAW, SHAPE_SLOTS, ShapeInfo, WORD, word)
from gcheap.core.lockfree cimport bump_below
from gcheap.core.native cimport add64_relaxed, load64_relaxed, store32_relaxed, store64_relaxed
from gcheap.core.objects cimport header_words
from gcheap.core.pacing cimport ask_when_due
from gcheap.core.pagemap cimport forget_units
from gcheap.core.tlab cimport NO_ROOM, TAKEN, charge, discharge
from libc.stdint cimport uint32_t, uint64_t


cdef inline uint64_t grains_of(LargeSpace* s, uint64_t nbytes) noexcept nogil:
    return (nbytes + ((<uint64_t>1 << s.shift) - 1)) >> s.shift


# ---- allocation ----------------------------------------------------------------------------

cdef bint large_room(HeapState* h, uint64_t nbytes) noexcept nogil:
    """Whether an object of `nbytes` finds a place now, whichever of the spaces its shape wants."""
    cdef int i
    cdef LargeSpace* s
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        if i == LARGE_HUGE and nbytes < HUGE_LEAST:
            continue
        if load64_relaxed(&s.top) + grains_of(s, nbytes) > load64_relaxed(&s.limit):
            return False
    return True


cdef void enter_run(LargeRun* runs, uint64_t grain, uint64_t count, uint64_t nbytes,
                    uint32_t shape) noexcept nogil:
    """Writes the entries of one object."""
    cdef uint64_t i
    for i in range(grain, grain + count):
        runs[i].bytes = 0
        runs[i].first = <uint32_t>grain
    runs[grain].bytes = nbytes
    runs[grain].shape = shape


cdef int take_large(HeapState* h, MutatorState* m, uint64_t nbytes, uint32_t shape,
                    word* at) noexcept nogil:
    """A run of grains for one object, zeroed.

    Lock-free; called by running mutators, so that no flip can happen meanwhile, and the limit
    changes only inside a pause.
    """
    cdef bint huge = nbytes >= HUGE_LEAST and h.shapes[shape].kind == SHAPE_RAW
    cdef LargeSpace* s = &h.large[LARGE_HUGE if huge else LARGE_RUNS]
    cdef uint64_t seen, count = grains_of(s, nbytes)
    if charge(h, nbytes) != TAKEN:
        return NO_ROOM
    if not bump_below(&s.top, count, &s.limit, &seen):
        discharge(h, nbytes)
        return NO_ROOM
    failpoint(FP_LARGE_CLAIMED)
    # Capacity bounds the bytes; dead objects' addresses come back with a flip, asked for early.
    ask_when_due(h, seen + count > s.half_grains - s.half_grains // 4)
    enter_run(s.runs[h.current], seen, count, nbytes, shape)
    # Marking that is under way counts it as black; one that begins later has another epoch.
    store32_relaxed(&s.runs[h.current][seen].epoch, h.epoch)
    at[0] = s.base[h.current] + (seen << s.shift)
    add64_relaxed(&h.handed_out, nbytes)
    store64_relaxed(&m.allocated, m.allocated + nbytes)
    return TAKEN


# ---- the cycle -----------------------------------------------------------------------------

cdef void begin_large(HeapState* h) noexcept nogil:
    """Mark Start, inside the pause: what lies below TAMS will be marked or die."""
    cdef int i
    cdef LargeSpace* s
    store32_relaxed(&h.epoch, h.epoch + 1)
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        s.from_base = s.base[h.current]
        s.to_base = s.base[1 - h.current]
        s.from_runs = s.runs[h.current]
        s.to_runs = s.runs[1 - h.current]
        s.tams = load64_relaxed(&s.top)
        store64_relaxed(&s.from_grains, s.tams)     # resident_bytes of any thread reads it
        # A quarter of what is left stays for after the flip: to-space is registered up to
        # slid + (limit - tams), at most the limit.
        store64_relaxed(&s.limit, s.half_grains - (s.half_grains - s.tams) // 4)


cdef void bound_large(HeapState* h) noexcept nogil:
    """Mark End, inside the pause: how much may be allocated until the flip, which is close."""
    cdef int i
    cdef LargeSpace* s
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        store64_relaxed(&s.limit, min(
            s.limit, load64_relaxed(&s.top) + grains_of(s, h.capacity // 8)))


cdef void plan_large(HeapState* h) noexcept nogil:
    """Gives every marked object its place.  One pass over the entries below TAMS."""
    cdef int i
    cdef LargeSpace* s
    cdef LargeRun* run
    cdef uint64_t grain, count, to, k
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        to = grain = 0
        while grain < s.tams:
            run = &s.from_runs[grain]
            count = max(grains_of(s, run.bytes), <uint64_t>1)
            if run.bytes and run.epoch == h.epoch:
                run.other = <uint32_t>to
                enter_run(s.to_runs, to, count, run.bytes, run.shape)
                for k in range(count):
                    s.to_runs[to + k].other = <uint32_t>(grain + k)
                to += count
            grain += count
        s.slid = to
        s.black_shift = to - s.tams
        s.registered = to + (s.limit - s.tams)
        for k in range(to, s.registered):
            s.to_runs[k].bytes = 0      # the gap, until black objects are adopted
        forget_units(h, s.first_state, s.registered)


cdef void flip_large(HeapState* h) noexcept nogil:
    """The flip, inside the pause, before `current` changes."""
    cdef int i
    cdef LargeSpace* s
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        store64_relaxed(&s.from_grains, load64_relaxed(&s.top))
        s.grains = s.slid + (s.from_grains - s.tams)
        store64_relaxed(&s.top, s.registered)
        store64_relaxed(&s.limit, s.half_grains)


cdef void stay_large(HeapState* h) noexcept nogil:
    """The cycle does not relocate: what was not marked stays, as garbage, until one does."""
    cdef int i
    for i in range(LARGE_SPACES):
        store64_relaxed(&h.large[i].limit, h.large[i].half_grains)


cdef void adopt_black(LargeSpace* s) noexcept nogil:
    """Enters black objects into to-space's table.  Collector thread, after the flip."""
    cdef uint64_t grain = s.tams, count
    cdef LargeRun* run
    while grain < s.from_grains:
        run = &s.from_runs[grain]
        count = max(grains_of(s, run.bytes), <uint64_t>1)
        if run.bytes:
            enter_run(s.to_runs, grain + s.black_shift, count, run.bytes, run.shape)
        grain += count


# ---- slots ---------------------------------------------------------------------------------

cdef ShapeInfo* grain_slots(HeapState* h, LargeSpace* s, uint64_t source, uint64_t* begin,
                            uint64_t* end) noexcept nogil:
    """Which words of a from-space grain are slots, [begin, end) of its own; returns their shape.
    No header outside the grain is read."""
    cdef LargeRun* run = &s.from_runs[s.from_runs[source].first]
    cdef ShapeInfo* shape = &h.shapes[run.shape]
    cdef uint64_t words = <uint64_t>1 << (s.shift - 3)
    cdef uint64_t low = (source - s.from_runs[source].first) * words, high
    begin[0] = end[0] = 0
    if shape.kind != SHAPE_RAW:
        high = header_words(shape)
        begin[0] = max(high, low) - low
        high = run.bytes // WORD if shape.kind == SHAPE_SLOTS else high + shape.refs
        end[0] = max(begin[0], min(high - min(high, low), words))
    return shape


cdef void fix_grain(HeapState* h, LargeSpace* s, uint64_t source) noexcept nogil:
    """Forwards the slots of one from-space grain in place (I1); its owner calls it once (I7)."""
    cdef uint64_t begin, end
    cdef ShapeInfo* shape = grain_slots(h, s, source, &begin, &end)
    if begin < end:
        fix_slots(h, shape, <word*>grain_address(s, s.from_base, source) + begin, end - begin)
