"""Tracing: what each thread does, written by itself into a ring of its own, read by one thread.

    mutator, in its own code or on a fault     its ring    \
    compactor                                  its ring     >   the reader: every tick, and at the
    fault server                               its ring    /    end; keeps what it has read

A ring has one writer and one reader.  The writer stores an event and then, with release, `head`;
the reader reads `head` with acquire, copies, and stores `tail` with release, which the writer
reads with acquire before it writes where an event was.  A full ring takes nothing: the event is
counted in `lost`.  So a writer never waits, locks or allocates, and may be a thread inside a fault
(I4): its ring was made, and every page of it touched, when the thread attached or when tracing
began.

Off, all of this is one relaxed load of `Tracing.on` and a branch where something would be recorded.

**Slices.**  An event is a whole slice, written when it ends, so that a lost one leaves no half
behind.  Those of one thread nest: "running" holds the others, which do not overlap.

**Running.**  A Python program enters and leaves the heap a million times a second, and reading the
clock for that costs more than the entry.  So time is read once a `tick` (the reader's, some
milliseconds): entries that are less than GAP_NS apart are one running slice.  A thread that is
inside for longer leaves at a time that is known exactly, and so does whatever has a slice of its
own (a stop, a stall, a fault).

**Rings and threads.**  A ring outlives its thread until the reader has read it, then serves the
next thread; memory goes back with the heap.  `lock` guards the list, which only grows; who takes it
holds list_lock or nothing, and never waits with it.  A forked child is not traced: its parent's
reader is not there.
"""
from gcheap.core.layout cimport HeapState, MutatorState, RUNNING
from gcheap.core.mapping cimport map_memory, unmap_memory
from gcheap.core.native cimport (
    clock_ns, load32_acquire, load32_relaxed, load64_acquire, load64_relaxed, mutex_lock,
    mutex_unlock, store32_release, store32_seq, store64_relaxed, store64_release, thread_id)
from gcheap.core.records cimport (
    RING_ENDED, RING_FREE, RING_OWNED, TRACE_EVENTS, TRACE_RUNNING, TraceEvent, TraceRing)
from libc.errno cimport EBUSY, ENOMEM, ENOSYS, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset, strncpy

cdef enum:
    GAP_NS = 20000000


# ---- writing -----------------------------------------------------------------------------

cdef void put(TraceRing* ring, uint64_t start, uint64_t end, uint32_t kind, uint32_t detail,
              uint64_t amount) noexcept nogil:
    cdef uint64_t head = ring.head
    cdef TraceEvent* e
    if head - load64_acquire(&ring.tail) >= TRACE_EVENTS:
        store64_relaxed(&ring.lost, ring.lost + 1)
        return
    e = &ring.event[head % TRACE_EVENTS]
    e.start_ns = start
    e.end_ns = end
    e.kind = kind
    e.detail = detail
    e.amount = amount
    store64_release(&ring.head, head + 1)


cdef inline TraceRing* ring_of(MutatorState* m) noexcept nogil:
    # Acquire: who sees the ring sees it made.
    return <TraceRing*>load64_acquire(<uint64_t*>&m.ring)


cdef void stretch(MutatorState* m, TraceRing* ring, uint64_t start, uint64_t end) noexcept nogil:
    """The thread was inside the heap from `start` to `end`: lengthens the running slice, or ends it
    and begins another.  Relaxed: the reader reads them once the thread is done."""
    if ring.open_ns and not ring.inside and start > ring.seen_ns + GAP_NS:
        put(ring, ring.open_ns, ring.seen_ns, TRACE_RUNNING, 0, 0)
        store64_relaxed(&ring.open_ns, start)
    elif ring.open_ns == 0:
        store64_relaxed(&ring.open_ns, start)
    ring.seen_tick = load64_relaxed(&m.heap.tracing.tick)
    store64_relaxed(&ring.seen_ns, end)


