"""Looking at the graph from any thread, in a pause of its own.

Whoever asks makes the pause himself: it stops the world as the collector does, and reads from
the roots on.

    caller     GIL released | stop_world | roots, traversal, handles taken | resume_world | GIL
    mutators   RUNNING ....... PARKED ........................................ RUNNING
    collector  goes on: marks, plans, builds units; it waits where it wants a pause of its own
    compactor  goes on: builds and places units

Why nothing waits in a circle.  The caller holds `list_lock` for the pause, as whoever stops the
world does, and inside waits for three things only:

* that no mutator is RUNNING.  One that is never blocks (I5), and needs neither the GIL, which the
  caller has released, nor `list_lock`.
* for a unit of to-space, when it reads one that has not arrived.  The read takes the fault path
  like any other.  An attached caller claims the unit and builds it in its own bounce buffer; its
  mutator is OUTSIDE, but no flip can come while it holds the lock.  A thread that is not attached
  waits for the compactor (a foreign fault), and so does one that lost the claim.  An owner of a
  unit waits for nothing (I2): from the flip until the range is unregistered the collector takes
  no lock that a pause holds.  Where it relocates inside a pause it holds `list_lock` itself, so
  that no caller is in here.
* for `frozen_lock`, which the collector holds only while it computes.

A collector that wants a pause waits for `list_lock`, and who closes the heap does so too; both
wait for the traversal and it does not wait for them.  close() sets `closed` and then takes the
lock, the caller takes the lock and then reads `closed`: either the caller sees it and leaves, or
close() unmaps nothing before the pause has ended.

What is read.  In a stopped world all roots and slots hold addresses of the current half, or of
wherever large objects live, in every phase: before the flip from-space is complete, after it
to-space is by way of the fault path (I1, I6).  A marker that runs meanwhile is not disturbed: it
writes live bits, and this reads none, but keeps a set of its own over the whole reservation.
Nothing reached here can be freed by a cycle in flight: it was reachable at its snapshot, or is
black.  The frozen are the exception: no snapshot names them, marking comes to them later, and who
unfreezes them before needs no barrier.  So whatever gets a handle is logged, and the handles taken
inside the pause name live objects.

The traversal is breadth first: a queue that grows by mremap and so cannot overflow (a list of
ten million objects needs one entry at a time, an array of ten million references eighty megabytes
for as long as it takes), from which what is soon to be visited can be prefetched, and which makes
the first path found a shortest one.

What stands outside the heap and holds objects strongly is read as well: agents and queues of
guardians are roots, the values of ephemerons hang on their keys.  Overwriting or dropping them has
no barrier, because a mutator logs what it reads there (nonstrong.pyx); so does the caller, whose
report may name them: otherwise a marking that is under way would miss what is dropped right after.

Handles that introspection itself hands out (OBSERVER_REF) keep their objects alive like any
other, and count in what is reachable; but they are not reasons for a life, so that looking does
not change what is seen.
"""
from gcheap.core.addresses cimport set_add, set_close, set_open
from gcheap.core.failpoint cimport FP_INSPECT_STOPPED, failpoint
from gcheap.core.frozen cimport read_frozen
from gcheap.core.guardian cimport read_guarded
from gcheap.core.layout cimport (
    HANDLE_CHUNK, HeapState, OBSERVER_NONE, SHAPE_FIXED, ShapeInfo, WORD, word)
from gcheap.core.native cimport (
    check_that, load32_relaxed, load32_seq, load64_relaxed, load8_relaxed, prefetch_read,
    store8_relaxed)
from gcheap.core.objects cimport (
    HEADER_KEY, header_words, is_reference, object_bytes, object_slots, shape_of_header)
from gcheap.core.records cimport PAUSE_INSPECT
from gcheap.core.roots cimport (
    ROOT_GUARDED, ROOT_HANDLE, Root, RootReader, drop_handle, read_roots, return_handles,
    take_handle)
from gcheap.core.safepoint cimport resume_world, stop_world
from gcheap.core.satb cimport hand_over, log_target
from gcheap.core.signals cimport unblock_sigbus
from gcheap.core.slow_pause cimport pause_ended
from gcheap.core.weaktable cimport ValueVisitor, visit_values
from gcheap.core.words cimport Words, words_forget, words_free, words_push
from libc.errno cimport ENOMEM
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

