"""Mutators and pauses: who may touch objects when.

A mutator's `run` word says where its thread is:

              enter_running                    safepoint poll during a pause
    OUTSIDE ----------------> RUNNING ----------------------------------> PARKED
       ^                        |  ^                                        |
       |      leave_running     |  |              the pause ends            |
       +------------------------+  +----------------------------------------+

Only the thread itself writes the word.  The collector asks for a stop by `pause` = 1 and then
waits until no word is RUNNING; whoever leaves RUNNING while `pause` is set bumps the futex
word `arrivals`.  Both sides write their own word before they read the other's, with
sequentially consistent order, so one of them always sees the other (Dekker):

    mutator:   run := RUNNING;  if pause: run := PARKED, wait for pause = 0, again
    collector: pause := 1;      wait until every run is not RUNNING

What may block: a RUNNING thread never does (I5), so a pause needs no lock, GIL or allocation
of anybody.  Waiting for the end of a pause is legal with the GIL held, because no RUNNING
thread needs the GIL.  `list_lock` is held by the collector for a whole pause: attaching and
detaching threads, which are OUTSIDE, wait for it, without the GIL.
"""
from gcheap.core.events cimport hist_add, hist_record, new_histogram
from gcheap.core.failpoint cimport (
    FP_MUTATOR_ATTACH, FP_MUTATOR_DETACH, FP_MUTATOR_DETACHED, FP_MUTATOR_ENTER, FP_MUTATOR_LEAVE,
    FP_MUTATOR_PARK, FP_MUTATOR_RESUMED, FP_MUTATOR_SLEEP, FP_SAFEPOINT_ASKED,
    FP_SAFEPOINT_REACHED, FP_SAFEPOINT_RELEASED, FP_SAFEPOINT_SLEEP, failpoint)
from gcheap.core.layout cimport (
    BACKEND_STW, EVENT_MUTATOR_ADDED, EVENT_MUTATOR_REMOVED, EVENT_MUTATOR_RESTARTED,
    EVENT_MUTATOR_STOPPING, EVENT_MUTATORS_STOPPED, EVENT_REQUESTING_STOP,
    EVENT_RESTARTING_MUTATORS, HeapState, MutatorState, OUTSIDE, PARKED, RUNNING, SHADOW_WORDS,
    word)
from gcheap.core.listener cimport tell, tell_of
from gcheap.core.mapping cimport map_memory, unmap_memory
from gcheap.core.native cimport (
    add32_seq, add64_relaxed, clock_ns, cpu_relax, futex_wait, futex_wake_all, load32_relaxed,
    load32_seq, mutex_lock, mutex_unlock, prefetch_read, store32_seq, sub32_acq_rel, thread_cpu_ns,
    thread_id, unlikely)
from gcheap.core.records cimport PauseRecord, TRACE_SAFEPOINT
from gcheap.core.roots cimport end_areas, return_handles
from gcheap.core.satb cimport hand_over
from gcheap.core.signals cimport unblock_sigbus
from gcheap.core.space cimport free_bounce, new_bounce, release_heap
from gcheap.core.tlab cimport retire_tlab
from gcheap.core.trace cimport (
    trace_attached, trace_detached, trace_inside, trace_left, trace_slice, trace_start, tracing)
from gcheap.core.watchdog cimport wait_for_stop
from libc.errno cimport ENOMEM, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strncpy
cdef extern from "gcheap/native/thread_local.h" nogil:
    void* thread_head_get()
    void thread_head_set(void*)
    int thread_end_hook(void (*)(void*) noexcept nogil)

cdef enum:
    SPINS = 400                 # a few microseconds: most mutators poll within that
    LINE = 64                   # of a cache


# ---- attach and detach -------------------------------------------------------------------

cdef void set_name(MutatorState* m, const char* name) noexcept nogil:
    """Copies a name.  It may be anything, and stands in lines on standard error: it stays on one
    line and has no control codes, be it those of ASCII or U+0080 to U+009F in UTF-8."""
    cdef unsigned char* at = <unsigned char*>m.name
    strncpy(m.name, name, sizeof(m.name) - 1)
    while at[0]:
        if at[0] == 0xC2 and 0x80 <= at[1] < 0xA0:
            at[0] = at[1] = b"?"
        elif at[0] < 32 or at[0] == 127:
            at[0] = b"?"
        at += 1


