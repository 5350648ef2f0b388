"""The failpoint table and its Python controls (used through gcheap.failpoints).

Async-signal-safe: mutators pass failpoints inside the fault path (I4).
"""
from gcheap.core.native cimport (
    add32_seq, cas32, futex_wait, futex_wake_all, load32_acquire, load32_relaxed, load64_relaxed,
    load64_acquire, add64_relaxed, sleep_ns, store32_release, store32_seq, sub32_seq)
from libc.stdint cimport int64_t, uint32_t, uint64_t

NAMES = (
    "mark.before", "mark.concurrent", "mark.traced",
    "weak.before", "weak.cleared", "weak.resurrected", "weak.done", "sweep.gap",
    "plan.done", "register.more", "register.refused", "register.done", "flip.before", "flip.after",
    "compactor.claimed", "compactor.assembled", "compactor.placed",
    "mutator.fault", "mutator.claimed", "mutator.assembled", "mutator.placed", "mutator.wait",
    "place.move", "place.copy", "place.zeropage",
    "relocate.done", "unregister.done", "cycle.end",
    "mutator.running", "handler.poll", "handler.read", "stall.wait", "inspect.stopped",
    "cycle.abandoned",
    "fork.prepare", "fork.held", "fork.stopped", "fork.parent", "fork.child", "fork.start",
)
assert len(NAMES) == FAILPOINTS

cdef Failpoint table[FAILPOINTS]
cdef uint32_t armed_count = 0
armed = &armed_count


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
    # Before the action: disarm() turns that off first and then bumps `release`, so who still
    # sees the action sees the bump as a change.
    cdef uint32_t seen = load32_acquire(&point.release)
    cdef uint32_t action = load32_acquire(&point.action)    # pairs with arm()'s release
    if action == FP_OFF or not take(point):
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
        sleep_ns(load64_relaxed(&point.argument))
        return 0
    if action == FP_ERRNO:
        return <int64_t>load64_relaxed(&point.argument)
    return -<int64_t>load64_relaxed(&point.argument)


cdef void release_stopped(uint32_t name) noexcept nogil:
    add32_seq(&table[name].release, 1)
    futex_wake_all(&table[name].release)


cdef void forget_waiting() noexcept nogil:
    cdef int i
    for i in range(FAILPOINTS):
        store32_seq(&table[i].waiting, 0)


def arm(uint32_t index, uint32_t action, uint64_t argument, uint32_t times):
    """Sets the action of a failpoint; it must be off."""
    cdef Failpoint* point = &table[index]
    if load32_relaxed(&point.action) != FP_OFF:
        raise ValueError(f"failpoint {NAMES[index]!r} is armed already")
    point.hits = 0
    point.argument = argument
    point.times = times
    store32_release(&point.action, action)
    add32_seq(&armed_count, 1)


def disarm(uint32_t index):
    """Turns a failpoint off and lets whoever stopped there go on."""
    cdef Failpoint* point = &table[index]
    sub32_seq(&armed_count, 1)
    store32_release(&point.action, FP_OFF)
    release(index)


def release(uint32_t index):
    """Lets the threads that are stopped at a failpoint go on; it stays armed."""
    release_stopped(index)


def waiting(uint32_t index):
    """Threads stopped at a failpoint now."""
    return load32_acquire(&table[index].waiting)


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
