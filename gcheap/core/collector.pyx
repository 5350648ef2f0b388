"""The collector thread: sleeps until a cycle is asked for, runs it, never needs the GIL (I5).

A fork wants it to stand still between two cycles (core/fork.pyx).  Both sides write their own
word before they read the other's, so one of them always sees the other (Dekker):

    collector: busy := 1;  if hold: busy := 0, wait for a kick, again
    fork:      hold := 1;  wait until busy is 0
"""
from gcheap.core.cycle cimport run_cycle
from gcheap.core.failpoint cimport (
    FP_COLLECTOR_END, FP_COLLECTOR_SLEEP, FP_CYCLE_BUSY, FP_CYCLE_END, FP_THREAD_COLLECTOR,
    failpoint)
from gcheap.core.layout cimport HeapState
from gcheap.core.native cimport (
    add32_seq, futex_wait, futex_wake_all, load32_acquire, load32_seq,
    load64_seq, store32_release, store32_seq, store64_seq)
from gcheap.core.pacing cimport cycle_begins, cycle_ended, idle_ended
from gcheap.core.requests cimport announce_progress
from gcheap.core.threads cimport join_thread, start_thread
from libc.stdint cimport uint32_t, uint64_t


cdef void stand_still(HeapState* h) noexcept nogil:
    store32_seq(&h.busy, 0)
    if load32_seq(&h.hold):
        futex_wake_all(&h.busy)


cdef void pay(HeapState* h) noexcept nogil:
    """A cycle has finished, or none will: forks need not wait for it any more."""
    if load32_seq(&h.owed):
        store32_seq(&h.owed, 0)
        futex_wake_all(&h.owed)


cdef void* collector_main(void* argument) noexcept nogil:
    cdef HeapState* h = <HeapState*>argument
    cdef uint32_t kick
    cdef uint64_t ticket
    while True:
        kick = load32_seq(&h.kick)      # before the test: a later request changes it
        if load32_acquire(&h.stop_collector):
            break
        if load64_seq(&h.requested) <= load64_seq(&h.finished):
            if failpoint(FP_COLLECTOR_SLEEP) == 0:
                futex_wait(&h.kick, kick, h.pacing.idle_ns)
            idle_ended(h)
            continue
        ticket = load64_seq(&h.finished) + 1
        store32_seq(&h.busy, 1)
        failpoint(FP_CYCLE_BUSY)
        if load32_seq(&h.hold):
            stand_still(h)
            futex_wait(&h.kick, kick, 0)
            continue
        cycle_begins(h)
        store64_seq(&h.started, ticket)
        if not run_cycle(h, ticket <= load64_seq(&h.full_ticket)):
            store32_seq(&h.owed, 1)             # a fork made it give up: the ticket stays pending
            stand_still(h)
            continue
        cycle_ended(h, ticket)
        failpoint(FP_CYCLE_END)
        store64_seq(&h.finished, ticket)
        pay(h)
        stand_still(h)
        announce_progress(h)
    failpoint(FP_COLLECTOR_END)
    store32_release(&h.collector_alive, 0)
    pay(h)
    announce_progress(h)
    return NULL


cdef int start_collector(HeapState* h) noexcept nogil:
    cdef int error = <int>failpoint(FP_THREAD_COLLECTOR)
    h.collector_alive = 1
    if error == 0:
        error = start_thread(&h.collector_thread, b"gcheap-collect", collector_main, h)
    if error:
        h.collector_alive = 0
    return error


cdef void stop_collector(HeapState* h) noexcept nogil:
    """Lets the cycle in flight end, then ends the thread and joins it."""
    store32_seq(&h.stop_collector, 1)
    add32_seq(&h.kick, 1)
    futex_wake_all(&h.kick)
    join_thread(&h.collector_thread)
