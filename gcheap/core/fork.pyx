"""fork(): parent and child both go on with every heap.

The child gets a copy of the memory and the forking thread alone.  So every heap must be at rest at
that moment: no cycle in flight, no range registered, no mutator inside, no lock of the core held by
a thread that the child does not have.  pthread_atfork brings it there, for C's fork() as for
Python's, and takes it on from there:

    prepare (the forking thread)        collector thread of each heap       mutators
    ---------------------------------   ---------------------------------   ---------------------
    park, if it is RUNNING itself
    lock the list of heaps
    wait until no cycle is owed         runs it to its end                  run, fault
    hold := 1                           before its flip: abandons the
    wait until busy is 0                cycle; after it: finishes it        run, fault
    stop the world                      sleeps                              stop
    take every other lock
    ---- fork() ------------------------------------------------------------------------------
    parent: world and locks released,   goes on; the ticket of an           go on
      hold := 0, kick                   abandoned cycle is still pending
    child: descriptors closed, then     none, until something asks for      none but the forking
      the same release; then each heap  a cycle (core/engine.pyx)           thread's
      becomes the child's own

Prepare may wait for as long as a relocation takes, never for a whole marking, except after a
marking that an earlier fork abandoned: that one is *owed*, so that a process that forks again and
again still collects.  It waits with the GIL held when Python forks, which is legal: neither
collectors nor RUNNING mutators need it (I5).  What it waits for, it waits for with all but the list
of heaps unlocked; that lock is taken by no collector and no RUNNING mutator.

Order of locks: heaps, then per heap (in the order they were made) list_lock, handle_lock, those
of the events, stalls and survey, then those of the fault path.  Locks that only RUNNING mutators,
the collector and holders of list_lock take (weak tables, guardians, root areas, pinned and frozen
objects) are free by then.  No other thread holds two of them but list_lock and
watch_lock, in that order.

The child's heap: objects, handles and the forking thread's shadow stack are what they were.
Mutators of other threads are gone, with their shadow stacks; handles that their Python frames held
stay, because CPython keeps those frames.  Pages are shared until one side writes them, and MOVE
answers EBUSY for them meanwhile, so such units are copied (core/place.pyx), in both processes.

fork="none": such a heap's memory is not inherited (MADV_DONTFORK), so nothing waits for it, and the
child's copy of its state only says that it is closed.

Not supported: `_Fork`, clone(2) and a fork from a signal handler that has interrupted the fault
path or a RUNNING stretch; vfork and posix_spawn share the parent's memory until exec and run no
handlers, and need none.  A thread is RUNNING in one heap at a time.
"""
from gcheap.core.engine cimport await_start, resume_start
from gcheap.core.failpoint cimport (
    FP_FORK_CHILD, FP_FORK_HELD, FP_FORK_PARENT, FP_FORK_PREPARE, FP_FORK_STOPPED, failpoint,
    forget_waiting)
from gcheap.core.fault cimport lock_fault_path, unlock_fault_path
from gcheap.core.handler cimport forget_fault_server
from gcheap.core.layout cimport ENGINE_COLD, ENGINE_OFF, HeapState, PHASE_IDLE, WAIT_SHARDS
from gcheap.core.mark_team cimport forget_team
from gcheap.core.native cimport (
    add32_seq, check_that, futex_wait, futex_wake_all, load32_acquire, load32_seq, load64_seq,
    mutex_lock, mutex_unlock, store32_seq)
from gcheap.core.records cimport PAUSE_FORK
from gcheap.core.registry cimport first_heap, last_heap, lock_heaps, unlock_heaps
from gcheap.core.safepoint cimport (
    keep_only_this_thread, park_this_thread, resume_world, stop_world, unpark_this_thread)
from gcheap.core.slow_pause cimport pause_ended
from gcheap.core.trace cimport forget_tracing
from libc.stdint cimport uint32_t
from posix.unistd cimport close as posix_close

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil,
                       void (*child)() noexcept nogil)

ctypedef void (*ForkStep)(HeapState* h) noexcept nogil

cdef uint32_t watch_lock = 0
cdef bint watching = False
cdef uint32_t forking = 0       # 1 while cycles are barred


cdef inline bint concerns(HeapState* h) noexcept nogil:
    return not h.fork_none


# ---- before ------------------------------------------------------------------------------

cdef void each_heap(ForkStep step) noexcept nogil:
    """Takes one step with every heap that a fork concerns, before the next step with any."""
    cdef HeapState* h = first_heap()
    while h != NULL:
        if concerns(h):
            step(h)
        h = h.next_live


cdef void await_owed(HeapState* h) noexcept nogil:
    """Waits for the cycle that takes the place of one that a fork abandoned."""
    while load32_seq(&h.owed) and load32_acquire(&h.collector_alive):
        futex_wait(&h.owed, 1, 0)


