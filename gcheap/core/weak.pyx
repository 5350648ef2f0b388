"""Weak references: a table of cells beside the handles.

    free --take_weak, RUNNING--> in use --drop_weak, any thread--> dropped --take_weak--> in use
                                   |
                        target := 0, the collector, once

A cell is an index, as a handle is; index 0 is never used.  Dropping one is lock-free, on any
thread at any moment (I5): it pushes the index on a chain that the next `take_weak` consumes
whole, so there is no ABA.  Taking one holds `cell_lock` for a few instructions, or for one
calloc when the table grows; who holds it is RUNNING and passes no safepoint, so a pause waits
no longer for it than for any other stretch.

The collector clears a cell by CAS from the dead address: a cell that is dropped and taken again
under its eyes has another target, because nobody can name a dead object.
"""
from gcheap.core.layout cimport HeapState, MutatorState, word
from gcheap.core.mark cimport reached
from gcheap.core.native cimport (
    add64_relaxed, cas32, cas64, exchange32_acq_rel, load32_acquire, load32_relaxed,
    load64_acquire, load64_relaxed, mutex_lock, mutex_unlock, store32_relaxed, store32_release,
    store64_relaxed, store64_release, sub64_relaxed)
from gcheap.core.plan cimport forward
from gcheap.core.segments cimport free_segments, make_segment
from gcheap.core.weakdata cimport (
    CELL_DROPPED, Guardian, NOTICE_TAKEN, NOTICE_WANTED, WEAK_SHARDS, WeakCell, WeakState,
    WeakTable, weak_state)
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free


cdef bint new_weak_state(HeapState* h) noexcept nogil:
    """Allocates it for a new heap."""
    cdef WeakState* w = <WeakState*>calloc(1, sizeof(WeakState))
    h.weak = w
    if w == NULL:
        return False
    w.cell_high = 1
    return make_segment(w.cells, 0, sizeof(WeakCell))


cdef void free_weak_state(HeapState* h) noexcept nogil:
    """Frees it with its heap's state; nobody else knows it any more."""
    cdef WeakState* w = weak_state(h)
    cdef WeakTable* t
    cdef Guardian* g
    cdef uint64_t i
    if w == NULL:
        return
    while w.tables:
        t = <WeakTable*>w.tables
        w.tables = <uint64_t>t.next
        free_segments(t.entries)
        free(t)
    while w.guardians:
        g = <Guardian*>w.guardians
        w.guardians = <uint64_t>g.next
        free_segments(g.entries)
        free(g)
    for i in range(WEAK_SHARDS):
        free_segments(w.shard[i].chains)
    free_segments(w.cells)
    free(w)
    h.weak = NULL


cdef uint32_t take_weak(MutatorState* m, word target, uint32_t notice) noexcept nogil:
    """A weak reference to `target`, which the caller has in hand; 0: no memory.  RUNNING."""
    cdef HeapState* h = m.heap
    cdef WeakState* w = weak_state(h)
    cdef WeakCell* cell
    cdef uint64_t index
    mutex_lock(&w.cell_lock)
    if w.cell_free == 0:
        # Acquire: the links of the whole chain, whoever pushed them.
        w.cell_free = exchange32_acq_rel(&w.cell_dropped, 0)
    index = w.cell_free
    if index:
        w.cell_free = load32_relaxed(&weak_cell(h, index).link) & ~<uint32_t>CELL_DROPPED
    elif w.cell_high < CELL_DROPPED and make_segment(w.cells, w.cell_high, sizeof(WeakCell)):
        index = w.cell_high
        weak_cell(h, index).link = CELL_DROPPED
        # Release: who sees the new bound sees the segment, and the cell not yet in use.
        store64_release(&w.cell_high, index + 1)
    mutex_unlock(&w.cell_lock)
    if index == 0:
        return 0
    cell = weak_cell(h, index)
    store64_relaxed(&cell.target, target)
    store32_relaxed(&cell.notice, notice)
    # Release: the collector, which clears while mutators run, sees the target with the use.
    store32_release(&cell.link, 0)
    add64_relaxed(&w.weak_refs, 1)
    return <uint32_t>index


cdef void drop_weak(HeapState* h, uint32_t index) noexcept nogil:
    """Frees a weak reference.  Any thread, any moment; lock-free."""
    cdef WeakState* w = weak_state(h)
    cdef uint32_t* link = &weak_cell(h, index).link
    cdef uint32_t head
    sub64_relaxed(&w.weak_refs, 1)
    while True:
        head = load32_relaxed(&w.cell_dropped)
        store32_relaxed(link, CELL_DROPPED | head)
        if cas32(&w.cell_dropped, head, index):     # release: the link before the head
            return


cdef uint64_t take_notices(HeapState* h, uint64_t* cursor, uint32_t* cells,
                           uint64_t room) noexcept nogil:
    """Cells that were cleared and whose owner wanted to know, each once: at most `room` from
    `cursor` on.  Fewer than `room`: that was all.

    Any thread, without a lock.  A cell that is dropped meanwhile may still be told, and may be
    somebody else's by then: its `notice` is TAKEN only if it is the one that was told.
    """
    cdef uint64_t high = load64_acquire(&weak_state(h).cell_high), n = 0
    cdef WeakCell* cell
    while cursor[0] < high and n < room:
        cell = weak_cell(h, cursor[0])
        if (load32_acquire(&cell.link) == 0 and load64_relaxed(&cell.target) == 0
                and cas32(&cell.notice, NOTICE_WANTED, NOTICE_TAKEN)):
            cells[n] = <uint32_t>cursor[0]
            n += 1
        cursor[0] += 1
    return n


# ---- the collector's side ------------------------------------------------------------------

cdef void clear_cells(HeapState* h) noexcept nogil:
    """Clears every cell whose target marking did not reach.  Mutators may run."""
    cdef WeakState* w = weak_state(h)
    cdef uint64_t i, cleared = 0
    cdef WeakCell* cell
    cdef word target
    for i in range(1, load64_acquire(&w.cell_high)):
        cell = weak_cell(h, i)
        if load32_acquire(&cell.link):
            continue
        target = load64_relaxed(&cell.target)
        if target == 0 or reached(h, target) or not cas64(&cell.target, target, 0):
            continue
        cleared += 1
        if load32_relaxed(&cell.notice) == NOTICE_WANTED:
            w.notices += 1
    add64_relaxed(&w.cleared, cleared)


cdef void forward_cells(HeapState* h, bint rehearse) noexcept nogil:
    """Inside a pause: rewrites every cell through forwarding.  One linear pass."""
    cdef uint64_t i, high = load64_acquire(&weak_state(h).cell_high)
    cdef WeakCell* cell
    for i in range(1, 1 if rehearse else high):
        cell = weak_cell(h, i)
        # Relaxed: nobody takes a cell during a pause; one that is dropped now is never read.  A
        # thread that is not RUNNING may be looking whether the target is null, which stays so.
        if load32_relaxed(&cell.link) == 0 and cell.target:
            store64_relaxed(&cell.target, forward(h, cell.target))