cdef enum:
    AHEAD = 8                   # objects prefetched before they are visited
    FORGET = 1 << 20            # entries of the queue given back at a time


# ---- the pause ---------------------------------------------------------------------------

cdef int begin_inspection(Inspection* k, HeapState* h, uint32_t level) noexcept nogil:
    """Stops the world for a report in which handles of `level` and above are no roots.

    Any thread that is not RUNNING, without the GIL.  Returns 0, an errno or INSPECT_CLOSED; then
    the world goes on and there is nothing to end.
    """
    cdef int error
    memset(k, 0, sizeof(Inspection))
    k.heap = k.taker.heap = h
    k.level = level
    error = set_open(&k.seen, h)
    if error:
        return error
    unblock_sigbus()            # a thread that never attached may be about to take faults
    stop_world(h, &k.pause)
    if load32_seq(&h.closed):
        resume_world(h, &k.pause)
        set_close(&k.seen)
        return INSPECT_CLOSED
    failpoint(FP_INSPECT_STOPPED)
    return 0


cdef int end_inspection(Inspection* k) noexcept nogil:
    """Lets the world go on, and forgets everything but what observe() has put elsewhere.
    Returns the errno of what went wrong since the beginning."""
    return_handles(k.heap, &k.taker)
    hand_over(&k.taker)
    k.pause.kind = PAUSE_INSPECT
    k.pause.cycle = 0
    resume_world(k.heap, &k.pause)
    pause_ended(k.heap, &k.pause)
    words_free(&k.queue)
    words_free(&k.parents)
    set_close(&k.seen)
    return k.error


# ---- roots -------------------------------------------------------------------------------

