"""When a cycle starts, and how far the heap may grow meanwhile: the policy.

`capacity` is the hard limit: only there do mutators stall.  Below it lies the *limit*, the soft
heap size, which follows the live bytes; and below that the *goal*, at which the next cycle starts,
early enough that room is back when the limit is reached.  Who passes the limit while a cycle runs
uses more, up to the capacity.

    0 ------- live ------------------- goal ------------- limit ----------------- capacity
              |                        | <- headroom ---> |                       |
              found by the last cycle  the next starts    the policy's            mutators stall

All is computed here, after each cycle, on the collector thread, which alone writes it:

  limit     fixed        capacity
            factor       live * factor
            membalancer  live + sqrt(live * g / (c * s)), g bytes allocated and s bytes collected
                         a second (Kirisame, Shenoy, Panchekha: "Optimal heap limits for reducing
                         browser memory use", OOPSLA 2022, equation of section 3)
            within [minimum, capacity].  It grows at once; it shrinks by a quarter of the
            difference a cycle, or at once in a cycle that was asked for by collect() or because
            the heap was idle.
  headroom  1.5 times what mutators allocate in the time from a cycle's start until its flip, when
            room comes back; at least a sixteenth of the limit.
  goal      limit - headroom, but never within the lowest quarter of the free room: cycles that
            follow each other at once win little and cost the mutators everything.

Rate and time until the flip are quick to rise and slow to fall.  What MemBalancer takes as g and s
are quotients of sums that forget: g's by 5 % a second, s's by half a cycle, as in the paper.

To add a policy: a PolicyKind, its line in `policy_limit`, and its class in gcheap/policy.py.
"""
from gcheap.core.layout cimport BACKEND_STW, HeapState, POLICY_FACTOR, POLICY_MEMBALANCER, Pacing
from gcheap.core.native cimport (
    clock_ns, load32_seq, load64_relaxed, load64_seq, store64_relaxed, thread_cpu_ns)
from gcheap.core.records cimport CAUSE_IDLE, CycleRecord, RECORDS
from gcheap.core.shrink cimport release_large_tables, release_tables
from libc.math cimport pow, sqrt
from libc.stdint cimport uint64_t

cdef double SECOND = 1e9
cdef double MARGIN = 1.5        # of the headroom, over what was measured
cdef double ALLOCATION_MEMORY = 0.95    # of MemBalancer's g, a second
cdef double MARKING_MEMORY = 0.5        # of MemBalancer's s, a cycle

cdef enum:
    SHORT_NS = 1000000          # a rate over less is noise
    TABLE_SLACK = 64 << 20      # bytes of a half: 2 MiB of blocks


# ---- the formulas ------------------------------------------------------------------------

cdef uint64_t policy_limit(const Pacing* p, uint64_t live, uint64_t capacity) noexcept nogil:
    """The limit that the policy wants for so many live bytes.  No state but `p` is read."""
    cdef double wanted = <double>capacity, speed
    if p.policy == POLICY_FACTOR:
        wanted = live * p.factor
    elif p.policy == POLICY_MEMBALANCER:
        # Before anything was measured: as much again.
        wanted = 2.0 * live
        if p.marked_seconds > 0 and p.marked_bytes > 0 and p.allocated_seconds > 0:
            speed = (p.allocated_bytes / p.allocated_seconds) / (p.marked_bytes / p.marked_seconds)
            wanted = live + sqrt(live * speed / p.c)
    wanted = max(wanted, <double>p.minimum)
    return capacity if wanted >= <double>capacity else <uint64_t>wanted


cdef uint64_t next_limit(uint64_t limit, uint64_t wanted, bint at_once) noexcept nogil:
    """Hysteresis: up at once, down by a quarter of the difference."""
    if wanted >= limit or at_once:
        return wanted
    return limit - (limit - wanted + 3) // 4