cdef int attach_mutator(HeapState* h, const char* name, MutatorState** out) noexcept nogil:
    """Makes the calling thread a mutator, OUTSIDE.  Returns an errno.  Waits for a pause."""
    cdef MutatorState* m = <MutatorState*>calloc(1, sizeof(MutatorState))
    cdef int error = 0
    cdef word shadow
    if m == NULL:
        return ENOMEM
    shadow = map_memory(SHADOW_WORDS * sizeof(word), True)
    error = 0 if shadow else errno
    m.fault_hist = new_histogram()
    if error:
        pass
    elif m.fault_hist == NULL:
        error = ENOMEM
    else:
        error = new_bounce(h, &m.bounce)
    if error:
        if shadow:
            unmap_memory(shadow, SHADOW_WORDS * sizeof(word))
        free(m.fault_hist)
        free(m)
        return error
    m.shadow = m.shadow_top = <word*>shadow
    m.shadow_end = m.shadow + SHADOW_WORDS
    m.heap = h
    m.owners = 2
    m.hash_state = (<uint64_t>m ^ (clock_ns() << 20)) | 1
    m.thread_id = thread_id()
    set_name(m, name)
    failpoint(FP_MUTATOR_ATTACH)
    mutex_lock(&h.list_lock)
    error = trace_attached(h, m)
    if error == 0:
        m.next = h.mutators
        h.mutators = m
        add32_seq(&h.refs, 1)
    mutex_unlock(&h.list_lock)
    if error:
        unmap_memory(shadow, SHADOW_WORDS * sizeof(word))
        free_bounce(h, m.bounce)
        free(m.fault_hist)
        free(m)
        return error
    m.thread_next = <MutatorState*>thread_head_get()
    thread_head_set(m)
    out[0] = m
    tell_of(m, EVENT_MUTATOR_ADDED)
    return 0


cdef void unlink_mutator(HeapState* h, MutatorState* m) noexcept nogil:
    """Takes a mutator off the heap's list, with all that it contributed.  Under list_lock."""
    cdef MutatorState** link = &h.mutators
    cdef MutatorState* r = &h.retired
    while link[0] != m:
        link = &link[0].next
    link[0] = m.next
    trace_detached(m)
    retire_tlab(m)
    hand_over(m)
    return_handles(h, m)
    end_areas(h, m)
    r.allocated += m.allocated
    r.faults += m.faults
    r.fault_pages += m.fault_pages
    r.fault_waits += m.fault_waits
    r.stalls += m.stalls
    r.stall_ns += m.stall_ns
    r.stall_max_ns = max(r.stall_max_ns, m.stall_max_ns)
    hist_add(r.fault_hist, m.fault_hist)


cdef void free_mutator(HeapState* h, MutatorState* m) noexcept nogil:
    """Gives back what an unlinked mutator had.  The heap's state may go with it."""
    unmap_memory(<word>m.shadow, SHADOW_WORDS * sizeof(word))
    free_bounce(h, m.bounce)
    free(m.fault_hist)
    m.fault_hist = NULL
    m.detached = 1
    drop_owner(m)
    release_heap(h)


cdef void detach_mutator(MutatorState* m) noexcept nogil:
    """Ends a mutator; the calling thread is its own and OUTSIDE.  Waits for a pause."""
    cdef HeapState* h = m.heap
    cdef MutatorState* head = <MutatorState*>thread_head_get()
    failpoint(FP_MUTATOR_DETACH)
    tell_of(m, EVENT_MUTATOR_REMOVED)
    mutex_lock(&h.list_lock)
    unlink_mutator(h, m)
    mutex_unlock(&h.list_lock)
    failpoint(FP_MUTATOR_DETACHED)
    if head == m:
        thread_head_set(m.thread_next)
    else:
        while head.thread_next != m:
            head = head.thread_next
        head.thread_next = m.thread_next
    free_mutator(h, m)


cdef void drop_owner(MutatorState* m) noexcept nogil:
    """The thread (at detach) or the Python object (at its end) lets go of the structure."""
    if sub32_acq_rel(&m.owners, 1) == 1:
        free(m)


cdef void thread_ended(void* ignored) noexcept nogil:
    """A thread ends while attached: detach it from every heap."""
    cdef MutatorState* m = <MutatorState*>thread_head_get()
    while m != NULL:
        if m.heap.forked:
            thread_head_set(m.thread_next)      # a child's copy; whoever held the locks is gone
        else:
            leave_running(m)
            detach_mutator(m)
        m = <MutatorState*>thread_head_get()


cdef MutatorState* thread_mutator(HeapState* h) noexcept nogil:
    cdef MutatorState* m = <MutatorState*>thread_head_get()
    while m != NULL and m.heap != h:
        m = m.thread_next
    return m


