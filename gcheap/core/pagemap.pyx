"""The page map: the state of every unit, read while the heap works.

Nobody is stopped and nothing is locked.  The bytes of `states`, `placed_by` and `chunk_states` are
atomic and each is right by itself; that they are of one relocation is what `Mapped.sequence` is
for, a sequence lock whose writer never waits:

    collector   plan: sequence = 0 | writes the tables | flip: sequence = 1 + flips | places units
    reader      sequence, the rest of Mapped, the tables, sequence again: the same, or once more

After a relocation the tables go on describing it, until the next plan: who placed each unit of
to-space, and how many words of each from-space chunk were live.  So the map of a heap between two
cycles shows the last slide from both ends.  From a plan to its flip, and after a cycle that did
not relocate, it shows only what is in use.  A reader that is overtaken MOST_TRIES times returns
what it has: every byte of it was true, if not all at one moment.

`shrink.pyx` may drop the counts of live words meanwhile.  They only ever rise from chunk to chunk,
so the first that falls is where they end.
"""
from gcheap.core.layout cimport (
    BLOCK_BYTES, CHUNK_FREE, CHUNK_IN_USE, HeapState, LARGE_SPACES, LargeSpace, Mapped,
    PHASE_FINISH, PHASE_RELOCATE, PLACED_BY_COMPACTOR, PLACED_BY_MUTATOR, UNCLAIMED, WORD)
from gcheap.core.native cimport (
    fence_seq, load32_acquire, load32_relaxed, load64_acquire, load64_relaxed, load8_acquire,
    load8_relaxed, store64_relaxed, store64_release, store8_relaxed)
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef enum:
    MOST_TRIES = 4
    EIGHT = 8


# ---- the writers' side -----------------------------------------------------------------------

cdef void begin_map(HeapState* h) noexcept nogil:
    """A plan begins: the tables describe nothing until its flip, if it comes to one."""
    store64_relaxed(&h.mapped.sequence, 0)
    fence_seq()                 # before the tables change


cdef void end_map(HeapState* h) noexcept nogil:
    """Inside the flip's pause, once the new halves, tops and the phase stand."""
    cdef int i
    store64_relaxed(&h.mapped.chunks, h.r.chunks)
    store64_relaxed(&h.mapped.from_units, h.r.from_bytes >> h.unit_shift)
    store64_relaxed(&h.mapped.old_gap, h.mapped.units)
    store64_relaxed(&h.mapped.old_gap_end, h.mapped.gap_end)
    store64_relaxed(&h.mapped.units, h.r.units)
    store64_relaxed(&h.mapped.gap_end, h.r.registered_bytes >> h.unit_shift)
    for i in range(LARGE_SPACES):
        store64_relaxed(&h.mapped.old_grain_gap[i], h.mapped.grains[i])
        store64_relaxed(&h.mapped.old_grain_gap_end[i], h.mapped.grain_gap_end[i])
        store64_relaxed(&h.mapped.grain_gap_end[i], h.large[i].registered)
        store64_relaxed(&h.mapped.grains[i], h.large[i].grains)
        store64_relaxed(&h.mapped.from_grains[i], h.large[i].from_grains)
    store64_release(&h.mapped.sequence, 1 + <uint64_t>h.flips)


cdef void forget_units(HeapState* h, uint64_t first, uint64_t count) noexcept nogil:
    """Makes units UNCLAIMED, and placed by nobody yet.  Relaxed: the flip publishes it."""
    cdef uint64_t i = first, end = first + count
    while i < end and i % EIGHT:
        store8_relaxed(&h.states[i], UNCLAIMED)
        store8_relaxed(&h.placed_by[i], PLACED_BY_COMPACTOR)
        i += 1
    while i + EIGHT <= end:     # both are 0
        store64_relaxed(<uint64_t*>&h.states[i], 0)
        store64_relaxed(<uint64_t*>&h.placed_by[i], 0)
        i += EIGHT
    while i < end:
        store8_relaxed(&h.states[i], UNCLAIMED)
        store8_relaxed(&h.placed_by[i], PLACED_BY_COMPACTOR)
        i += 1


# ---- the readers' side -----------------------------------------------------------------------

cdef struct Writer:             # where the next row goes
    UnitRow* rows
    uint64_t count
    uint64_t room


cdef inline void put(Writer* w, uint32_t space, uint32_t half, bint current, uint64_t unit,
                     uint8_t state, uint8_t by, int32_t live_bytes) noexcept nogil:
    cdef UnitRow* row
    if w.count < w.room:
        row = &w.rows[w.count]
        row.unit = <uint32_t>unit
        row.space = <uint8_t>space
        row.half = <uint8_t>half
        row.current = current
        row.state = state
        row.by = by
        row.live_bytes = live_bytes
    w.count += 1


cdef inline uint8_t owner_of(HeapState* h, uint64_t index, uint8_t state) noexcept nogil:
    if state != MAP_PLACED:
        return MAP_NOBODY
    # Relaxed: the acquire that read PLACED came first.
    if load8_relaxed(&h.placed_by[index]) == PLACED_BY_MUTATOR:
        return MAP_MUTATOR
    return MAP_COMPACTOR


cdef uint64_t top_units(HeapState* h, int space) noexcept nogil:
    """Units, or grains, handed out in the current half."""
    if space:
        return load64_relaxed(&h.large[space - 1].top)
    return load64_relaxed(&h.top) >> h.unit_shift