cdef uint64_t goal_below(uint64_t live, uint64_t limit, uint64_t need) noexcept nogil:
    live = min(live, limit)
    return max(limit - min(limit, max(limit // 16, need)), live + (limit - live) // 4)


cdef uint64_t next_goal(uint64_t live, uint64_t used, uint64_t limit, uint64_t capacity,
                        uint64_t need) noexcept nogil:
    """The used bytes at which the next cycle starts; `need` is the headroom that was measured.

    Below the capacity, never less than a quarter of the free room from now: what was allocated
    during the last cycle counts as used, whatever lives of it, and may have passed the limit.
    """
    cdef uint64_t hard = goal_below(live, capacity, need), soft
    if limit >= capacity:
        return hard
    soft = goal_below(live, limit, need)
    return min(hard, max(soft, used + (limit - min(live, limit)) // 4))


cdef inline double quick_to_rise(double old, double sample) noexcept nogil:
    return sample if sample > old else old + (sample - old) / 4


# ---- measuring ---------------------------------------------------------------------------

cdef uint64_t stalls_so_far(HeapState* h) noexcept nogil:
    """Stalls that have begun.  Approximate: the two words are read apart."""
    return load64_relaxed(&h.stalls.hist.count) + load32_seq(&h.stalls.waiting)


cdef void cycle_begins(HeapState* h) noexcept nogil:
    """The collector is about to run a cycle: what was allocated since the last one?"""
    cdef Pacing* p = &h.pacing
    cdef uint64_t ns = clock_ns() - p.ended_ns
    p.begun_bytes = load64_relaxed(&h.handed_out)
    p.begun_cpu_ns = thread_cpu_ns()
    p.stalls_begun = stalls_so_far(h)
    if ns >= SHORT_NS:
        p.rate_between = (p.begun_bytes - p.ended_bytes) / (ns / SECOND)


cdef void learn_rate(HeapState* h, uint64_t nbytes, uint64_t ns) noexcept nogil:
    """Mutators allocated so much from a cycle's start until its flip.

    That is what the next cycle must expect: between cycles they are faster, since they have the
    processors to themselves.  But who stalled meanwhile would have allocated more, and a cycle that
    trusted the lower rate would start later and let them stall again.
    """
    cdef Pacing* p = &h.pacing
    cdef double rate
    if ns < SHORT_NS:
        return
    rate = nbytes / (ns / SECOND)
    if stalls_so_far(h) != p.stalls_begun:
        rate = max(rate, p.rate_between)
    p.rate = quick_to_rise(p.rate, rate)


cdef void learn_cycle(HeapState* h) noexcept nogil:
    """Takes in the cycle that has just been recorded."""
    cdef Pacing* p = &h.pacing
    # This thread alone writes the ring.
    cdef const CycleRecord* r = &h.events.cycle[(h.events.cycles - 1) % RECORDS]
    cdef uint64_t now = clock_ns(), handed_out = load64_relaxed(&h.handed_out)
    cdef uint64_t until_flip = r.cycle_ns - r.relocate_ns
    cdef double seconds = (now - p.ended_ns) / SECOND, kept
    if h.backend == BACKEND_STW:
        until_flip = 0          # mutators stand still: a cycle needs no room
    elif r.relocated:
        learn_rate(h, r.black_bytes, until_flip)
    p.flip_seconds = quick_to_rise(p.flip_seconds, until_flip / SECOND)
    kept = pow(ALLOCATION_MEMORY, seconds)
    p.allocated_bytes = kept * p.allocated_bytes + (handed_out - p.ended_bytes)
    p.allocated_seconds = kept * p.allocated_seconds + seconds
    p.marked_bytes = MARKING_MEMORY * p.marked_bytes + r.live_bytes
    p.marked_seconds = (MARKING_MEMORY * p.marked_seconds
                        + (thread_cpu_ns() - p.begun_cpu_ns) / SECOND)
    p.ended_bytes = handed_out
    p.ended_ns = now


# ---- deciding ----------------------------------------------------------------------------

cdef void decide(HeapState* h, bint at_once) noexcept nogil:
    """Sets limit, goal and headroom for the next cycle."""
    cdef Pacing* p = &h.pacing
    cdef uint64_t live = min(load64_relaxed(&h.live_bytes), h.capacity)
    cdef double need = min(p.rate * p.flip_seconds * MARGIN, <double>h.capacity)
    cdef uint64_t limit = next_limit(p.limit, policy_limit(p, live, h.capacity), at_once)
    store64_relaxed(&p.limit, limit)
    store64_relaxed(&p.peak_limit, max(p.peak_limit, limit))
    store64_relaxed(&h.headroom, h.capacity - goal_below(live, h.capacity, <uint64_t>need))
    store64_relaxed(&h.goal, next_goal(live, load64_relaxed(&h.used), limit, h.capacity,
                                       <uint64_t>need))


cdef void begin_pacing(HeapState* h) noexcept nogil:
    """Before the collector starts; the policy's parameters are set."""
    h.pacing.ended_ns = h.pacing.idle_since_ns = clock_ns()
    decide(h, True)


cdef void cycle_ended(HeapState* h, uint64_t ticket) noexcept nogil:
    """The collector has run the cycle of this ticket: what follows from it."""
    cdef Pacing* p = &h.pacing
    cdef bint at_once = ticket <= load64_seq(&p.shrink_ticket)
    cdef uint64_t keep
    learn_cycle(h)
    decide(h, at_once)
    p.table_bytes = max(p.table_bytes, h.r.tams_bytes)
    if at_once:
        release_tables(h, 0)
        release_large_tables(h)
        p.table_bytes = 0
        return
    keep = max(load64_relaxed(&h.top), p.limit + p.limit // 8)
    if p.table_bytes > keep + keep // 4 + TABLE_SLACK:
        release_tables(h, keep)
        p.table_bytes = keep


cdef void idle_ended(HeapState* h) noexcept nogil:
    """The collector has slept for `idle_ns`, or was woken: a heap in which something was allocated
    since the last cycle, and nothing lately, is collected once."""
    cdef Pacing* p = &h.pacing
    cdef uint64_t now, handed_out
    if p.idle_ns == 0:
        return
    now = clock_ns()
    handed_out = load64_relaxed(&h.handed_out)
    if handed_out != p.idle_bytes:
        p.idle_bytes = handed_out
        p.idle_since_ns = now
    elif handed_out != p.begun_bytes and now - max(p.idle_since_ns, p.ended_ns) >= p.idle_ns:
        request_shrinking(h, CAUSE_IDLE)
