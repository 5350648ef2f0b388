"""The failpoint table and its Python controls (used through gcheap.failpoints).

Async-signal-safe: mutators pass failpoints inside the fault path (I4).

What is random here is a function of a seed, the point, and the number of the arrival at the point:
no state but that counter.  So the same seed gives the n-th thread that comes to a point the same
delay, whatever else happens.

Source: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
"""
from gcheap.core.native cimport (
    add32_seq, add64_relaxed, cas32, futex_wait, futex_wake_all, load32_acquire, load32_relaxed,
    load64_acquire, load64_relaxed, sched_yield, sleep_ns, store32_relaxed, store32_release,
    store32_seq, store64_relaxed, sub32_seq)
from libc.stdint cimport int64_t, uint32_t, uint64_t

_members = globals()["FailpointName"].__members__      # to Cython the bare name is the C type
NAMES = tuple(name[3:].lower().replace("_", ".", 1) for name in _members if name != "FAILPOINTS")
assert len(NAMES) == FAILPOINTS == len(set(NAMES))
BUILT = bool(FAILPOINTS_BUILT)

cdef Failpoint table[FAILPOINTS]

cdef struct Explored:
    uint64_t arrivals
    uint64_t delayed_ns         # what the decisions say; sleeping takes longer

cdef uint32_t exploring = 0     # atomic: the three below count
cdef uint64_t explore_seed, explore_share, explore_ns
cdef Explored explored[FAILPOINTS]

cdef enum:
    NO_DELAY = -1


# ---- chance --------------------------------------------------------------------------------

cdef inline uint64_t mix(uint64_t z) noexcept nogil:
    z += <uint64_t>0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint64_t drawn(uint64_t seed, uint32_t name, uint64_t arrival) noexcept nogil:
    return mix(mix(mix(seed) + name) + arrival)


cdef int64_t decided(uint64_t seed, uint64_t share, uint64_t ns, uint32_t name,
                     uint64_t arrival) noexcept nogil:
    """NO_DELAY, 0 (the processor is offered to others), or nanoseconds to sleep."""
    cdef uint64_t r = drawn(seed, name, arrival)
    if r >> 32 >= share:
        return NO_DELAY
    r = mix(r)
    return 0 if r & 1 else <int64_t>((r >> 1) % (ns + 1))


cdef void explore_here(uint32_t name) noexcept nogil:
    cdef uint64_t arrival = add64_relaxed(&explored[name].arrivals, 1)
    cdef int64_t ns = decided(load64_relaxed(&explore_seed), load64_relaxed(&explore_share),
                              load64_relaxed(&explore_ns), name, arrival)
    if ns == NO_DELAY:
        return
    if ns == 0:
        sched_yield()
    else:
        add64_relaxed(&explored[name].delayed_ns, <uint64_t>ns)
        sleep_ns(<uint64_t>ns)


# ---- a thread comes by ---------------------------------------------------------------------

cdef bint take(Failpoint* point) noexcept nogil:
    """Uses up one of the action's times; false when none is left."""
    cdef uint32_t left
    while True:
        left = load32_relaxed(&point.times)
        if left == 0:
            return False
        if cas32(&point.times, left, left - 1):
            return True


cdef int64_t fail_slow(uint32_t name) noexcept nogil:
    cdef Failpoint* point = &table[name]
    cdef uint64_t arrival
    if load32_acquire(&exploring):
        explore_here(name)
    # Before the action: disarm() turns that off first and then bumps `release`, so who still
    # sees the action sees the bump as a change.
    cdef uint32_t seen = load32_acquire(&point.release)
    cdef uint32_t action = load32_acquire(&point.action)    # pairs with arm()'s release
    if action == FP_OFF:
        return 0
    arrival = add64_relaxed(&point.arrivals, 1)
    if arrival < load64_relaxed(&point.skip) or not take(point):
        return 0
    add64_relaxed(&point.hits, 1)
    if action == FP_PAUSE:
        add32_seq(&point.waiting, 1)
        futex_wake_all(&point.waiting)
        while load32_acquire(&point.release) == seen:
            futex_wait(&point.release, seen, 0)
        sub32_seq(&point.waiting, 1)
        return 0
    if action == FP_DELAY:
        sleep_ns(load64_relaxed(&point.low) + drawn(load64_relaxed(&point.seed), name, arrival)
                 % (load64_relaxed(&point.span) + 1))
        return 0
    if action == FP_ERRNO:
        return <int64_t>load64_relaxed(&point.low)
    return -<int64_t>load64_relaxed(&point.low)