cdef void map_current(HeapState* h, Writer* w, int space, uint32_t half, const Mapped* m,
                      uint64_t first_state, uint64_t planned, uint64_t gap_end) noexcept nogil:
    """The half that mutators allocate in: units of the last relocation, a gap that nobody was
    given, and what was handed out since."""
    cdef uint64_t unit, top = top_units(h, space)
    cdef uint8_t state
    for unit in range(top):
        if unit < planned and m.sequence:
            # Acquire: whoever sees PLACED sees who did it.
            state = MAP_UNCLAIMED + load8_acquire(&h.states[first_state + unit])
            put(w, space, half, True, unit, state, owner_of(h, first_state + unit, state), -1)
        else:
            state = MAP_EMPTY if planned <= unit < gap_end else MAP_USED
            put(w, space, half, True, unit, state, MAP_NOBODY, -1)


cdef uint8_t chunk_state(HeapState* h, const Mapped* m, uint64_t chunk,
                         bint relocating) noexcept nogil:
    cdef uint64_t unit = m.units - m.from_units + chunk     # of a black chunk
    cdef uint8_t state
    if not relocating or m.old_gap <= chunk < m.old_gap_end:
        return MAP_EMPTY
    if chunk >= m.chunks:
        if unit >= h.half_units:        # torn: the sequence will have changed
            return MAP_SOURCE
        state = load8_acquire(&h.states[unit])
        return MAP_TAKEN if MAP_UNCLAIMED + state == MAP_PLACED else MAP_SOURCE
    state = load8_acquire(&h.chunk_states[chunk])
    if state == CHUNK_IN_USE:
        return MAP_SOURCE
    return MAP_EVACUATED if state == CHUNK_FREE else MAP_TAKEN


cdef void map_old(HeapState* h, Writer* w, const Mapped* m, uint32_t half,
                  bint relocating) noexcept nogil:
    """From-space of the last relocation, with what was live in each chunk."""
    cdef uint64_t per_chunk = h.unit_bytes // BLOCK_BYTES, c
    cdef uint32_t before = 0, after
    cdef int32_t live
    cdef bint known = load32_relaxed(&h.blocks[m.chunks * per_chunk].before) > 0
    for c in range(m.from_units):
        live = -1
        if c >= m.chunks:
            live = <int32_t>h.unit_bytes        # black: all of it counts as live
        elif known:
            after = load32_relaxed(&h.blocks[(c + 1) * per_chunk].before)
            known = after >= before
            if known:           # the padding before a dense run is no chunk's
                live = <int32_t>min(<uint64_t>(after - before) * WORD, h.unit_bytes)
            before = after
        put(w, 0, half, False, c, chunk_state(h, m, c, relocating), MAP_NOBODY, live)


cdef void read_mapped(HeapState* h, Mapped* m) noexcept nogil:
    cdef int i
    m.sequence = load64_acquire(&h.mapped.sequence)
    m.chunks = load64_relaxed(&h.mapped.chunks)
    m.from_units = load64_relaxed(&h.mapped.from_units)
    m.units = load64_relaxed(&h.mapped.units)
    m.gap_end = load64_relaxed(&h.mapped.gap_end)
    m.old_gap = load64_relaxed(&h.mapped.old_gap)
    m.old_gap_end = load64_relaxed(&h.mapped.old_gap_end)
    for i in range(LARGE_SPACES):
        m.grains[i] = load64_relaxed(&h.mapped.grains[i])
        m.from_grains[i] = load64_relaxed(&h.mapped.from_grains[i])
        m.grain_gap_end[i] = load64_relaxed(&h.mapped.grain_gap_end[i])
        m.old_grain_gap[i] = load64_relaxed(&h.mapped.old_grain_gap[i])
        m.old_grain_gap_end[i] = load64_relaxed(&h.mapped.old_grain_gap_end[i])


cdef bint read_once(HeapState* h, Writer* w) noexcept nogil:
    """False: a plan or a flip came in between."""
    cdef Mapped m
    cdef LargeSpace* s
    cdef uint32_t half, phase
    cdef uint64_t grain
    cdef bint relocating
    cdef int i
    w.count = 0
    read_mapped(h, &m)
    half = load32_relaxed(&h.current)
    phase = load32_acquire(&h.phase)
    relocating = m.sequence != 0 and (phase == PHASE_RELOCATE or phase == PHASE_FINISH)
    map_current(h, w, 0, half, &m, 0, m.units, m.gap_end)
    if m.sequence:
        map_old(h, w, &m, 1 - half, relocating)
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        map_current(h, w, 1 + i, half, &m, s.first_state, m.grains[i], m.grain_gap_end[i])
        if relocating:          # which of them have gone, only tables tell that may be dropped
            for grain in range(m.from_grains[i]):
                put(w, 1 + i, 1 - half, False, grain,
                    MAP_EMPTY if m.old_grain_gap[i] <= grain < m.old_grain_gap_end[i]
                    else MAP_SOURCE, MAP_NOBODY, -1)
    fence_seq()                 # all of it before the sequence is read again
    return load64_relaxed(&h.mapped.sequence) == m.sequence


cdef uint64_t map_rows(HeapState* h) noexcept nogil:
    """About how many rows there are now."""
    cdef uint64_t rows = top_units(h, 0) + load64_relaxed(&h.mapped.from_units)
    cdef int i
    for i in range(LARGE_SPACES):
        rows += top_units(h, 1 + i) + load64_relaxed(&h.mapped.from_grains[i])
    return rows


cdef uint64_t read_map(HeapState* h, UnitRow* rows, uint64_t room) noexcept nogil:
    """The map, half by half in order of units; returns how many rows there are, of which the first
    `room` were written.  The halves that hold nothing, and the ends that were never handed out,
    have no rows."""
    cdef Writer w
    cdef int _i
    w.rows = rows
    w.room = room
    for _i in range(MOST_TRIES):
        if read_once(h, &w):
            break
    return w.count
