"""Native mutators: attach, allocate, collect, without the GIL and without exceptions.

What fails returns NULL or 0 and leaves a message for its thread.
"""
from gcheap._fastpath cimport alloc_slow, array_size, wait_for_cycle, wait_for_room
from gcheap.core.records cimport CAUSE_EXPLICIT
from gcheap.core.signals cimport unblock_sigbus
from gcheap.core.layout cimport (
    HeapState, MutatorState, RootArea, RUNNING, SHAPE_FIXED, SHAPE_RAW, SHAPE_SLOTS, ShapeInfo,
    WORD, word)
from gcheap.core.native cimport (
    check_that, futex_wait, load32_acquire, load32_relaxed, load32_seq, load64_relaxed, load64_seq,
    mutex_lock, mutex_unlock)
from gcheap.core.objects cimport header_of_shape, shape_of_header
from gcheap.core.pacing cimport request_shrinking
from gcheap.core.pinned cimport pinned_charge, take_pinned
from gcheap.core.requests cimport request_cycle
from gcheap.core.roots cimport add_area, remove_area
from gcheap.core.safepoint cimport (
    attach_mutator, begin_stall, detach_mutator, drop_owner, end_stall, enter_running,
    leave_running, running_mutator, thread_mutator)
from gcheap.core.tlab cimport NO_PLACE, TAKEN
from gcheap.core.stress cimport cycle_due, wait_for_flip
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport strerror

cdef extern from "gcheap/native/message.h" nogil:
    const char* message_get()
    void message_set(const char*, ...)


cdef const char* error_message() noexcept nogil:
    return message_get()


cdef void complain(const char* what) noexcept nogil:
    message_set(b"%s", what)


cdef bint refuse_running(const char* what) noexcept nogil:
    if running_mutator() == NULL:
        return False
    message_set(b"%s may wait, and this thread is RUNNING in a heap; call it before gc_enter() or "
                b"after gc_leave()", what)
    return True


# ---- attach and detach ---------------------------------------------------------------------

cdef MutatorState* gc_attach(HeapState* h, const char* name) noexcept nogil:
    """The calling thread as a mutator, OUTSIDE.  NULL: it is attached or RUNNING, the heap is
    closed, or memory is out."""
    cdef MutatorState* m = NULL
    cdef int error
    if load32_acquire(&h.closed):
        complain(b"gc_attach: the heap is closed")
        return NULL
    if thread_mutator(h) != NULL:
        complain(b"gc_attach: this thread is attached to this heap already; gc_current() is its "
                 b"mutator")
        return NULL
    if refuse_running(b"gc_attach()"):
        return NULL
    if h.server == NULL:
        unblock_sigbus()
    error = attach_mutator(h, name, &m)
    if error:
        message_set(b"gc_attach: a mutator's buffers cannot be mapped: %s", strerror(error))
        return NULL
    drop_owner(m)               # no Python object shares it
    return m


cdef void gc_detach(MutatorState* m) noexcept nogil:
    check_that(thread_mutator(m.heap) == m, b"gc_detach() on another thread than gc_attach()",
               <uint64_t>m, 0)
    if load32_relaxed(&m.run) == RUNNING:
        leave_running(m)
    detach_mutator(m)


cdef void gc_enter_open(MutatorState* m) noexcept nogil:
    """OUTSIDE -> RUNNING, in a heap that is not closed."""
    enter_running(m)
    check_that(not load32_acquire(&m.heap.closed), b"a mutator enters a closed heap",
               <uint64_t>m.heap, 0)


# ---- allocation ----------------------------------------------------------------------------

cdef word no_room(HeapState* h, uint64_t nbytes) noexcept nogil:
    message_set(b"the heap of %llu bytes is full: %llu live after the last cycle, %llu used, %llu "
                b"asked for; raise capacity or drop roots",
                <unsigned long long>h.capacity,
                <unsigned long long>load64_relaxed(&h.live_bytes),
                <unsigned long long>load64_relaxed(&h.used), <unsigned long long>nbytes)
    return 0


cdef word gc_alloc_slow(MutatorState* m, uint64_t nbytes, word header,
                        uint64_t length) noexcept nogil:
    """What inline allocation falls back to: a safepoint, and a stall when there is no room.

    The first allocation of a mutator comes here, and one in each TLAB: who gives `gc_alloc_sized`
    a size of his own learns of it soon.
    """
    cdef uint32_t shape = shape_of_header(header)
    cdef ShapeInfo* info = &m.heap.shapes[shape]
    cdef word at
    check_that(shape != 0 and shape < load32_acquire(&m.heap.shape_count), b"not a shape (shape)",
               shape, 0)
    check_that(nbytes == info.bytes if info.kind == SHAPE_FIXED else nbytes % WORD == 0,
               b"an object is asked for of a size that is not its shape's (shape, bytes)", shape,
               nbytes)
    at = alloc_slow(m, nbytes, header, length)
    return at if at else no_room(m.heap, nbytes)


