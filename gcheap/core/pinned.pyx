"""Pinned arrays: a part of the heap that never moves, marked and swept.

Only raw arrays live here, each in pages of its own, because somebody outside may hold their
address: a numpy view, a system call, C.  They are never registered, so no access to them faults,
and forwarding leaves them alone, because their addresses belong to no from-space.

    pages    | header, length, elements .... |  free  | header ... | header ... ... | top
    entries    bytes, shape, epoch   (unused)  bytes 0  bytes ...

One entry a page; a walk goes from object to object, over the pages that each covers.  Allocation
is next-fit.  Sweeping, on the collector thread once it is known what lives, drops the pages of
every object that this cycle's marking did not reach; they are free then.  An object made meanwhile
carries the cycle's epoch and is left alone; it may lie where the sweeper has been already.

`lock` guards the entries.  A running mutator must not block (I5): it tries, polls the safepoint
between tries, and leaves the running state before it sleeps.  Who holds it does nothing that waits;
the sweeper lets go every SWEEP_PAGES entries.
"""
from gcheap.core.failpoint cimport (
    FP_MEMORY_PINNED, FP_PINNED_CLAIMED, FP_SWEEP_GAP, failpoint)
from gcheap.core.layout cimport HeapState, LargeRun, MutatorState, PinnedSpace, word
from gcheap.core.native cimport (
    add64_relaxed, cas32, cpu_relax, fence_seq, futex_wait, load32_relaxed, mutex_lock,
    mutex_unlock, store32_relaxed, store64_relaxed, store64_release)
from gcheap.core.objects cimport header_of_shape
from gcheap.core.pacing cimport ask_when_due
from gcheap.core.safepoint cimport begin_stall, end_stall, park
from gcheap.core.tlab cimport NO_PLACE, NO_ROOM, TAKEN, charge, discharge
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset
from posix.mman cimport MADV_DONTNEED, madvise, munlock

cdef enum:
    SWEEP_PAGES = 256           # looked at before the sweeper lets go of the lock
    SPINS = 100


cdef inline uint64_t pages_of(HeapState* h, uint64_t nbytes) noexcept nogil:
    return pinned_charge(h, nbytes) >> h.pinned.shift


cdef uint64_t find_free(HeapState* h, uint64_t low, uint64_t high, uint64_t count) noexcept nogil:
    """The first page of `count` adjacent free ones in [low, high); `high` when there are none."""
    cdef LargeRun* runs = h.pinned.runs
    cdef uint64_t page = low, begin = low
    while page < high:
        if runs[page].bytes:
            page += pages_of(h, runs[page].bytes)
            begin = page
            continue
        page += 1
        if page - begin == count:
            return begin
    return high


cdef uint64_t find_place(HeapState* h, uint64_t count) noexcept nogil:
    """Next-fit below the top: from where the last object was placed, then from the start; else at
    the top.  The number of pages when there is no place."""
    cdef PinnedSpace* p = &h.pinned
    cdef uint64_t page = find_free(h, p.cursor, p.top, count)
    if page == p.top:
        page = find_free(h, 0, p.top, count)
    if page == p.top and count > p.pages - page:
        return p.pages
    store64_relaxed(&p.top, max(p.top, page + count))       # resident_bytes reads it unlocked
    p.raised = max(p.raised, page + count)
    p.cursor = page + count
    return page


cdef void lock_running(HeapState* h, MutatorState* m) noexcept nogil:
    """Takes the lock as a RUNNING mutator; a safepoint.

    Tries for a while, then sleeps, so that the holder gets the processor even when this thread has
    the higher priority.  Asleep it is PARKED, and it never waits for a pause with the lock taken:
    under stw the sweeper takes it inside the pause.  Who has slept takes the lock as one that is
    waited for (2; see mutex_lock), because others may sleep still.
    """
    cdef uint32_t tries = 0, taken = 1
    while not cas32(&h.pinned.lock, 0, taken):
        tries += 1
        if tries < SPINS:
            park(m)
            cpu_relax()
            continue
        begin_stall(m)
        if load32_relaxed(&h.pinned.lock) == 2 or cas32(&h.pinned.lock, 1, 2):
            futex_wait(&h.pinned.lock, 2, 0)
        taken = 2
        end_stall(m)


