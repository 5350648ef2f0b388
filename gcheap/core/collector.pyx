"""The collector thread: sleeps until a cycle is asked for, runs it, never needs the GIL (I5)."""
from gcheap.core.cycle cimport run_cycle
from gcheap.core.failpoint cimport FP_CYCLE_END, failpoint
from gcheap.core.layout cimport HeapState
from gcheap.core.native cimport (
    add32_seq, futex_wait, futex_wake_all, load32_acquire, load32_seq,
    load64_seq, store32_release, store32_seq, store64_seq)
from gcheap.core.pacing cimport cycle_begins, cycle_ended, idle_ended
from gcheap.core.requests cimport announce_progress
from gcheap.core.threads cimport join_thread, start_thread
from libc.stdint cimport uint32_t, uint64_t


cdef void* collector_main(void* argument) noexcept nogil:
    cdef HeapState* h = <HeapState*>argument
    cdef uint32_t kick
    cdef uint64_t ticket
    while True:
        kick = load32_seq(&h.kick)      # before the test: a later request changes it
        if load32_acquire(&h.stop_collector):
            break
        if load64_seq(&h.requested) <= load64_seq(&h.finished):
            futex_wait(&h.kick, kick, h.pacing.idle_ns)
            idle_ended(h)
            continue
        ticket = load64_seq(&h.finished) + 1
        cycle_begins(h)
        store64_seq(&h.started, ticket)
        run_cycle(h, ticket <= load64_seq(&h.full_ticket))
        cycle_ended(h, ticket)
        failpoint(FP_CYCLE_END)
        store64_seq(&h.finished, ticket)
        announce_progress(h)
    store32_release(&h.collector_alive, 0)
    announce_progress(h)
    return NULL


cdef int start_collector(HeapState* h) noexcept nogil:
    cdef int error
    h.collector_alive = 1
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