cdef inline uint8_t* observer_level(HeapState* h, uint32_t handle) noexcept nogil:
    return &h.handles[handle // HANDLE_CHUNK].observer[handle % HANDLE_CHUNK]


cdef bint counts_as_root(Inspection* k, const Root* root) noexcept nogil:
    return root.kind != ROOT_HANDLE or (
        root.handle != k.own and load8_relaxed(observer_level(k.heap, root.handle)) < k.level)


cdef struct Guarded:
    Inspection* k
    RootReader read
    void* context


cdef inline void log_named(Inspection* k, word obj) noexcept nogil:
    """What the report may name, although no barrier says when it is let go of."""
    if load32_relaxed(&k.heap.marking):
        log_target(&k.taker, obj)


cdef void guarded_root(void* context, word value) noexcept nogil:
    cdef Guarded* g = <Guarded*>context
    cdef Root root
    log_named(g.k, value)
    root.kind = ROOT_GUARDED
    root.handle = 0
    root.mutator = NULL
    root.position = 0
    g.read(g.context, g.k.heap, &root, value)


cdef void read_all_roots(Inspection* k, RootReader read, void* context) noexcept nogil:
    """Every root and where it stands, also those that do not count here."""
    cdef Guarded guarded
    read_roots(k.heap, read, context)
    read_frozen(k.heap, read, context)
    guarded.k = k
    guarded.read = read
    guarded.context = context
    read_guarded(k.heap, guarded_root, &guarded)


cdef void reach_root(void* context, HeapState* h, const Root* root, word value) noexcept nogil:
    cdef Inspection* k = <Inspection*>context
    if counts_as_root(k, root):
        reach(k, value)


cdef void reach_roots(Inspection* k) noexcept nogil:
    """Puts what the roots name into the queue."""
    k.place = 0
    read_all_roots(k, reach_root, k)


# ---- the traversal -----------------------------------------------------------------------

cdef struct Values:             # of the ephemerons of one key
    Inspection* k
    word key
    EdgeVisitor on_edge
    void* context


cdef void reach_value(void* context, word target) noexcept nogil:
    cdef Values* v = <Values*>context
    log_named(v.k, target)
    if v.on_edge != NULL:
        v.on_edge(v.context, v.k, v.key, EPHEMERON, target)
    reach(v.k, target)


cdef void each_ephemeron(Inspection* k, word obj, ValueVisitor visit, void* context) noexcept nogil:
    """Visits the values that weak tables hold as long as `obj` lives."""
    cdef word header = load64_relaxed(<word*>obj)
    if header & HEADER_KEY:
        visit_values(k.heap, obj, header, visit, context)


cdef void reach(Inspection* k, word obj) noexcept nogil:
    """Puts an object into the queue the first time it is reached."""
    check_that(obj - k.seen.low < k.heap.reservation_bytes and obj % WORD == 0,
               b"inspect: a reference leads outside the heap (word, reservation)", obj,
               k.seen.low)
    if obj == k.avoided or not set_add(&k.seen, obj):
        return
    prefetch_read(<void*>obj)
    if not words_push(&k.queue, obj) or (k.keep and not words_push(&k.parents, k.place)):
        k.error = ENOMEM


cdef void traverse(Inspection* k, ObjectVisitor on_object, EdgeVisitor on_edge,
                   void* context) noexcept nogil:
    """Visits what the queue holds and leads to, each object once and its slots in order.

    `on_object` and `on_edge` may be NULL.  `on_edge` comes for each reference, before its target
    is reached, and for each value of an ephemeron, with the slot EPHEMERON.  Ends early when a
    visitor sets `done`, or at an error.
    """
    cdef HeapState* h = k.heap
    cdef ShapeInfo* shape
    cdef word obj, header, value
    cdef word* slots
    cdef uint64_t i, count
    cdef Values values
    values.k = k
    values.on_edge = on_edge
    values.context = context
    while k.head < k.queue.count and k.error == 0 and not k.done:
        obj = k.queue.at[k.head]
        if k.head + AHEAD < k.queue.count:
            prefetch_read(<void*>k.queue.at[k.head + AHEAD])
        k.head += 1
        k.place = k.head
        if k.head % FORGET == 0 and not k.keep:
            words_forget(&k.queue, k.head - FORGET, k.head)
        header = load64_relaxed(<word*>obj)
        check_that(header & 1, b"inspect: a reference leads to no object (word, header)", obj,
                   header)
        shape = &h.shapes[shape_of_header(header)]
        if on_object != NULL:
            on_object(context, k, obj, shape_of_header(header), object_bytes(shape, obj))
        slots = <word*>obj + header_words(shape)
        count = object_slots(shape, obj)
        for i in range(count):
            value = load64_relaxed(&slots[i])
            if not is_reference(shape.tag_mask, shape.tag_bits, value):
                continue
            if on_edge != NULL:
                on_edge(context, k, obj, i, value & ~shape.tag_mask)
            reach(k, value & ~shape.tag_mask)
        values.key = obj
        each_ephemeron(k, obj, reach_value, &values)


# ---- handles for the report --------------------------------------------------------------

cdef void observe(Inspection* k, word obj, uint64_t where, uint32_t level,
                  Words* found) noexcept nogil:
    """Takes a handle to an object and pushes three words: handle | shape << 32, the length of
    an array, and `where`.  The caller owns the handles, also after an error."""
    cdef uint32_t shape = shape_of_header(load64_relaxed(<word*>obj))
    cdef uint64_t length = 0
    cdef uint32_t handle
    if k.error:
        return
    if k.heap.shapes[shape].kind != SHAPE_FIXED:
        length = (<word*>obj)[1]
    log_named(k, obj)
    # The world is stopped by this thread: as good as RUNNING, nobody scans the table.
    handle = take_handle(k.heap, &k.taker, obj)
    if handle == 0:
        k.error = ENOMEM
        return
    store8_relaxed(observer_level(k.heap, handle), <uint8_t>level)
    if not (words_push(found, handle | <uint64_t>shape << 32) and words_push(found, length)
            and words_push(found, where)):
        found.count -= found.count % FOUND_WORDS
        drop_observer(k.heap, handle)
        k.error = ENOMEM


cdef void drop_observer(HeapState* h, uint32_t handle) noexcept nogil:
    """Frees a handle that observe() took.  Any thread, any moment; lock-free."""
    store8_relaxed(observer_level(h, handle), OBSERVER_NONE)
    drop_handle(h, handle)