cdef void release_stopped(uint32_t name) noexcept nogil:
    add32_seq(&table[name].release, 1)
    futex_wake_all(&table[name].release)


cdef void forget_waiting() noexcept nogil:
    cdef int i
    for i in range(FAILPOINTS):
        store32_seq(&table[i].waiting, 0)


# ---- controls ------------------------------------------------------------------------------

def arm(uint32_t index, uint32_t action, uint64_t low, uint64_t span, uint64_t seed,
        uint32_t times, uint64_t skip):
    """Sets the action of a failpoint; it must be off."""
    cdef Failpoint* point = &table[index]
    if load32_relaxed(&point.action) != FP_OFF:
        raise ValueError(f"failpoint {NAMES[index]!r} is armed already")
    store64_relaxed(&point.arrivals, 0)
    store64_relaxed(&point.hits, 0)
    store64_relaxed(&point.low, low)
    store64_relaxed(&point.span, span)
    store64_relaxed(&point.seed, seed)
    store64_relaxed(&point.skip, skip)
    # Relaxed, as the rest: a thread that the last action stopped may still be counting.
    store32_relaxed(&point.times, times)
    store32_release(&point.action, action)
    add32_seq(&armed, 1)


def disarm(uint32_t index):
    """Turns a failpoint off, if it is on, and lets whoever stopped there go on."""
    cdef Failpoint* point = &table[index]
    if load32_relaxed(&point.action) == FP_OFF:
        return
    sub32_seq(&armed, 1)
    store32_release(&point.action, FP_OFF)
    release(index)


def release(uint32_t index):
    """Lets the threads that are stopped at a failpoint go on; it stays armed."""
    release_stopped(index)


def waiting(uint32_t index):
    """Threads stopped at a failpoint now."""
    return load32_acquire(&table[index].waiting)


def arrivals(uint32_t index):
    """How many threads have come by since the failpoint was armed."""
    return load64_acquire(&table[index].arrivals)


def hits(uint32_t index):
    """How often the action applied since it was armed."""
    return load64_acquire(&table[index].hits)


def wait_for_arrival(uint32_t index, uint64_t timeout_ns):
    """Waits (without the GIL) until a thread is stopped there, or the time is up; says which."""
    cdef uint32_t* word = &table[index].waiting
    if load32_acquire(word) == 0:
        with nogil:
            futex_wait(word, 0, timeout_ns)
    return load32_acquire(word) != 0


def explore(uint64_t seed, uint64_t share, uint64_t ns):
    """Begins to delay threads at every point; `share` is of 2**32."""
    cdef int i
    if load32_relaxed(&exploring):
        raise ValueError("schedules are being explored already")
    for i in range(FAILPOINTS):
        store64_relaxed(&explored[i].arrivals, 0)
        store64_relaxed(&explored[i].delayed_ns, 0)
    store64_relaxed(&explore_seed, seed)
    store64_relaxed(&explore_share, share)
    store64_relaxed(&explore_ns, ns)
    store32_release(&exploring, 1)
    add32_seq(&armed, 1)


def stop_exploring():
    """Ends it, if it was begun."""
    if load32_relaxed(&exploring):
        sub32_seq(&armed, 1)
        store32_release(&exploring, 0)


def explored_at(uint32_t index):
    """(arrivals, nanoseconds of all delays decided there) since exploring began."""
    return load64_acquire(&explored[index].arrivals), load64_acquire(&explored[index].delayed_ns)


def decision(uint64_t seed, uint64_t share, uint64_t ns, uint32_t index, uint64_t arrival):
    """What exploring does at arrival number `arrival` (from 0): -1 nothing, 0 yields, else ns."""
    return decided(seed, share, ns, index, arrival)
