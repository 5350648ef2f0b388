"""Address space: the two halves, the side tables, and handing out units.

    reservation   | guard | half 0 ........ | guard | half 1 ........ | guard |
                            2 MiB aligned             2 MiB aligned

Each half is one VMA and stays one: it owns its anon_vma before the first REGISTER (one word
is written and its page dropped), because two parts of a VMA that got their anon_vma apart
never merge again, and a MOVE across such a seam is EINVAL.  Inaccessible guards keep the
halves from merging with each other.  Halves are MADV_NOHUGEPAGE: moving small pages out of a
huge one costs a split.

`used` counts bytes of objects as `capacity` does: whole TLABs when they are handed out, large
objects by their size; a cycle replaces what it marked by the exact live bytes.
"""
from gcheap.core.layout cimport (
    Block, HANDLE_CHUNK, HeapState, MutatorState, SatbBuffer, ShapeInfo, SHAPE_SLOTS,
    Straddle, UnitPlan, WORD, word)
from gcheap.core.native cimport (
    add64_relaxed, cas64, fence_seq, load32_acquire, load32_relaxed, load64_relaxed,
    store32_relaxed, store32_release, store64_relaxed, sub32_acq_rel, sub64_relaxed)
from gcheap.core.objects cimport header_words
from gcheap.core.registry cimport strike_heap
from gcheap.core.requests cimport request_cycle
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.mman cimport (
    MADV_DONTNEED, MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_PRIVATE, PROT_NONE, PROT_READ,
    PROT_WRITE, madvise, mmap, munlock, munmap)

cdef extern from "<sys/mman.h>" nogil:
    int MAP_NORESERVE
    int MADV_NOHUGEPAGE
    int MADV_DONTFORK
    int mincore(void* at, size_t length, unsigned char* vec)

cdef enum:
    MADV_POPULATE_WRITE = 23    # libc headers older than 2.35 lack it
    HUGE = 2 << 20
    GUARD = 2 << 20


cdef inline uint64_t round_up(uint64_t value, uint64_t grain) noexcept nogil:
    return (value + grain - 1) // grain * grain


cdef word map_memory(word at, uint64_t nbytes, int protection) noexcept nogil:
    """Private anonymous memory without swap reservation; 0 when refused (errno says why)."""
    cdef int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    cdef void* got = mmap(<void*>at, nbytes, protection, flags | (MAP_FIXED if at else 0), -1, 0)
    return 0 if got == MAP_FAILED else <word>got


cdef int open_half(word at, uint64_t nbytes) noexcept nogil:
    if not map_memory(at, nbytes, PROT_READ | PROT_WRITE):
        return errno
    # mlockall(MCL_FUTURE) has populated and locked it: MOVE needs both sides alike, and a
    # populated to-space would refuse every page with EEXIST.
    munlock(<void*>at, nbytes)
    madvise(<void*>at, nbytes, MADV_NOHUGEPAGE)     # refused without THP: fine
    (<word*>at)[0] = 1
    madvise(<void*>at, nbytes, MADV_DONTNEED)
    return 0


