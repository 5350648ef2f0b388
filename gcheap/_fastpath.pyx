"""The mutator's hot path: what the inline functions of _fastpath.pxd fall back to.

Slow allocation is where a mutator gets its next unit, stalls while a cycle makes room, and
learns that the heap is exhausted.  Everything here runs without the GIL.
"""
from gcheap.core.layout cimport CAUSE_STALL, HeapState, MutatorState, word
from gcheap.core.native cimport (
    clock_ns, futex_wait, load32_acquire, load32_seq, load64_relaxed, load64_seq,
    store64_relaxed)
from gcheap.core.objects cimport shape_of_header
from gcheap.core.requests cimport cycle_running, request_cycle
from gcheap.core.safepoint cimport begin_stall, enter_running, leave_running, park
from gcheap.core.space cimport TAKEN, has_room, take_large, take_tlab
from libc.stdint cimport uint32_t, uint64_t


cdef word alloc_try(MutatorState* m, uint64_t nbytes, word header, uint64_t length) noexcept nogil:
    """Allocates without waiting; 0 when a cycle must make room first.  RUNNING."""
    cdef HeapState* h = m.heap
    cdef word at
    if nbytes > h.large_bytes:
        if take_large(h, m, nbytes, shape_of_header(header), length, &at) != TAKEN:
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


cdef bint wait_for_room(MutatorState* m, uint64_t nbytes) noexcept nogil:
    """An allocation stall: waits, not RUNNING, until `nbytes` may fit.  False: no cycle helps.

    The cycle in flight is waited for first; what it leaves decides whether another is asked for.
    Gives up only when what a full cycle found live leaves too little room.  While it does leave
    room that others take first, they make progress, and this thread asks again.
    """
    cdef HeapState* h = m.heap
    cdef uint64_t started = clock_ns(), ticket, waited
    cdef uint32_t seen
    cdef bint first = True
    cdef bint joined, found = nbytes <= h.capacity
    while found:
        joined = first and cycle_running(h)
        first = False
        if joined:
            ticket = load64_seq(&h.started)
        else:
            ticket = request_cycle(h, CAUSE_STALL)      # full: now every byte counts
        while True:
            seen = load32_seq(&h.progress)
            if has_room(h, nbytes) or not load32_acquire(&h.collector_alive):
                break
            if load64_seq(&h.finished) >= ticket:
                break
            futex_wait(&h.progress, seen, 0)
        if has_room(h, nbytes):
            break
        found = (load32_acquire(&h.collector_alive)
                 and (joined or load64_relaxed(&h.live_bytes) + max(nbytes, h.tlab_bytes)
                      <= h.capacity))
    waited = clock_ns() - started
    # Relaxed: stats() of another thread reads them.
    store64_relaxed(&m.stalls, m.stalls + 1)
    store64_relaxed(&m.stall_ns, m.stall_ns + waited)
    store64_relaxed(&m.stall_max_ns, max(m.stall_max_ns, waited))
    return found


cdef word alloc_slow(MutatorState* m, uint64_t nbytes, word header, uint64_t length) noexcept nogil:
    """The slow path of gc_alloc: a safepoint, and a stall when there is no room."""
    cdef word at
    cdef bint found
    park(m)
    while True:
        at = alloc_try(m, nbytes, header, length)
        if at:
            return at
        begin_stall(m)
        found = wait_for_room(m, nbytes)
        enter_running(m)
        if not found:
            return 0


cdef void poll_slow(MutatorState* m) noexcept nogil:
    park(m)


cdef void gc_enter(MutatorState* m) noexcept nogil:
    enter_running(m)


cdef void gc_leave(MutatorState* m) noexcept nogil:
    leave_running(m)
