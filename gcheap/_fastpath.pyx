"""The mutator's hot path: what the inline functions of _fastpath.pxd fall back to.

Slow allocation is where a mutator gets its next unit, stalls while a cycle makes room, and
learns that the heap is exhausted.  Everything here runs without the GIL.
"""
from gcheap.core.failpoint cimport FP_STALL_SLEEP, FP_STALL_WAIT, failpoint
from gcheap.core.large cimport large_room, take_large
from gcheap.core.layout cimport (
    HeapState, MutatorState, SHAPE_FIXED, SHAPE_SLOTS, ShapeInfo, WORD, word)
from gcheap.core.native cimport (
    check_that, futex_wait, load32_acquire, load32_seq, load64_relaxed, load64_seq,
    store64_relaxed, unlikely)
from gcheap.core.objects cimport array_bytes, header_of_shape, shape_of_header
from gcheap.core.records cimport CAUSE_STALL
from gcheap.core.requests cimport cycle_running, request_cycle
from gcheap.core.safepoint cimport (
    begin_stall, end_stall, enter_running, leave_running, park)
from gcheap.core.stalls cimport Stall, stall_begins, stall_ended
from gcheap.core.stress cimport cycle_due, hide_tlab, show_tlab, wait_for_flip
from gcheap.core.tlab cimport TAKEN, small_room, take_tlab
from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    PATIENCE = 3                # full cycles whose room was gone, and nobody seemed to have it


cdef inline word alloc_here(MutatorState* m, uint64_t nbytes, word header,
                            uint64_t length) noexcept nogil:
    cdef HeapState* h = m.heap
    cdef word at
    if nbytes > h.large_bytes:
        if take_large(h, m, nbytes, shape_of_header(header), &at) != TAKEN:
            return 0
    else:
        if nbytes > m.tlab_end - m.tlab_top and take_tlab(h, m) != TAKEN:
            return 0
        at = m.tlab_top
        store64_relaxed(&m.tlab_top, at + nbytes)
    (<word*>at)[0] = header
    if length:
        (<word*>at)[1] = length
    return at


cdef inline uint64_t charged(HeapState* h, uint64_t nbytes, bint pinned) noexcept nogil:
    """What capacity must have left: a small object needs a TLAB, others themselves."""
    return nbytes if pinned or nbytes > h.large_bytes else h.tlab_bytes


cdef bint has_room(HeapState* h, uint64_t nbytes, bint pinned) noexcept nogil:
    """Whether an object of `nbytes` could be placed now (others may take the room first); of a
    pinned one, whether capacity allows it: its pages may still be scattered."""
    if load64_relaxed(&h.used) + charged(h, nbytes, pinned) > h.capacity:
        return False
    if pinned:
        return True
    return large_room(h, nbytes) if nbytes > h.large_bytes else small_room(h)


cdef bint starved(MutatorState* m) noexcept nogil:
    """Whether the cycle stands still for want of memory (core/memory_wait.pyx)."""
    m.no_memory = load32_seq(&m.heap.starving) != 0
    return m.no_memory


cdef bint wait_for_cycle(MutatorState* m) noexcept nogil:
    """Waits, not RUNNING, until a full cycle that starts now has ended.  False: none ever will."""
    cdef HeapState* h = m.heap
    cdef uint64_t ticket = request_cycle(h, CAUSE_STALL)
    cdef uint32_t seen
    while True:
        seen = load32_seq(&h.progress)
        if load64_seq(&h.finished) >= ticket:
            return True
        if not load32_acquire(&h.collector_alive) or starved(m):
            return False
        futex_wait(&h.progress, seen, 0)


cdef word alloc_try(MutatorState* m, uint64_t nbytes, word header, uint64_t length) noexcept nogil:
    """Allocates without waiting; 0 when a cycle must make room first.  RUNNING."""
    cdef word at
    if unlikely(m.heap.stress.collect_every):
        show_tlab(m)
        at = alloc_here(m, nbytes, header, length)
        hide_tlab(m)
        return at
    return alloc_here(m, nbytes, header, length)