cdef word too_long(MutatorState* m, uint32_t shape, uint64_t length) noexcept nogil:
    cdef ShapeInfo* info = &m.heap.shapes[shape]
    message_set(b"the heap of %llu bytes cannot hold an array of %llu elements of %llu bytes",
                <unsigned long long>m.heap.capacity, <unsigned long long>length,
                <unsigned long long>(WORD if info.kind == SHAPE_SLOTS else info.item))
    return 0


cdef word gc_alloc_array_slow(MutatorState* m, uint32_t shape, uint64_t length) noexcept nogil:
    """An array of any length; 0: exhausted."""
    cdef uint64_t nbytes
    if not array_size(m, shape, length, &nbytes):
        return too_long(m, shape, length)
    return gc_alloc_slow(m, nbytes, header_of_shape(shape), length)


cdef word gc_alloc_pinned(MutatorState* m, uint32_t shape, uint64_t length) noexcept nogil:
    """A pinned raw array; 0: exhausted.  RUNNING; a safepoint."""
    cdef HeapState* h = m.heap
    cdef uint64_t nbytes, ticket
    cdef word at
    cdef int taken
    cdef bint found, scattered = False
    if not array_size(m, shape, length, &nbytes):
        return too_long(m, shape, length)
    check_that(h.shapes[shape].kind == SHAPE_RAW, b"only raw arrays can be pinned (shape)", shape,
               0)
    if h.stress.collect_every:
        ticket = cycle_due(m)
        if ticket:
            begin_stall(m)
            wait_for_flip(h, ticket)
            end_stall(m)
    while True:
        taken = take_pinned(h, m, nbytes, shape, length, &at)
        if taken == TAKEN:
            return at
        if taken == NO_PLACE and scattered:
            message_set(b"no %llu bytes of adjacent pages are free for a pinned array: %llu bytes "
                        b"of pinned arrays lie scattered; drop some of them, or raise capacity",
                        <unsigned long long>nbytes,
                        <unsigned long long>load64_relaxed(&h.pinned.used))
            return 0
        begin_stall(m)
        if taken == NO_PLACE:
            scattered = True
            found = wait_for_cycle(m)
        else:
            found = wait_for_room(m, pinned_charge(h, nbytes), True)
        end_stall(m)
        if not found:
            return no_room(h, nbytes)


# ---- cycles, statistics ----------------------------------------------------------------------

cdef MutatorState* step_aside(HeapState* h) noexcept nogil:
    """The calling thread's mutator, if it was RUNNING; now it is PARKED, so it may wait."""
    cdef MutatorState* m = thread_mutator(h)
    if m == NULL or load32_relaxed(&m.run) != RUNNING:
        return NULL
    begin_stall(m)
    return m


cdef void gc_collect(HeapState* h) noexcept nogil:
    """A full cycle that starts now.  Any thread; a safepoint of a RUNNING one."""
    cdef MutatorState* m = step_aside(h)
    cdef uint64_t ticket = request_shrinking(h, CAUSE_EXPLICIT)
    cdef uint32_t seen
    while True:
        seen = load32_seq(&h.progress)
        if load64_seq(&h.finished) >= ticket or not load32_acquire(&h.collector_alive):
            break
        futex_wait(&h.progress, seen, 0)
    if m != NULL:
        end_stall(m)


cdef void gc_request(HeapState* h) noexcept nogil:
    """Asks for a full cycle.  Any thread; waits for nothing."""
    request_cycle(h, CAUSE_EXPLICIT)


cdef void gc_get_statistics(HeapState* h, Statistics* into) noexcept nogil:
    """Any thread; a safepoint of a RUNNING one."""
    cdef MutatorState* m = step_aside(h)
    cdef MutatorState* each
    into.capacity = h.capacity
    into.used = load64_relaxed(&h.used)
    into.live = load64_relaxed(&h.live_bytes)
    into.cycles = load64_seq(&h.finished)
    into.relocations = load64_relaxed(&h.relocations)
    into.moved = load64_relaxed(&h.moved_bytes)
    into.copied = load64_relaxed(&h.copied_bytes)
    mutex_lock(&h.list_lock)
    into.faults = h.retired.faults + load64_relaxed(&h.foreign_faults)
    into.stalls = h.retired.stalls
    each = h.mutators
    while each != NULL:
        into.faults += load64_relaxed(&each.faults)
        into.stalls += load64_relaxed(&each.stalls)
        each = each.next
    mutex_unlock(&h.list_lock)
    if m != NULL:
        end_stall(m)


# ---- root areas ------------------------------------------------------------------------------

cdef RootArea* gc_add_roots(MutatorState* m, word* base, const uint64_t* count,
                            const TagRule* tag) noexcept nogil:
    """See gcheap.h.  RUNNING."""
    cdef RootArea* area = add_area(m, base, count, m.heap.tag_mask if tag == NULL else tag.mask,
                                   m.heap.tag_bits if tag == NULL else tag.bits)
    if area == NULL:
        complain(b"gc_add_roots: no memory")
    return area


cdef void gc_remove_roots(MutatorState* m, RootArea* area) noexcept nogil:
    remove_area(m.heap, area)