cdef int reserve_space(HeapState* h) noexcept nogil:
    """Maps the halves and the side tables of a heap whose geometry fields are set."""
    cdef uint64_t units = h.half_units
    cdef uint64_t blocks = h.half_bytes // 512 + 1          # one sentinel
    cdef uint64_t sizes[10]
    cdef word at
    cdef uint64_t total = 0
    cdef uint64_t staging = h.batch_units * h.unit_bytes
    cdef int i, error
    h.reservation_bytes = 2 * h.half_bytes + 3 * GUARD + HUGE
    h.reservation = map_memory(0, h.reservation_bytes, PROT_NONE)
    if h.reservation == 0:
        return errno
    at = round_up(h.reservation + GUARD, HUGE)
    for i in range(2):
        h.base[i] = at
        error = open_half(at, h.half_bytes)
        if error:
            return error
        at += round_up(h.half_bytes, HUGE) + GUARD
    sizes[0] = blocks * sizeof(Block)
    sizes[1] = (units + 1) * sizeof(UnitPlan)
    sizes[2] = (units + 1) * sizeof(Straddle)
    sizes[3] = units
    sizes[4] = units
    sizes[5] = units * sizeof(uint32_t)
    # Objects are at least 16 bytes and each is pushed once: this stack cannot overflow.
    sizes[6] = h.half_bytes // 2
    sizes[7] = 2 * (h.half_bytes // 64) + h.page if h.verify else 0
    sizes[8] = staging
    sizes[9] = sizes[2]
    for i in range(10):
        sizes[i] = round_up(sizes[i], h.page)
        total += sizes[i]
    h.side_bytes = total
    at = map_memory(0, total, PROT_READ | PROT_WRITE)
    if at == 0:
        return errno
    munlock(<void*>at, total)
    madvise(<void*>at, total, MADV_NOHUGEPAGE)
    h.blocks = <Block*>at
    at += sizes[0]
    h.plan = <UnitPlan*>at
    at += sizes[1]
    h.straddle[0] = <Straddle*>at
    at += sizes[2]
    h.straddle[1] = <Straddle*>at
    at += sizes[9]
    h.states = <uint8_t*>at
    at += sizes[3]
    h.chunk_states = <uint8_t*>at
    at += sizes[4]
    h.readers = <uint32_t*>at
    at += sizes[5]
    h.mark_stack = <word*>at
    at += sizes[6]
    h.visited = <uint64_t*>at if h.verify else NULL
    at += sizes[7]
    h.staging = at
    if h.fork_none and (madvise(<void*>h.reservation, h.reservation_bytes, MADV_DONTFORK) != 0
                        or madvise(h.blocks, total, MADV_DONTFORK) != 0):
        return errno
    return 0


cdef void release_space(HeapState* h) noexcept nogil:
    if h.reservation:
        munmap(<void*>h.reservation, h.reservation_bytes)
        h.reservation = 0
    if h.blocks != NULL:
        munmap(h.blocks, h.side_bytes)
        h.blocks = NULL


cdef void release_heap(HeapState* h) noexcept nogil:
    """Lets go of the state; the last of its owners frees it.  A thread may end, and so detach,
    long after the heap was closed and its Python object is gone."""
    cdef uint64_t i
    cdef SatbBuffer* buffer
    if sub32_acq_rel(&h.refs, 1) != 1:
        return
    strike_heap(h)
    while h.satb_full:
        buffer = <SatbBuffer*>h.satb_full
        h.satb_full = <uint64_t>buffer.next
        free(buffer)
    free(h.shapes)
    if h.handles != NULL:
        for i in range(h.handle_high // HANDLE_CHUNK):
            free(h.handles[i])
        free(h.handles)
    free(h.events)
    free(h.reach_hist)
    free(h.retired.fault_hist)
    free(h)


cdef void empty_half(HeapState* h, word base) noexcept nogil:
    """Drops every page of a half, and their page tables with them: a leftover page table makes
    a later huge-page MOVE split.

    Memory that somebody locked (mlockall) cannot be dropped, and MOVE wants both its sides locked
    or neither: then both halves are unlocked.
    """
    if madvise(<void*>base, h.half_bytes, MADV_DONTNEED) == 0:
        return
    munlock(<void*>h.base[0], h.half_bytes)
    munlock(<void*>h.base[1], h.half_bytes)
    if madvise(<void*>base, h.half_bytes, MADV_DONTNEED) != 0:
        memset(<void*>base, 0, h.half_bytes)    # TLABs must be zero when they are handed out


cdef int new_bounce(HeapState* h, word* at) noexcept nogil:
    """A unit-sized, pre-faulted buffer (I3); the caller frees it with free_bounce."""
    at[0] = map_memory(0, h.unit_bytes, PROT_READ | PROT_WRITE)
    if at[0] == 0:
        return errno
    munlock(<void*>at[0], h.unit_bytes)
    madvise(<void*>at[0], h.unit_bytes, MADV_NOHUGEPAGE)
    memset(<void*>at[0], 0, h.unit_bytes)
    return 0


cdef void free_bounce(HeapState* h, word at) noexcept nogil:
    if at:
        munmap(<void*>at, h.unit_bytes)


# ---- handing out -------------------------------------------------------------------------

cdef bint has_room(HeapState* h, uint64_t nbytes) noexcept nogil:
    """Whether an object of `nbytes` could be placed now (others may take the room first)."""
    cdef uint64_t count = nbytes if nbytes > h.large_bytes else h.tlab_bytes
    return (load64_relaxed(&h.used) + count <= h.capacity
            and load64_relaxed(&h.top) + round_up(count, h.unit_bytes)
            <= load64_relaxed(&h.alloc_limit))


cdef int take_units(HeapState* h, uint64_t nbytes, uint64_t count, word* at) noexcept nogil:
    """Units for `nbytes` at the top of the current half, `count` of them charged to `used`.

    Lock-free; called by running mutators, so that no flip can happen meanwhile, and
    alloc_limit changes only inside a pause.  Relaxed: the memory itself is handed over by
    the pause that made it available.
    """
    cdef uint64_t seen, charged, goal, size = round_up(nbytes, h.unit_bytes)
    while True:
        seen = load64_relaxed(&h.used)
        if seen + count > h.capacity:
            return NO_ROOM
        if cas64(&h.used, seen, seen + count):
            break
    charged = seen + count
    while True:
        seen = load64_relaxed(&h.top)
        if seen + size > load64_relaxed(&h.alloc_limit):
            sub64_relaxed(&h.used, count)
            return NO_ROOM
        if cas64(&h.top, seen, seen + size):
            break
    # The goal leaves as much address space free as bytes: large runs may use up to twice theirs.
    goal = load64_relaxed(&h.goal)
    if ((charged > goal or seen + size + (h.capacity - goal) > load64_relaxed(&h.alloc_limit))
            and load64_relaxed(&h.requested) <= load64_relaxed(&h.finished)):
        request_cycle(h, False)
    at[0] = h.base[h.current] + seen
    add64_relaxed(&h.handed_out, count)
    return TAKEN


cdef void set_tlab(MutatorState* m, word top, word end, word limit) noexcept nogil:
    """Replaces a mutator's place of allocation, and accounts what it allocated in the old one.
    stats() of another thread may be reading: a seqlock."""
    store32_relaxed(&m.tlab_changes, m.tlab_changes + 1)
    fence_seq()
    store64_relaxed(&m.allocated, m.allocated + (m.tlab_top - m.tlab_start))
    store64_relaxed(&m.tlab_start, top)
    store64_relaxed(&m.tlab_top, top)
    m.tlab_end = end
    m.tlab_limit = limit
    store32_release(&m.tlab_changes, m.tlab_changes + 1)


cdef uint64_t allocated_by(MutatorState* m) noexcept nogil:
    """Bytes of objects a mutator has allocated; from any thread."""
    cdef uint32_t seen
    cdef uint64_t nbytes
    while True:
        seen = load32_acquire(&m.tlab_changes)
        nbytes = load64_relaxed(&m.allocated) + (
            load64_relaxed(&m.tlab_top) - load64_relaxed(&m.tlab_start))
        fence_seq()
        if not seen & 1 and load32_relaxed(&m.tlab_changes) == seen:
            return nbytes


cdef int take_tlab(HeapState* h, MutatorState* m) noexcept nogil:
    """Gives a mutator its next unit: the rest of its TLAB first, then a new TLAB."""
    cdef word at
    cdef uint64_t unit, i
    if m.tlab_end < m.tlab_limit:
        set_tlab(m, m.tlab_end, m.tlab_end + h.unit_bytes, m.tlab_limit)
        return TAKEN
    if take_units(h, h.tlab_bytes, h.tlab_bytes, &at) != TAKEN:
        return NO_ROOM
    unit = (at - h.base[h.current]) >> h.unit_shift
    for i in range(h.tlab_bytes >> h.unit_shift):
        h.straddle[h.current][unit + i].words = 0
    # One call instead of a page fault per page; where it is unknown (before Linux 5.14) the
    # faults do the same work.
    madvise(<void*>at, h.tlab_bytes, MADV_POPULATE_WRITE)
    set_tlab(m, at, at + h.unit_bytes, at + h.tlab_bytes)
    return TAKEN


cdef int take_large(HeapState* h, MutatorState* m, uint64_t nbytes, uint32_t shape,
                    uint64_t length, word* at) noexcept nogil:
    """A run of units for one object.  Each unit but the first is told what runs into it, so
    that it can be fixed alone even when the unit with the header has moved on."""
    cdef uint64_t unit, i, words = nbytes // WORD, past
    cdef uint64_t slots_end
    cdef ShapeInfo* info = &h.shapes[shape]
    cdef Straddle* s
    if take_units(h, nbytes, nbytes, at) != TAKEN:
        return NO_ROOM
    slots_end = header_words(info)
    if info.kind == SHAPE_SLOTS:
        slots_end += length
    else:
        slots_end += info.refs
    unit = (at[0] - h.base[h.current]) >> h.unit_shift
    for i in range(round_up(nbytes, h.unit_bytes) >> h.unit_shift):
        s = &h.straddle[h.current][unit + i]
        past = i * h.unit_words
        s.words = min(words - past, h.unit_words) if i else 0
        s.slots = min(slots_end - past, s.words) if i and slots_end > past else 0
        s.shape = shape
    store64_relaxed(&m.allocated, m.allocated + nbytes)
    return TAKEN


cdef void retire_tlab(MutatorState* m) noexcept nogil:
    """Takes a mutator's TLAB away; what was not used of it stays zero."""
    set_tlab(m, 0, 0, 0)


# ---- measuring ---------------------------------------------------------------------------

cdef uint64_t resident_in(word at, uint64_t nbytes, uint64_t page,
                          unsigned char* vec) noexcept nogil:
    cdef uint64_t i, n, pages = 0, step, done = 0
    while done < nbytes:
        step = min(nbytes - done, (64 << 10) * page)
        if mincore(<void*>(at + done), step, vec) != 0:
            return pages * page
        n = (step + page - 1) // page
        for i in range(n):
            pages += vec[i] & 1
        done += step
    return pages * page


cdef uint64_t resident_bytes(HeapState* h) noexcept nogil:
    """Resident bytes of the halves, the side tables and the staging buffer (mincore)."""
    cdef unsigned char* vec = <unsigned char*>malloc(64 << 10)
    cdef uint64_t total = 0
    if vec == NULL:
        return 0
    total = resident_in(h.base[0], h.half_bytes, h.page, vec)
    total += resident_in(h.base[1], h.half_bytes, h.page, vec)
    total += resident_in(<word>h.blocks, h.side_bytes, h.page, vec)
    free(vec)
    return total
