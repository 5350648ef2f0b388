"""When a cycle starts, and how far the heap may grow meanwhile.  See pacing.pyx."""
from gcheap.core.layout cimport HeapState, Pacing
from gcheap.core.native cimport load32_relaxed, load64_relaxed, load64_seq
from gcheap.core.records cimport CAUSE_GOAL
from gcheap.core.requests cimport raise_to, request_cycle
from libc.stdint cimport uint32_t, uint64_t

cdef void begin_pacing(HeapState* h) noexcept nogil
cdef void cycle_begins(HeapState* h) noexcept nogil
cdef void cycle_ended(HeapState* h, uint64_t ticket) noexcept nogil
cdef void idle_ended(HeapState* h) noexcept nogil
cdef uint64_t policy_limit(const Pacing* p, uint64_t live, uint64_t capacity) noexcept nogil
cdef uint64_t next_limit(uint64_t limit, uint64_t wanted, bint at_once) noexcept nogil
cdef uint64_t next_goal(uint64_t live, uint64_t used, uint64_t limit, uint64_t capacity,
                        uint64_t need) noexcept nogil


cdef inline uint64_t request_shrinking(HeapState* h, uint32_t cause) noexcept nogil:
    """Asks for a full cycle that starts from now on and gives back what it can; its ticket.

    The wish is there before the cycle is asked for; when another cycle started in between, and
    the ticket so is a later one, both are asked for again.
    """
    cdef uint64_t expected, ticket
    while True:
        expected = load64_seq(&h.started) + 1
        raise_to(&h.pacing.shrink_ticket, expected)
        ticket = request_cycle(h, cause)
        if ticket == expected:
            return ticket


cdef inline void ask_when_due(HeapState* h, bint short_of_addresses) noexcept nogil:
    """After an allocation: asks for a cycle when the goal is passed, or addresses run short."""
    # Relaxed: asked for one allocation later, or once too often, does no harm.
    if ((short_of_addresses or load64_relaxed(&h.used) > load64_relaxed(&h.goal))
            and load64_relaxed(&h.requested) <= load64_relaxed(&h.finished)
            and not load32_relaxed(&h.automatic_off)):
        request_cycle(h, CAUSE_GOAL)