cdef void trace_slice(MutatorState* m, uint32_t kind, uint32_t detail, uint64_t amount,
                      uint64_t start) noexcept nogil:
    """What the calling thread, the mutator's own, has done from `start` until now.  `start` 0:
    tracing began in between."""
    cdef TraceRing* ring = ring_of(m)
    cdef uint64_t now
    if ring == NULL or start == 0:
        return
    now = clock_ns()
    stretch(m, ring, start, now)
    put(ring, start, now, kind, detail, amount)


cdef void trace_inside(MutatorState* m) noexcept nogil:
    """The thread enters the heap."""
    cdef TraceRing* ring = ring_of(m)
    cdef uint64_t now
    if ring == NULL:
        return
    if ring.open_ns == 0 or ring.seen_tick != load64_relaxed(&m.heap.tracing.tick):
        now = clock_ns()
        stretch(m, ring, now, now)
    store64_relaxed(&ring.inside, 1)


cdef void trace_left(MutatorState* m) noexcept nogil:
    """The thread leaves the heap, in which it may have been for many ticks."""
    cdef TraceRing* ring = ring_of(m)
    if ring == NULL:
        return
    if ring.open_ns and ring.seen_tick != load64_relaxed(&m.heap.tracing.tick):
        ring.seen_tick = load64_relaxed(&m.heap.tracing.tick)
        store64_relaxed(&ring.seen_ns, clock_ns())
    store64_relaxed(&ring.inside, 0)


cdef void trace_compactor(HeapState* h, uint32_t kind, uint32_t detail, uint64_t amount,
                          uint64_t start) noexcept nogil:
    """What the compactor has done from `start` until now; 0: tracing began in between."""
    cdef TraceRing* ring = <TraceRing*>load64_acquire(<uint64_t*>&h.tracing.compactor)
    if ring == NULL or start == 0:
        return
    if load64_relaxed(<uint64_t*>&ring.thread_id) == 0:     # relaxed: for whoever names the track
        store64_relaxed(<uint64_t*>&ring.thread_id, <uint64_t>thread_id())
    put(ring, start, clock_ns(), kind, detail, amount)


# ---- rings -------------------------------------------------------------------------------

cdef TraceRing* free_ring(HeapState* h) noexcept nogil:
    """A ring that nobody has, or NULL."""
    cdef TraceRing* ring = h.tracing.rings
    while ring != NULL and load32_acquire(&ring.state) != RING_FREE:
        ring = ring.next
    return ring


cdef int take_ring(HeapState* h, const char* name, int64_t thread,
                   TraceRing** into) noexcept nogil:
    """A ring for a thread, all of its pages touched.  Returns an errno."""
    cdef TraceRing* ring
    mutex_lock(&h.tracing.lock)
    ring = free_ring(h)
    if ring == NULL:
        ring = <TraceRing*>map_memory(sizeof(TraceRing), True)
        if ring == NULL:
            mutex_unlock(&h.tracing.lock)
            return errno or ENOMEM
        memset(ring, 0, sizeof(TraceRing))
        ring.next = h.tracing.rings
        h.tracing.rings = ring
    ring.head = ring.tail = ring.lost = ring.said = 0
    ring.open_ns = ring.seen_ns = ring.seen_tick = ring.inside = 0
    h.tracing.owners += 1
    ring.owner = h.tracing.owners
    ring.thread_id = thread
    strncpy(ring.name, name, sizeof(ring.name) - 1)
    store32_release(&ring.state, RING_OWNED)
    mutex_unlock(&h.tracing.lock)
    store64_release(<uint64_t*>into, <uint64_t>ring)
    return 0


cdef int give_ring(HeapState* h, MutatorState* m) noexcept nogil:
    """A mutator has its ring from its first trace until it ends."""
    if m.ring != NULL:
        return 0
    # Relaxed: a fault server that has just been started may not have said which thread it is.
    return take_ring(h, m.name, <int64_t>load64_relaxed(<uint64_t*>&m.thread_id), &m.ring)


