"""Asking for cycles, and waiting for them, by tickets.

`requested`, `started` and `finished` count cycles.  A ticket is the number of a cycle that
starts after it was drawn, so that a caller who waits for `finished >= ticket` knows that
everything it allocated before was seen.  Lock-free: running mutators draw tickets (I5).
"""
from gcheap.core.failpoint cimport FP_CYCLE_REQUESTED, failpoint
from gcheap.core.layout cimport ENGINE_COLD, HeapState
from gcheap.core.native cimport (
    add32_seq, cas64, futex_wake_all, load32_seq, load64_seq, unlikely)
from gcheap.core.records cimport CAUSE_EXPLICIT, CAUSE_GOAL
from libc.stdint cimport uint32_t, uint64_t


cdef inline void raise_to(uint64_t* counter, uint64_t value) noexcept nogil:
    cdef uint64_t seen
    while True:
        seen = load64_seq(counter)
        if seen >= value or cas64(counter, seen, value):
            return


cdef inline uint64_t request_cycle(HeapState* h, uint32_t cause) noexcept nogil:
    """Asks for a cycle that starts from now on, and says why (Cause); returns its ticket.

    Any but one by goal is full: it relocates whatever it wins.  The collector stores `started`
    before it reads `full_ticket`; a request that finds its own cycle started meanwhile asks for
    the next.
    """
    cdef uint64_t ticket
    while True:
        ticket = load64_seq(&h.started) + 1
        if cause == CAUSE_GOAL:
            break
        raise_to(&h.full_ticket, ticket)
        raise_to(&h.asked[cause], ticket)
        if load64_seq(&h.started) < ticket:
            break
    raise_to(&h.requested, ticket)
    failpoint(FP_CYCLE_REQUESTED)
    # The collector reads `kick` before it compares requested with finished, then sleeps on it.
    add32_seq(&h.kick, 1)
    futex_wake_all(&h.kick)
    if unlikely(load32_seq(&h.engine) == ENGINE_COLD):
        h.start_engine(h)       # a forked child's first cycle
    return ticket


cdef inline uint32_t cause_of(HeapState* h, uint64_t cycle) noexcept nogil:
    """Why a cycle runs: the strongest of the requests that it answers."""
    cdef uint32_t cause = CAUSE_EXPLICIT
    while cause > CAUSE_GOAL and cycle > load64_seq(&h.asked[cause]):
        cause -= 1
    return cause


cdef inline bint cycle_running(HeapState* h) noexcept nogil:
    return load64_seq(&h.started) > load64_seq(&h.finished)


cdef inline void announce_progress(HeapState* h) noexcept nogil:
    """Wakes whoever waits for a flip or a finished cycle."""
    add32_seq(&h.progress, 1)
    futex_wake_all(&h.progress)
