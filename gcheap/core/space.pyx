"""Address space: the halves of every space, and the side tables.

    reservation   | guard | half 0 ........ | guard | half 1 ........ | guard |
                  | runs 0 | guard | runs 1 | guard | huge 0 | guard | huge 1 | guard |
                  | pinned | guard |          all 2 MiB aligned

Each half is one VMA and stays one: it owns its anon_vma before the first REGISTER (one word
is written and its page dropped), because two parts of a VMA that got their anon_vma apart
never merge again, and a MOVE across such a seam is EINVAL.  Inaccessible guards keep the
halves from merging with each other.  Halves are MADV_NOHUGEPAGE, because moving small pages out
of a huge one costs a split; all but those of LARGE_HUGE, which moves huge pages whole.
"""
from gcheap.core.failpoint cimport (
    FP_MEMORY_EMPTY, FP_MEMORY_FORK, FP_MEMORY_RELEASE, failpoint)
from gcheap.core.layout cimport (
    Block, HANDLE_CHUNK, HUGE, HeapState, LARGE_HUGE, LARGE_RUNS, LARGE_SPACES, LargeRun,
    LargeSpace, SatbBuffer, UnitPlan, word)
from gcheap.core.mapping cimport map_memory, unmap_memory
from gcheap.core.native cimport (
    add64_relaxed, count_trailing_zeros, load64_relaxed, sub32_acq_rel)
from gcheap.core.registry cimport strike_heap
from gcheap.core.trace cimport free_rings
from gcheap.core.weak cimport free_weak_state
from libc.errno cimport EAGAIN, ENOMEM, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.mman cimport (
    MADV_DONTNEED, PROT_READ, PROT_WRITE, madvise, mprotect, munlock)

cdef extern from "<sys/mman.h>" nogil:
    int MADV_DODUMP, MADV_DONTDUMP, MADV_NOHUGEPAGE
    int MADV_DONTFORK
    int mincore(void* at, size_t length, unsigned char* vec)

cdef enum:
    HUGE_SHIFT = 21
    GUARD = 2 << 20
    TABLES = 10 + 2 * LARGE_SPACES


cdef inline uint64_t round_up(uint64_t value, uint64_t grain) noexcept nogil:
    return (value + grain - 1) // grain * grain


cdef int advise(word at, uint64_t nbytes, int advice) noexcept nogil:
    """Returns an errno: ENOMEM where a mapping cannot be split, which madvise calls EAGAIN."""
    if madvise(<void*>at, nbytes, advice) == 0:
        return 0
    return ENOMEM if errno == EAGAIN else errno


cdef int open_half(word at, uint64_t nbytes, int advice) noexcept nogil:
    cdef int error = advise(at, nbytes, MADV_DODUMP)
    if error:
        return error
    if mprotect(<void*>at, nbytes, PROT_READ | PROT_WRITE) != 0:
        return errno
    if advice >= 0:
        madvise(<void*>at, nbytes, advice)      # refused without THP: fine
    (<word*>at)[0] = 1
    madvise(<void*>at, nbytes, MADV_DONTNEED)
    return 0


cdef int open_halves(word* at, word* base, uint64_t nbytes, int advice) noexcept nogil:
    """Two halves with guards behind them, from at[0] on, which moves past them."""
    cdef int i, error
    for i in range(2):
        base[i] = at[0]
        error = open_half(at[0], nbytes, advice)
        if error:
            return error
        at[0] += nbytes + GUARD
    return 0


cdef void set_large_geometry(HeapState* h) noexcept nogil:
    """Address space for large objects is three times what capacity allows of the smallest ones,
    which rounding to grains makes up to twice as large: it must hold the live ones, black ones,
    and, after a flip, what is still to come."""
    cdef LargeSpace* s = &h.large[LARGE_RUNS]
    cdef uint64_t state = h.half_units
    cdef int i
    s.shift = h.unit_shift
    s.half_bytes = 3 * h.capacity
    s = &h.large[LARGE_HUGE]
    s.shift = HUGE_SHIFT
    s.half_bytes = 2 * h.capacity
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        s.half_bytes = round_up(s.half_bytes + 16 * HUGE, HUGE)
        s.half_grains = s.limit = s.half_bytes >> s.shift
        s.first_state = state
        state += s.half_grains