cdef MutatorState* running_mutator() noexcept nogil:
    """The mutator as which the calling thread is RUNNING, in whatever heap; NULL: it is not."""
    cdef MutatorState* m = <MutatorState*>thread_head_get()
    while m != NULL and load32_seq(&m.run) != RUNNING:
        m = m.thread_next
    return m


# ---- the mutator's side ------------------------------------------------------------------

cdef void wait_for_resume(HeapState* h) noexcept nogil:
    """Tells the collector that this thread has stopped, and waits for the pause to end."""
    failpoint(FP_MUTATOR_PARK)
    add32_seq(&h.arrivals, 1)
    futex_wake_all(&h.arrivals)
    while load32_seq(&h.pause):
        if failpoint(FP_MUTATOR_SLEEP) == 0:
            futex_wait(&h.pause, 1, 0)
    failpoint(FP_MUTATOR_RESUMED)


cdef void expect_faults(MutatorState* m) noexcept nogil:
    """There was a flip since this thread was last here: it may be about to take faults."""
    cdef HeapState* h = m.heap
    m.flips = load32_relaxed(&h.flips)
    # Without a fault server threads serve themselves, by SIGBUS.
    if h.server == NULL and h.backend != BACKEND_STW and unblock_sigbus():
        add64_relaxed(&h.sigbus_unblocks, 1)


cdef inline void notice_flip(MutatorState* m) noexcept nogil:
    # Relaxed: the flip was in a pause, and this thread has passed its end.
    if unlikely(load32_relaxed(&m.heap.flips) != m.flips):
        expect_faults(m)


cdef void enter_running(MutatorState* m) noexcept nogil:
    """OUTSIDE -> RUNNING.  Waits while a pause is on."""
    cdef uint64_t since
    while True:
        store32_seq(&m.run, RUNNING)
        failpoint(FP_MUTATOR_ENTER)
        if not load32_seq(&m.heap.pause):
            notice_flip(m)
            if tracing(m.heap):
                trace_inside(m)
            return
        store32_seq(&m.run, PARKED)
        since = trace_start(m.heap)
        wait_for_resume(m.heap)
        if tracing(m.heap):
            trace_slice(m, TRACE_SAFEPOINT, 0, 0, since)


cdef inline void stop_running(MutatorState* m, uint32_t run) noexcept nogil:
    if tracing(m.heap):
        trace_left(m)
    store32_seq(&m.run, run)
    failpoint(FP_MUTATOR_LEAVE)
    if load32_seq(&m.heap.pause):
        add32_seq(&m.heap.arrivals, 1)
        futex_wake_all(&m.heap.arrivals)


cdef void leave_running(MutatorState* m) noexcept nogil:
    """RUNNING -> OUTSIDE.  Does not block."""
    stop_running(m, OUTSIDE)


cdef void begin_stall(MutatorState* m) noexcept nogil:
    """RUNNING -> PARKED: the thread may block, and still is inside the heap, so that close()
    waits for it.  end_stall ends it."""
    tell_of(m, EVENT_MUTATOR_STOPPING)
    stop_running(m, PARKED)


cdef void end_stall(MutatorState* m) noexcept nogil:
    """PARKED -> RUNNING.  Waits while a pause is on."""
    enter_running(m)
    tell_of(m, EVENT_MUTATOR_RESTARTED)


cdef void park(MutatorState* m) noexcept nogil:
    """A safepoint of a RUNNING mutator: waits here while a pause is on."""
    cdef uint64_t since
    if not load32_seq(&m.heap.pause):
        return
    since = trace_start(m.heap)
    tell_of(m, EVENT_MUTATOR_STOPPING)
    while load32_seq(&m.heap.pause):        # again: the next pause was asked for meanwhile
        store32_seq(&m.run, PARKED)
        wait_for_resume(m.heap)
        store32_seq(&m.run, RUNNING)
    tell_of(m, EVENT_MUTATOR_RESTARTED)
    notice_flip(m)
    if tracing(m.heap):
        trace_slice(m, TRACE_SAFEPOINT, 0, 0, since)


# ---- the collector's side ----------------------------------------------------------------

