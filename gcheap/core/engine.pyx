"""What runs a heap: its userfaultfd and its collector thread, started late in a forked child.

A heap is born with both.  A forked child has neither: the inherited descriptor acts on its
parent's memory and is closed first of all, and threads are not inherited.  They are made anew when
something first asks for a cycle, so that a child that only execs pays for nothing:

           fork, in the child          request_cycle: CAS             both are there
    ON  ----------------------> COLD -----------------------> STARTING -------------> ON
                                 | ^                              |
        close: CAS               | +-- no thread; or a fork waits-+
                                 v
                                OFF

Who asks may be a Python thread or a RUNNING mutator in the middle of an allocation.  One CAS picks
the thread that starts; nobody waits for it, because a request is a ticket that the new collector
finds.  A RUNNING mutator may do it: no pause can be waiting for it, as there is nobody yet to ask
for one but another fork, which waits for a bounded time; it takes only short locks of libc's.
`close` alone waits for STARTING to end, and another fork, so that its child gets no descriptor that
is half made: it stores `hold` before it looks for STARTING, and the starter looks for `hold` after
its CAS, so one of the two sees the other.  Whoever ends that fork starts what was put off.

When the child gets no userfaultfd (EMFILE, a seccomp filter set up since), its backend becomes stw
and `Heap.why` says so.  When it gets no thread, who waits for a cycle is told.
"""
from gcheap.core.collector cimport start_collector, stop_collector
from gcheap.core.descriptor cimport begin_uffd, open_uffd
from gcheap.core.failpoint cimport FP_FORK_START, failpoint
from gcheap.core.handler cimport start_fault_server, stop_fault_server
from gcheap.core.layout cimport (
    BACKEND_MOVE, BACKEND_STW, ENGINE_COLD, ENGINE_OFF, ENGINE_ON, ENGINE_STARTING, HeapState)
from gcheap.core.mark_team cimport stop_team
from gcheap.core.native cimport (
    cas32, fence_seq, futex_wait, futex_wake_all, load32_seq, load64_seq, store32_seq)
from gcheap.core.requests cimport announce_progress
from gcheap.core.uffd cimport GC_FEATURE_MOVE, GC_FEATURE_SIGBUS
from libc.stdint cimport uint32_t, uint64_t
from posix.unistd cimport close as posix_close


cdef int open_descriptor(HeapState* h) noexcept nogil:
    """A descriptor of this process's own, with what the backend needs.  Returns an errno."""
    cdef uint64_t features = 0, ioctls = 0
    # As HeapCore.choose_backend: a heap with a fault server has faults block in the kernel.
    cdef uint64_t want = GC_FEATURE_SIGBUS if h.server == NULL else 0
    cdef int refused, error
    cdef int fd = open_uffd(&refused)
    if fd < 0:
        return -refused
    if h.backend == BACKEND_MOVE:
        want |= GC_FEATURE_MOVE
    error = begin_uffd(fd, want, &features, &ioctls)
    if error:
        posix_close(fd)
        return error
    h.fd = fd
    return 0


cdef int start_threads(HeapState* h) noexcept nogil:
    """Every native thread that a heap has, but those that the collector starts to mark with.

    Returns an errno, and then none runs.
    """
    cdef int error = 0
    if h.server != NULL and h.backend != BACKEND_STW:
        error = start_fault_server(h)
    if error == 0:
        error = start_collector(h)
    if error:
        stop_fault_server(h)
    return error


cdef void conclude(HeapState* h, uint32_t engine) noexcept nogil:
    store32_seq(&h.engine, engine)
    futex_wake_all(&h.engine)


cdef void start_engine(HeapState* h) noexcept nogil:
    """COLD -> ON, unless another thread does it.  Any thread, RUNNING or not; without the GIL."""
    if not cas32(&h.engine, ENGINE_COLD, ENGINE_STARTING):
        return
    fence_seq()                                 # STARTING before the look at `hold`
    if load32_seq(&h.hold):
        conclude(h, ENGINE_COLD)
        return
    failpoint(FP_FORK_START)
    if h.backend != BACKEND_STW and h.fd < 0:
        h.descriptor_error = open_descriptor(h)
        if h.descriptor_error:
            h.backend = BACKEND_STW             # before there is a collector to read it
    h.engine_error = start_threads(h)
    if h.engine_error == 0:
        conclude(h, ENGINE_ON)
        return
    store32_seq(&h.collector_alive, 0)
    conclude(h, ENGINE_COLD)                    # the next request tries again
    announce_progress(h)


cdef void await_start(HeapState* h) noexcept nogil:
    while load32_seq(&h.engine) == ENGINE_STARTING:
        futex_wait(&h.engine, ENGINE_STARTING, 0)


cdef void resume_start(HeapState* h) noexcept nogil:
    if load32_seq(&h.engine) == ENGINE_COLD and load64_seq(&h.requested) > load64_seq(&h.finished):
        start_engine(h)


cdef void end_engine(HeapState* h) noexcept nogil:
    """Ends the threads, after the cycle in flight; none is started any more."""
    cdef uint32_t seen = load32_seq(&h.engine)
    while seen == ENGINE_STARTING or seen == ENGINE_COLD:
        await_start(h)
        cas32(&h.engine, ENGINE_COLD, ENGINE_OFF)
        seen = load32_seq(&h.engine)
    stop_collector(h)           # first: the cycle in flight needs its faults served, and its marks
    stop_team(h)
    stop_fault_server(h)