cdef int reserve_halves(HeapState* h) noexcept nogil:
    cdef word at
    cdef int i, error
    h.reservation_bytes = 2 * h.half_bytes + 3 * GUARD + HUGE
    for i in range(LARGE_SPACES):
        h.reservation_bytes += 2 * (h.large[i].half_bytes + GUARD)
    h.pinned.nbytes = round_up(2 * h.capacity, HUGE)
    h.pinned.shift = <uint32_t>count_trailing_zeros(h.page)
    h.pinned.pages = h.pinned.nbytes >> h.pinned.shift
    h.reservation_bytes += h.pinned.nbytes + GUARD
    h.reservation = map_memory(h.reservation_bytes, False)
    if h.reservation == 0:
        return errno
    # A flag that the halves lack: a half that verification closes never merges with its guards.
    error = advise(h.reservation, h.reservation_bytes, MADV_DONTDUMP)
    if error:
        return error
    at = round_up(h.reservation + GUARD, HUGE)
    error = open_halves(&at, h.base, h.half_bytes, MADV_NOHUGEPAGE)
    if not error:
        error = open_halves(&at, h.large[LARGE_RUNS].base, h.large[LARGE_RUNS].half_bytes,
                            MADV_NOHUGEPAGE)
    if not error:
        error = open_halves(&at, h.large[LARGE_HUGE].base, h.large[LARGE_HUGE].half_bytes,
                            h.huge_advice)
    if not error:
        error = open_half(at, h.pinned.nbytes, -1)
    h.pinned.base = at
    return error


cdef int hide_from_forks(word at, uint64_t nbytes) noexcept nogil:
    cdef int error = <int>failpoint(FP_MEMORY_FORK)
    return error if error else advise(at, nbytes, MADV_DONTFORK)