cdef void fetch_lines(void* at, uint64_t nbytes) noexcept nogil:
    cdef uint64_t i
    for i in range(nbytes // LINE + 1):
        prefetch_read(<char*>at + LINE * i)


cdef void fetch_ahead(HeapState* h) noexcept nogil:
    """Before a stop is asked for: touches what every pause reads, and the clock.  Under list_lock.

    Since the last pause the collector has read a good part of the heap, and would find none of
    it in a cache or a TLB; whoever waits for the pause would wait for that.  With 4 GiB live it
    was two fifths of the flip.
    """
    cdef MutatorState* m = h.mutators
    fetch_lines(h, sizeof(HeapState))
    while m != NULL:
        fetch_lines(m, sizeof(MutatorState))
        prefetch_read(m.shadow)
        m = m.next
    thread_cpu_ns()             # a system call, and cold as well


cdef void stop_world(HeapState* h, PauseRecord* pause) noexcept nogil:
    """Returns when no mutator runs; the caller then owns every object until resume_world.
    `pause.kind` is set: the watchdog names it when a mutator does not stop."""
    cdef MutatorState* m
    cdef uint64_t warn_after = h.safepoint_warning_ns
    cdef uint32_t seen
    cdef int spins
    mutex_lock(&h.list_lock)
    fetch_ahead(h)
    tell(h, EVENT_REQUESTING_STOP, pause)
    pause.start_ns = clock_ns()
    pause.mutators = 0
    store32_seq(&h.pause, 1)
    failpoint(FP_SAFEPOINT_ASKED)
    m = h.mutators
    while m != NULL:
        pause.mutators += 1
        spins = 0
        while load32_seq(&m.run) == RUNNING:
            seen = load32_seq(&h.arrivals)
            if load32_seq(&m.run) != RUNNING:
                break
            spins += 1
            if spins < SPINS:
                cpu_relax()
            elif failpoint(FP_SAFEPOINT_SLEEP) == 0:
                warn_after = wait_for_stop(h, m, pause, seen, warn_after)
        m = m.next
    failpoint(FP_SAFEPOINT_REACHED)
    pause.work_ns = clock_ns()
    pause.cpu_ns = thread_cpu_ns()
    pause.reach_ns = pause.work_ns - pause.start_ns
    tell(h, EVENT_MUTATORS_STOPPED, pause)


cdef void resume_world(HeapState* h, PauseRecord* pause) noexcept nogil:
    """Lets the mutators go on, and completes the pause's record."""
    tell(h, EVENT_RESTARTING_MUTATORS, pause)
    pause.work_ns = clock_ns() - pause.work_ns
    pause.cpu_ns = thread_cpu_ns() - pause.cpu_ns
    store32_seq(&h.pause, 0)
    failpoint(FP_SAFEPOINT_RELEASED)
    futex_wake_all(&h.pause)
    hist_record(h.reach_hist, pause.reach_ns)   # here, where no mutator waits for it
    mutex_unlock(&h.list_lock)


cdef bint everyone_outside(HeapState* h) noexcept nogil:
    """Whether no mutator is inside the heap, not even parked there."""
    cdef MutatorState* m
    cdef bint outside = True
    mutex_lock(&h.list_lock)
    m = h.mutators
    while m != NULL:
        if load32_seq(&m.run) != OUTSIDE:
            outside = False
        m = m.next
    mutex_unlock(&h.list_lock)
    return outside


# ---- around a fork; see core/fork.pyx ----------------------------------------------------

cdef void park_this_thread() noexcept nogil:
    """A thread that forks while RUNNING counts as stopped: it waits for others now."""
    cdef MutatorState* m = <MutatorState*>thread_head_get()
    while m != NULL:
        if load32_seq(&m.run) == RUNNING:
            begin_stall(m)
        m = m.thread_next


cdef void unpark_this_thread() noexcept nogil:
    """The end of park_this_thread, in parent and child: nobody else parks a thread that forks."""
    cdef MutatorState* m = <MutatorState*>thread_head_get()
    while m != NULL:
        if load32_seq(&m.run) == PARKED:
            end_stall(m)
        m = m.thread_next


cdef void keep_only_this_thread(HeapState* h) noexcept nogil:
    """In a forked child: the mutators of threads that it does not have go, their shadow stacks
    with them; the calling thread's, if there is one, gets a TLAB afresh.  The last mutator of a
    heap that is gone otherwise takes the heap's state with it."""
    cdef MutatorState* kept = thread_mutator(h)
    cdef MutatorState* m = h.mutators
    cdef MutatorState* following
    if kept != NULL:
        retire_tlab(kept)
        kept.thread_id = thread_id()
    while m != NULL:
        following = m.next
        if m != kept:
            unlink_mutator(h, m)
            free_mutator(h, m)
        m = following


if thread_end_hook(thread_ended) != 0:
    raise ImportError("gcheap: this process has no thread-specific key left (PTHREAD_KEYS_MAX)")