cdef int trace_attached(HeapState* h, MutatorState* m) noexcept nogil:
    """Gives a mutator its ring when the heap is traced.  With list_lock held.  Returns an errno."""
    return give_ring(h, m) if h.tracing.on else 0


cdef void trace_detached(MutatorState* m) noexcept nogil:
    """The mutator is gone; what its ring holds is still read.  With list_lock held."""
    if m.ring != NULL:
        store32_release(&m.ring.state, RING_ENDED)
        m.ring = NULL


cdef int begin_tracing(HeapState* h) noexcept nogil:
    """Every thread of the heap writes events from now on.  Any thread that is not RUNNING, one at a
    time.  Returns an errno, and then none does; EBUSY: they do already."""
    cdef MutatorState* m
    cdef TraceRing* ring
    cdef int error = 0
    if not GCHEAP_TRACING_BUILT:
        return ENOSYS
    mutex_lock(&h.list_lock)
    if h.tracing.on:
        mutex_unlock(&h.list_lock)
        return EBUSY
    ring = h.tracing.rings
    while ring != NULL:         # of the last time
        ring.tail = load64_acquire(&ring.head)
        store64_relaxed(&ring.open_ns, 0)
        store64_relaxed(&ring.inside, 0)
        ring.said = load64_relaxed(&ring.lost)
        if ring.state == RING_ENDED:
            ring.state = RING_FREE
        ring = ring.next
    if h.tracing.compactor == NULL:
        error = take_ring(h, b"gcheap-collect", 0, &h.tracing.compactor)
    if error == 0 and h.server != NULL:
        error = give_ring(h, &h.server.self)
    m = h.mutators
    while m != NULL and error == 0:
        error = give_ring(h, m)
        if error == 0 and load32_relaxed(&m.run) == RUNNING:
            m.ring.inside = 1
            m.ring.open_ns = m.ring.seen_ns = clock_ns()
        m = m.next
    if error == 0:
        store32_seq(&h.tracing.on, 1)   # under list_lock: nobody attaches
    mutex_unlock(&h.list_lock)
    return error


cdef void end_tracing(HeapState* h) noexcept nogil:
    store32_seq(&h.tracing.on, 0)


cdef void forget_tracing(HeapState* h) noexcept nogil:
    """In a forked child: the reader is the parent's."""
    h.tracing.on = 0
    h.tracing.lock = 0
    if h.tracing.compactor != NULL:
        h.tracing.compactor.thread_id = 0


cdef void free_rings(HeapState* h) noexcept nogil:
    cdef TraceRing* ring = h.tracing.rings
    while ring != NULL:
        h.tracing.rings = ring.next
        unmap_memory(<uint64_t>ring, sizeof(TraceRing))
        ring = h.tracing.rings


# ---- reading -----------------------------------------------------------------------------

cdef uint64_t read_ring(TraceRing* ring, TraceEvent* into) noexcept nogil:
    """Takes what there is, at most TRACE_EVENTS.  The reader alone."""
    cdef uint64_t tail = ring.tail, head = load64_acquire(&ring.head), i
    for i in range(head - tail):
        memcpy(&into[i], &ring.event[(tail + i) % TRACE_EVENTS], sizeof(TraceEvent))
    store64_release(&ring.tail, head)
    return head - tail


cdef bint last_running(TraceRing* ring, TraceEvent* into) noexcept nogil:
    """The running slice that its thread has not ended: until now when it is inside."""
    into.start_ns = load64_relaxed(&ring.open_ns)
    into.end_ns = (clock_ns() if load64_relaxed(&ring.inside)
                   else load64_relaxed(&ring.seen_ns))
    into.kind = TRACE_RUNNING
    into.detail = 0
    into.amount = 0
    store64_relaxed(&ring.open_ns, 0)
    return into.start_ns != 0