cdef int reserve_space(HeapState* h) noexcept nogil:
    """Maps the halves and the side tables of a heap whose geometry fields are set."""
    cdef uint64_t units = h.half_units
    cdef uint64_t blocks = h.half_bytes // 512 + 1          # one sentinel
    cdef uint64_t sizes[TABLES]
    cdef word at[TABLES]
    cdef word next
    cdef int i, error
    set_large_geometry(h)
    error = reserve_halves(h)
    if error:
        return error
    sizes[0] = blocks * sizeof(Block)
    sizes[1] = (units + 1) * sizeof(UnitPlan)
    sizes[2] = units
    for i in range(LARGE_SPACES):
        sizes[2] += h.large[i].half_grains
    sizes[3] = units
    sizes[4] = units * sizeof(uint32_t)
    # Objects are at least 16 bytes and each is pushed once: this stack cannot overflow.
    sizes[5] = h.half_bytes // 2
    sizes[6] = 2 * (h.half_bytes // 64) + h.page if h.verify else 0
    sizes[7] = h.batch_units * h.unit_bytes
    sizes[8] = h.pinned.pages * sizeof(LargeRun)
    sizes[9] = sizes[2]
    for i in range(2 * LARGE_SPACES):
        sizes[10 + i] = h.large[i // 2].half_grains * sizeof(LargeRun)
    h.side_bytes = 0
    for i in range(TABLES):
        sizes[i] = round_up(sizes[i], h.page)
        h.side_bytes += sizes[i]
    next = map_memory(h.side_bytes, True)
    if next == 0:
        return errno
    h.blocks = <Block*>next             # release_space unmaps them from now on
    madvise(<void*>next, h.side_bytes, MADV_NOHUGEPAGE)
    # Pinned arrays are inherited all the same: views of them may be in use.
    if h.fork_none:
        error = hide_from_forks(h.reservation, h.pinned.base - h.reservation)
        if not error:
            error = hide_from_forks(next, h.side_bytes)
        if error:
            return error
    for i in range(TABLES):
        at[i] = next
        next += sizes[i]
    h.plan = <UnitPlan*>at[1]
    h.states = <uint8_t*>at[2]
    h.chunk_states = <uint8_t*>at[3]
    h.readers = <uint32_t*>at[4]
    h.mark_stack = <word*>at[5]
    h.visited = <uint64_t*>at[6] if h.verify else NULL
    h.staging = at[7]
    h.pinned.runs = <LargeRun*>at[8]
    h.placed_by = <uint8_t*>at[9]
    for i in range(2 * LARGE_SPACES):
        h.large[i // 2].runs[i % 2] = <LargeRun*>at[10 + i]
    return 0


cdef void release_pinned(HeapState* h) noexcept nogil:
    """Unmaps what release_space kept."""
    unmap_memory(h.pinned.base, h.pinned.nbytes)
    h.pinned.base = 0


cdef void release_space(HeapState* h, bint keep_pinned) noexcept nogil:
    """Unmaps the heap; with `keep_pinned` all but the pinned arrays, of which views exist."""
    cdef word end = h.reservation + h.reservation_bytes, after = h.pinned.base + h.pinned.nbytes
    if h.reservation and keep_pinned:
        unmap_memory(h.reservation, h.pinned.base - h.reservation)
        unmap_memory(after, end - after)
    elif h.reservation:
        unmap_memory(h.reservation, h.reservation_bytes)
    h.reservation = 0
    if h.blocks != NULL:
        unmap_memory(<word>h.blocks, h.side_bytes)
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
    free_weak_state(h)
    free(h.team)
    free(h.shapes)
    if h.handles != NULL:
        for i in range(h.handle_high // HANDLE_CHUNK):
            free(h.handles[i])
        free(h.handles)
    free(h.events)
    free_rings(h)
    free(h.reach_hist)
    free(h.retired.fault_hist)
    if h.server != NULL:
        free(h.server.self.fault_hist)
        free(h.server)
    free(h.stalls.hist)
    free(h.survey.count)
    free(h)


cdef bint empty_half(word* base, int which, uint64_t nbytes, bint registered) noexcept nogil:
    """Drops every page of half `which` of a space, and their page tables with them: a leftover
    page table makes a later huge-page MOVE split.

    Memory that somebody locked (mlockall) cannot be dropped, and MOVE wants both its sides locked
    or neither: then both halves are unlocked.  If that does not help, objects must find zeros all
    the same.  False: not in a `registered` half, where the collector would fault and wait for
    itself, and where a mutator would read a stray page instead of faulting on it.
    """
    if failpoint(FP_MEMORY_EMPTY) == 0 and madvise(<void*>base[which], nbytes, MADV_DONTNEED) == 0:
        return True
    munlock(<void*>base[0], nbytes)
    munlock(<void*>base[1], nbytes)
    if failpoint(FP_MEMORY_EMPTY) == 0 and madvise(<void*>base[which], nbytes, MADV_DONTNEED) == 0:
        return True
    if registered:
        return False
    memset(<void*>base[which], 0, nbytes)
    return True


cdef void release_pages(HeapState* h, word at, uint64_t nbytes) noexcept nogil:
    """Gives evacuated memory back.  Where the kernel refuses (locked memory), empty_half does it at
    the end of the cycle."""
    if failpoint(FP_MEMORY_RELEASE) == 0 and madvise(<void*>at, nbytes, MADV_DONTNEED) == 0:
        add64_relaxed(&h.released_bytes, nbytes)


cdef int new_bounce(HeapState* h, word* at) noexcept nogil:
    """A unit-sized, pre-faulted buffer (I3); the caller frees it with free_bounce."""
    at[0] = map_memory(h.unit_bytes, True)
    if at[0] == 0:
        return errno
    madvise(<void*>at[0], h.unit_bytes, MADV_NOHUGEPAGE)
    memset(<void*>at[0], 0, h.unit_bytes)
    return 0


cdef void free_bounce(HeapState* h, word at) noexcept nogil:
    if at:
        unmap_memory(at, h.unit_bytes)


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
    """Resident bytes of the halves, as far as they are in use, of the side tables and of the
    staging buffer (mincore)."""
    cdef unsigned char* vec = <unsigned char*>malloc(64 << 10)
    cdef uint64_t total = 0, extent
    cdef LargeSpace* s
    cdef int i, half
    if vec == NULL:
        return 0
    for half in range(2):
        total += resident_in(h.base[half], h.half_bytes, h.page, vec)
        for i in range(LARGE_SPACES):
            s = &h.large[i]
            extent = max(load64_relaxed(&s.top), load64_relaxed(&s.from_grains)) << s.shift
            total += resident_in(s.base[half], extent, h.page, vec)
    extent = load64_relaxed(&h.pinned.top) << h.pinned.shift
    total += resident_in(h.pinned.base, extent, h.page, vec)
    total += resident_in(<word>h.blocks, h.side_bytes, h.page, vec)
    free(vec)
    return total