cdef void bar_cycles(HeapState* h) noexcept nogil:
    store32_seq(&h.hold, 1)


cdef void await_rest(HeapState* h) noexcept nogil:
    """Waits until the collector is between two cycles; `hold` keeps it there."""
    await_start(h)
    while load32_seq(&h.busy):
        futex_wait(&h.busy, 1, 0)
    check_that(load32_acquire(&h.phase) == PHASE_IDLE, b"a fork finds a cycle in flight (phase)",
               h.phase, 0)


cdef void freeze(HeapState* h) noexcept nogil:
    h.fork_pause.kind = PAUSE_FORK
    h.fork_pause.cycle = load64_seq(&h.finished)
    stop_world(h, &h.fork_pause)
    mutex_lock(&h.handle_lock)
    mutex_lock(&h.events.lock)
    mutex_lock(&h.stalls.lock)
    mutex_lock(&h.survey.lock)


cdef void before_fork() noexcept nogil:
    park_this_thread()
    lock_heaps()
    failpoint(FP_FORK_PREPARE)
    each_heap(await_owed)
    each_heap(bar_cycles)
    store32_seq(&forking, 1)
    failpoint(FP_FORK_HELD)
    each_heap(await_rest)
    each_heap(freeze)
    lock_fault_path()
    failpoint(FP_FORK_STOPPED)


# ---- after -------------------------------------------------------------------------------

cdef void thaw(HeapState* h) noexcept nogil:
    mutex_unlock(&h.survey.lock)
    mutex_unlock(&h.stalls.lock)
    mutex_unlock(&h.events.lock)
    mutex_unlock(&h.handle_lock)
    store32_seq(&h.hold, 0)
    resume_world(h, &h.fork_pause)
    add32_seq(&h.kick, 1)
    futex_wake_all(&h.kick)


cdef void thaw_all(bint in_parent) noexcept nogil:
    cdef HeapState* h = last_heap()
    unlock_fault_path()
    while h != NULL:
        if concerns(h):
            thaw(h)
            if in_parent:
                if not h.closed:        # such a heap is stopped for its list of mutators alone
                    pause_ended(h, &h.fork_pause)
                resume_start(h)     # put off by `hold`
        h = h.previous_live
    store32_seq(&forking, 0)
    unlock_heaps()


cdef void after_fork_in_parent() noexcept nogil:
    failpoint(FP_FORK_PARENT)
    thaw_all(True)
    unpark_this_thread()


cdef void adopt(HeapState* h) noexcept nogil:
    """Makes a heap the child's own.  It has one thread, so nothing here needs a lock."""
    cdef int i
    # Threads that slept on these words do not exist.
    h.r.waiters = h.starving = 0
    for i in range(WAIT_SHARDS):
        h.unit_waiters[i] = 0
    # What nobody waits for any more is not asked for: the first request starts the engine.
    h.requested = h.finished
    h.started = h.finished
    h.owed = h.busy = h.stop_collector = 0
    h.stalls.waiting = 0
    h.collector_thread = 0
    forget_fault_server(h)
    forget_team(h)
    forget_tracing(h)
    h.collector_alive = 1               # as good as: request_cycle starts it
    h.engine_error = 0
    store32_seq(&h.engine, ENGINE_OFF if h.closed else ENGINE_COLD)
    keep_only_this_thread(h)            # last: a heap that is gone otherwise ends with it


cdef void disown(HeapState* h) noexcept nogil:
    """Closes the child's copy of a fork="none" heap: the objects and side tables are not there."""
    h.forked = 1
    h.collector_thread = 0
    forget_fault_server(h)
    forget_team(h)
    h.collector_alive = 0
    h.pause = 0
    store32_seq(&h.closed, 1)
    store32_seq(&h.engine, ENGINE_OFF)


cdef void after_fork_in_child() noexcept nogil:
    global watching, watch_lock
    cdef HeapState* h = first_heap()
    cdef HeapState* following
    # First of all: an ioctl on these descriptors would act on the parent's memory.
    while h != NULL:
        if h.fd >= 0:
            posix_close(h.fd)
            h.fd = -1
        h = h.next_live
    watch_lock = 0
    watching = True
    forget_waiting()
    failpoint(FP_FORK_CHILD)
    thaw_all(False)
    h = first_heap()
    while h != NULL:
        following = h.next_live
        if concerns(h):
            adopt(h)
        else:
            disown(h)
        h = following
    unpark_this_thread()


# ---- once --------------------------------------------------------------------------------

cdef int watch_forks() noexcept nogil:
    """Registers the handlers, once a process.  Returns an errno (ENOMEM)."""
    global watching
    cdef int error = 0
    mutex_lock(&watch_lock)
    if not watching:
        error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child)
        watching = error == 0
    mutex_unlock(&watch_lock)
    return error


cdef bint fork_waiting() noexcept nogil:
    return load32_seq(&forking) != 0