cdef bint wait_for_room(MutatorState* m, uint64_t nbytes, bint pinned) noexcept nogil:
    """An allocation stall: waits, not RUNNING, until `nbytes` may fit (`pinned`: whole pages of a
    pinned array).  False: no cycle helps.

    Bounded: the cycle in flight is waited for first, whose snapshot may be older than what was
    dropped since; then one full cycle that starts after this call.  Goes on only while the live
    bytes leave room and either others took it first, who make progress, or the next cycle has
    begun: inside it no room may show (alloc_limit is down to what may be allocated black), so it
    is waited for.  Room that neither explains is address space that no cycle gives back; who takes
    room says so in `handed_out` a moment later, hence PATIENCE rounds of that.
    """
    cdef HeapState* h = m.heap
    cdef uint64_t ticket, handed_out
    cdef Stall stall
    cdef uint32_t seen, unexplained = 0
    cdef bint join = cycle_running(h), found = nbytes <= h.capacity
    m.no_memory = 0
    stall_begins(&stall, h, nbytes)
    while found:
        handed_out = load64_relaxed(&h.handed_out)
        if join:
            ticket = load64_seq(&h.started)
        else:
            ticket = request_cycle(h, CAUSE_STALL)      # full: now every byte counts
        failpoint(FP_STALL_WAIT)
        while True:
            seen = load32_seq(&h.progress)
            if has_room(h, nbytes, pinned) or not load32_acquire(&h.collector_alive):
                break
            if load64_seq(&h.finished) >= ticket or starved(m):
                break
            if failpoint(FP_STALL_SLEEP) == 0:
                futex_wait(&h.progress, seen, 0)
        if has_room(h, nbytes, pinned):
            break
        if not load32_acquire(&h.collector_alive) or m.no_memory:
            found = False
        elif join:
            join = False
        elif load64_relaxed(&h.live_bytes) + charged(h, nbytes, pinned) > h.capacity:
            found = False
        elif load64_seq(&h.started) > ticket:
            join = True
        elif load64_relaxed(&h.handed_out) == handed_out:
            unexplained += 1
            found = unexplained < PATIENCE
    stall_ended(&stall, m)
    return found


cdef word alloc_slow(MutatorState* m, uint64_t nbytes, word header, uint64_t length) noexcept nogil:
    """The slow path of gc_alloc: a safepoint, and a stall when there is no room."""
    cdef word at
    cdef uint64_t ticket
    cdef bint found
    park(m)
    if unlikely(m.heap.stress.collect_every):
        ticket = cycle_due(m)
        if ticket:
            begin_stall(m)
            wait_for_flip(m.heap, ticket)
            end_stall(m)
    while True:
        # Beyond the capacity no size is tried: `used` must not overflow.
        at = alloc_try(m, nbytes, header, length) if nbytes <= m.heap.capacity else 0
        if at:
            return at
        begin_stall(m)
        found = wait_for_room(m, nbytes, False)
        end_stall(m)
        if not found:
            return 0


cdef bint array_size(MutatorState* m, uint32_t shape, uint64_t length,
                     uint64_t* nbytes) noexcept nogil:
    """The size of an array, unless it is beyond what the heap can hold."""
    cdef ShapeInfo* info = &m.heap.shapes[shape]
    cdef uint64_t item
    check_that(shape < load32_acquire(&m.heap.shape_count) and info.kind != SHAPE_FIXED,
               b"an array is asked for of a shape that is none's (shape, length)", shape, length)
    item = WORD if info.kind == SHAPE_SLOTS else info.item
    if length > m.heap.capacity // item:
        gc_poll(m)                  # a safepoint, as every allocation is
        return False
    nbytes[0] = array_bytes(item, length)
    return True


cdef word alloc_array_slow(MutatorState* m, uint32_t shape, uint64_t length) noexcept nogil:
    """The slow path of gc_alloc_array."""
    cdef uint64_t nbytes
    if not array_size(m, shape, length, &nbytes):
        return 0
    return alloc_slow(m, nbytes, header_of_shape(shape), length)


cdef void poll_slow(MutatorState* m) noexcept nogil:
    park(m)


cdef void gc_enter(MutatorState* m) noexcept nogil:
    enter_running(m)


cdef void gc_leave(MutatorState* m) noexcept nogil:
    leave_running(m)
