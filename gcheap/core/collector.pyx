"""The collector thread: sleeps until a cycle is asked for, runs it, never needs the GIL (I5).

A fork wants it to stand still between two cycles (core/fork.pyx).  Both sides write their own
word before they read the other's, so one of them always sees the other (Dekker):

    collector: busy := 1;  if hold: busy := 0, wait for a kick, again
    fork:      hold := 1;  wait until busy is 0
"""
from gcheap.core.cycle cimport run_cycle
from gcheap.core.failpoint cimport FP_CYCLE_END, failpoint
from gcheap.core.layout cimport HeapState
from gcheap.core.native cimport (
    add32_seq, futex_wait, futex_wake_all, load32_acquire, load32_seq,
    load64_relaxed, load64_seq, store32_release, store32_seq, store64_seq)
from gcheap.core.pacing cimport set_goal
from gcheap.core.requests cimport announce_progress
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    int pthread_create(pthread_t*, void*, void* (*)(void*) noexcept nogil, void*)
    int pthread_join(pthread_t, void**)
    int pthread_setname_np(pthread_t, const char*)

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int sigfillset(sigset_t*)
    int sigdelset(sigset_t*, int)
    int pthread_sigmask(int, const sigset_t*, sigset_t*)
    int SIG_SETMASK, SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGABRT


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
    cdef uint64_t ticket, allocated
    while True:
        kick = load32_seq(&h.kick)      # before the test: a later request changes it
        if load32_acquire(&h.stop_collector):
            break
        if load64_seq(&h.requested) <= load64_seq(&h.finished):
            futex_wait(&h.kick, kick, 0)
            continue
        ticket = load64_seq(&h.finished) + 1
        allocated = load64_relaxed(&h.handed_out)
        store32_seq(&h.busy, 1)
        if load32_seq(&h.hold):
            stand_still(h)
            futex_wait(&h.kick, kick, 0)
            continue
        store64_seq(&h.started, ticket)
        if not run_cycle(h, ticket <= load64_seq(&h.full_ticket)):
            store32_seq(&h.owed, 1)             # a fork made it give up: the ticket stays pending
            stand_still(h)
            continue
        set_goal(h, load64_relaxed(&h.handed_out) - allocated)
        failpoint(FP_CYCLE_END)
        store64_seq(&h.finished, ticket)
        pay(h)
        stand_still(h)
        announce_progress(h)
    store32_release(&h.collector_alive, 0)
    pay(h)
    announce_progress(h)
    return NULL


cdef int start_collector(HeapState* h) noexcept nogil:
    """Starts the thread with every asynchronous signal blocked: they belong to the program."""
    cdef sigset_t blocked, saved
    cdef int error
    sigfillset(&blocked)
    sigdelset(&blocked, SIGBUS)
    sigdelset(&blocked, SIGSEGV)
    sigdelset(&blocked, SIGFPE)
    sigdelset(&blocked, SIGILL)
    sigdelset(&blocked, SIGABRT)
    pthread_sigmask(SIG_SETMASK, &blocked, &saved)
    h.collector_alive = 1
    error = pthread_create(&h.collector_thread, NULL, collector_main, h)
    pthread_sigmask(SIG_SETMASK, &saved, NULL)
    if error:
        h.collector_alive = 0
        h.collector_thread = 0
        return error
    pthread_setname_np(h.collector_thread, b"gcheap-collect")
    return 0


cdef void stop_collector(HeapState* h) noexcept nogil:
    """Lets the cycle in flight end, then ends the thread and joins it."""
    if h.collector_thread == 0:
        return
    store32_seq(&h.stop_collector, 1)
    add32_seq(&h.kick, 1)
    futex_wake_all(&h.kick)
    pthread_join(h.collector_thread, NULL)
    h.collector_thread = 0