cdef int take_pinned(HeapState* h, MutatorState* m, uint64_t nbytes, uint32_t shape,
                     uint64_t length, word* at) noexcept nogil:
    """A new pinned array, header and all, zeroed.  RUNNING; a safepoint."""
    cdef uint64_t page
    cdef LargeRun* run
    lock_running(h, m)
    # From here to the entry there is no safepoint: a cycle that began between them would count
    # the charge as garbage, and the object not at all.
    if charge(h, pinned_charge(h, nbytes)) != TAKEN:
        mutex_unlock(&h.pinned.lock)
        return NO_ROOM
    failpoint(FP_PINNED_CLAIMED)
    page = find_place(h, pages_of(h, nbytes))
    if page < h.pinned.pages:
        run = &h.pinned.runs[page]
        run.shape = shape
        # No mark is needed: whatever cycle is under way has this epoch.
        store32_relaxed(&run.epoch, h.epoch)
        store64_release(&run.bytes, nbytes)     # the marker reads it with acquire, unlocked
    mutex_unlock(&h.pinned.lock)
    if page == h.pinned.pages:
        discharge(h, pinned_charge(h, nbytes))
        return NO_PLACE
    at[0] = h.pinned.base + (page << h.pinned.shift)
    (<word*>at[0])[0] = header_of_shape(shape)
    (<word*>at[0])[1] = length
    add64_relaxed(&h.pinned.used, pinned_charge(h, nbytes))
    add64_relaxed(&h.handed_out, pinned_charge(h, nbytes))
    store64_relaxed(&m.allocated, m.allocated + nbytes)
    ask_when_due(h, False)
    # Before any slot may name the array: the marker, which follows that slot, reads its entry.
    fence_seq()
    return TAKEN


cdef void drop_pages(HeapState* h, uint64_t page, uint64_t pages) noexcept nogil:
    """Makes pages of a dead object zero again.  Its owner may have locked them in memory: then
    they cannot be dropped before they are unlocked."""
    cdef void* at = <void*>(h.pinned.base + (page << h.pinned.shift))
    cdef uint64_t nbytes = pages << h.pinned.shift
    if failpoint(FP_MEMORY_PINNED) == 0 and madvise(at, nbytes, MADV_DONTNEED) == 0:
        return
    munlock(at, nbytes)
    if failpoint(FP_MEMORY_PINNED) or madvise(at, nbytes, MADV_DONTNEED) != 0:
        memset(at, 0, nbytes)


cdef void sweep_pinned(HeapState* h) noexcept nogil:
    """Frees what this cycle did not reach.  Collector thread, after everything is marked."""
    cdef uint64_t page = 0, pages, until, top = 0
    cdef LargeRun* run
    mutex_lock(&h.pinned.lock)
    h.pinned.raised = 0
    while True:
        until = page + SWEEP_PAGES
        while page < h.pinned.top and page < until:
            run = &h.pinned.runs[page]
            pages = pages_of(h, run.bytes) if run.bytes else 1
            if run.bytes and run.epoch != h.epoch:
                drop_pages(h, page, pages)
                add64_relaxed(&h.pinned.used, -(pages << h.pinned.shift))
                run.bytes = 0
            page += pages
            if run.bytes:
                top = page
        if page >= h.pinned.top:
            store64_relaxed(&h.pinned.top, max(top, h.pinned.raised))
            h.pinned.cursor = min(h.pinned.cursor, h.pinned.top)
            mutex_unlock(&h.pinned.lock)
            return
        mutex_unlock(&h.pinned.lock)
        failpoint(FP_SWEEP_GAP)
        mutex_lock(&h.pinned.lock)
