"""Marking: tracing from the roots while mutators run, each object pushed at most once.

Snapshot at the beginning (Yuasa 1990): everything reachable at the first pause gets marked,
because the write barrier logs the old value of every slot that is overwritten meanwhile, and
everything allocated since then, above TAMS, is live by decree (black).

The values of an ephemeron count as slots of its key (weaktable.pyx).

A live object gets a bit for each of its words, which is its mark (the bit of its first word) and
at the same time all that the slide needs.  References found in an object go through a short
queue that has already prefetched their header and their block before they are looked at (Cher,
Hosking, Vitek 2004, "Software prefetching for mark-sweep").  Objects without slots, and without
ephemerons, are never pushed.  The stack has room for one entry per 16 bytes of heap, as address
space: it cannot overflow.

One thread marks.  It reads slots that mutators may be writing: single words, relaxed; whichever
value it sees, the other is logged or allocated black.
"""
from gcheap.core.large cimport large_space
from gcheap.core.layout cimport (
    BLOCK_BYTES, HeapState, LargeRun, LargeSpace, MutatorState, NO_START, SHAPE_FIXED,
    SHAPE_SLOTS, SatbBuffer, ShapeInfo, WORD, word)
from gcheap.core.native cimport (
    check_that, load32_acquire, load32_relaxed, load64_acquire, load64_relaxed, mutex_lock, mutex_unlock,
    prefetch_read, prefetch_write, store32_relaxed, unlikely)
from gcheap.core.objects cimport (
    HEADER_KEY, header_words, is_reference, object_bytes, object_slots, shape_of_header)
from gcheap.core.pinned cimport is_pinned, pinned_charge, pinned_run
from gcheap.core.roots cimport visit_roots
from gcheap.core.satb cimport take_full
from gcheap.core.shapes_census cimport begin_survey, count_object, end_survey
from gcheap.core.weaktable cimport visit_values
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.mman cimport MADV_DONTNEED, madvise

cdef enum:
    KEEP_STACK = 1 << 20        # bytes of mark stack that stay resident between cycles
    ROOT_SLACK = 4096           # words of shadow stacks
    LOG_AHEAD = 32              # entries of the log whose blocks are on their way


cdef void clear_marks(HeapState* h, uint64_t low, uint64_t high) noexcept nogil:
    """Forgets the marks of the last cycle for bytes [low, high) of a half, whole units."""
    cdef uint64_t i
    for i in range(low // BLOCK_BYTES, high // BLOCK_BYTES):
        h.blocks[i].live = 0
        h.blocks[i].first_start = NO_START


cdef inline void visit(Marker* k, word obj) noexcept nogil:
    """Marks one object; pushes it if it has slots."""
    cdef uint64_t offset = obj - k.base
    cdef ShapeInfo* shape
    cdef uint64_t nbytes
    cdef word header
    if is_marked(k.heap, offset // WORD):
        return
    header = load64_relaxed(<word*>obj)     # a mutator may be drawing an identity hash
    check_that(header & 1, b"a reference leads to no object (word, header)", obj, header)
    shape = &k.heap.shapes[shape_of_header(header)]
    nbytes = object_bytes(shape, obj)
    check_that(nbytes <= k.limit - offset, b"an object runs past the top (address, bytes)",
               obj, nbytes)
    set_live(k.heap.blocks, offset // WORD, nbytes // WORD)
    k.live_words += nbytes // WORD
    if unlikely(k.count != NULL):
        count_object(&k.count[shape_of_header(header)], nbytes)
    if object_slots(shape, obj) or header & HEADER_KEY:
        k.sp[0] = obj
        k.sp += 1


cdef void visit_pinned(Marker* k, word obj) noexcept nogil:
    cdef HeapState* h = k.heap
    cdef LargeRun* run
    check_that(is_pinned(h, obj), b"a reference leads outside the heap (word, half)", obj, k.base)
    run = pinned_run(h, obj)
    check_that(run.bytes and obj % h.page == 0, b"a reference leads to no pinned array (word)",
               obj, 0)
    if run.epoch != h.epoch:
        store32_relaxed(&run.epoch, h.epoch)
        k.large_bytes += pinned_charge(h, run.bytes)
        if unlikely(k.count != NULL):
            count_object(&k.count[run.shape], pinned_charge(h, run.bytes))
        if load32_relaxed(&h.large_keys):
            k.sp[0] = obj
            k.sp += 1


cdef void visit_large(Marker* k, word obj) noexcept nogil:
    """Marks one large object, in its table: a raw one is not even looked at, unless large objects
    were used as keys of weak tables, which their headers say."""
    cdef HeapState* h = k.heap
    cdef LargeSpace* s = large_space(h, obj)
    cdef LargeRun* run
    cdef ShapeInfo* shape
    cdef uint64_t offset
    if s == NULL:
        visit_pinned(k, obj)
        return
    offset = obj - s.from_base
    if offset >> s.shift >= s.tams:
        return                  # black
    run = &s.from_runs[offset >> s.shift]
    check_that(run.bytes and offset % (<uint64_t>1 << s.shift) == 0,
               b"a reference leads to no large object (word, base)", obj, s.from_base)
    if run.epoch == h.epoch:
        return
    store32_relaxed(&run.epoch, h.epoch)
    k.large_bytes += run.bytes
    if unlikely(k.count != NULL):
        count_object(&k.count[run.shape], run.bytes)
    shape = &h.shapes[run.shape]
    if (shape.kind == SHAPE_SLOTS or (shape.kind == SHAPE_FIXED and shape.refs)
            or load32_relaxed(&h.large_keys)):
        k.sp[0] = obj
        k.sp += 1


cdef inline void visit_oldest(Marker* k) noexcept nogil:
    k.tail += 1
    visit(k, k.queue[(k.tail - 1) % MARK_QUEUE])


cdef inline void enqueue(Marker* k, word obj) noexcept nogil:
    """Prefetches what a visit needs; visits the oldest of the queue when that is full."""
    cdef uint64_t offset = obj - k.base
    if offset >= k.limit:
        if offset >= k.heap.half_bytes:
            visit_large(k, obj)
        return                  # black
    check_that(offset % WORD == 0, b"a reference is not aligned (word)", obj, 0)
    prefetch_read(<void*>obj)
    prefetch_write(&k.heap.blocks[offset // BLOCK_BYTES])
    k.queue[k.head % MARK_QUEUE] = obj
    k.head += 1
    if k.head - k.tail == MARK_QUEUE:
        visit_oldest(k)


cdef void begin_marking(Marker* k, HeapState* h) noexcept nogil:
    k.heap = h
    k.base = h.r.from_base
    k.limit = h.r.tams_bytes
    k.sp = k.deepest = h.mark_stack
    k.live_words = k.large_bytes = k.head = k.tail = 0
    k.count = begin_survey(h)
    k.spent = NULL


cdef void open_roots(Marker* k, HeapState* h) noexcept nogil:
    """Makes room to record the roots in, touched ahead of the pause; without memory there is none.

    What finds no room (handles made meanwhile, deep shadow stacks) is marked inside the pause.
    """
    k.root_count = 0
    k.root_room = load32_acquire(&h.handle_high) + ROOT_SLACK
    k.roots = <word*>malloc(k.root_room * sizeof(word))
    if k.roots == NULL:
        k.root_room = 0
    else:
        memset(k.roots, 0, k.root_room * sizeof(word))


cdef word record_root(void* context, HeapState* h, word value) noexcept nogil:
    cdef Marker* k = <Marker*>context
    if k.root_count < k.root_room:
        k.roots[k.root_count] = value
        k.root_count += 1
    else:
        enqueue(k, value)
    return value


cdef void record_roots(Marker* k) noexcept nogil:
    """The snapshot of the roots, inside the pause: it reads them in order, and follows none, so
    that it costs the same however large the heap is that they lead into."""
    visit_roots(k.heap, record_root, k)


cdef void close_roots(Marker* k) noexcept nogil:
    free(k.roots)
    k.roots = NULL
    k.root_count = k.root_room = 0


cdef void mark_roots(Marker* k) noexcept nogil:
    """Marks what was recorded; traces nothing.  Mutators may run: whatever they drop or overwrite
    now was in the snapshot."""
    cdef uint64_t i
    for i in range(k.root_count):
        enqueue(k, k.roots[i])
    close_roots(k)


cdef void mark_object(Marker* k, word obj) noexcept nogil:
    """Marks an object, soon; traces nothing."""
    enqueue(k, obj)


cdef void mark_value(void* context, word target) noexcept nogil:
    enqueue(<Marker*>context, target)


cdef inline void prefetch_block(Marker* k, word obj) noexcept nogil:
    cdef uint64_t offset = obj - k.base
    if offset < k.limit:
        prefetch_write(&k.heap.blocks[offset // BLOCK_BYTES])


cdef bint mark_entries(Marker* k, SatbBuffer* buffer, uint64_t count) noexcept nogil:
    """Marks the entries of a log from where it was last read, up to `count`; traces nothing.
    False: all were known to be live.

    Most are by the time the log is read, so blocks are looked at first, many misses at a time.
    """
    cdef bint found = False
    cdef uint64_t i, first = buffer.read
    for i in range(first, min(count, first + LOG_AHEAD)):
        prefetch_block(k, buffer.entry[i])
    for i in range(first, count):
        if i + LOG_AHEAD < count:
            prefetch_block(k, buffer.entry[i + LOG_AHEAD])
        if not reached(k.heap, buffer.entry[i]):
            enqueue(k, buffer.entry[i])
            found = True
    buffer.read = count
    return found


cdef bint mark_logged(Marker* k) noexcept nogil:
    """Marks what the write barrier has handed over; traces nothing.  False: there was nothing.

    Frees nothing, for it runs inside Pause Mark End, and a mutator that stopped inside malloc would
    hold the pause up: free_spent() does, later.
    """
    cdef SatbBuffer* buffer = take_full(k.heap)
    cdef SatbBuffer* following
    if buffer == NULL:
        return False
    while buffer != NULL:
        mark_entries(k, buffer, buffer.count)
        following = buffer.next
        buffer.next = k.spent
        k.spent = buffer
        buffer = following
    return True


cdef void free_spent(Marker* k) noexcept nogil:
    """Frees the buffers that mark_logged has read.  Mutators run."""
    cdef SatbBuffer* buffer
    while k.spent != NULL:
        buffer = k.spent
        k.spent = buffer.next
        free(buffer)


cdef bint mark_open_logs(Marker* k) noexcept nogil:
    """Marks what stands in the buffers that mutators are filling; traces nothing.  False: there was
    nothing new in them.

    An entry that waits in such a buffer may be the only way into a whole subgraph, and would be
    traced inside the pause of Mark End.  The buffers stay the mutators' and come to the marker once
    more, which then goes on from `read`: the pause looks at what was logged since.  Reading is safe
    because the marker alone, this thread, frees them, and because a mutator cannot detach while
    `list_lock` is held.
    """
    cdef HeapState* h = k.heap
    cdef MutatorState* m
    cdef SatbBuffer* buffer
    cdef bint found = False
    mutex_lock(&h.list_lock)
    m = h.mutators
    while m != NULL:
        # Acquire, twice: the buffer is initialized, and its first `count` entries are written.
        buffer = <SatbBuffer*>load64_acquire(<uint64_t*>&m.satb)
        if buffer != NULL and mark_entries(k, buffer, load64_acquire(&buffer.count)):
            found = True
        m = m.next
    mutex_unlock(&h.list_lock)
    return found


cdef bint trace(Marker* k, uint64_t budget) noexcept nogil:
    """Traces from the stack and the queue.  Stops before an object that would take it past
    `budget` slots; True when nothing is left."""
    cdef word obj
    cdef word* slot
    cdef word* end
    cdef word value
    cdef ShapeInfo* shape
    cdef uint64_t slots, cost
    cdef word header
    while True:
        if k.sp == k.heap.mark_stack:
            if k.tail == k.head:
                return True
            visit_oldest(k)
            continue
        if k.sp > k.deepest:
            k.deepest = k.sp
        obj = (k.sp - 1)[0]
        header = load64_relaxed(<word*>obj)
        shape = &k.heap.shapes[shape_of_header(header)]
        slots = object_slots(shape, obj)
        cost = slots + ((header & HEADER_KEY) != 0)
        if cost > budget:
            return False
        budget -= cost
        k.sp -= 1
        slot = <word*>obj + header_words(shape)
        end = slot + slots
        while slot < end:
            value = load64_relaxed(slot)
            if is_reference(shape.tag_mask, shape.tag_bits, value):
                enqueue(k, value & ~shape.tag_mask)
            slot += 1
        if unlikely(header & HEADER_KEY):
            budget -= min(budget, visit_values(k.heap, obj, header, mark_value, k))


cdef uint64_t top_slots(Marker* k) noexcept nogil:
    """Slots of the object that is traced next: a budget that adds them always gets on."""
    cdef word obj
    if k.sp == k.heap.mark_stack:
        return 0
    obj = (k.sp - 1)[0]
    return object_slots(&k.heap.shapes[shape_of_header(load64_relaxed(<word*>obj))], obj)


cdef void end_marking(Marker* k) noexcept nogil:
    """Gives most of the mark stack back."""
    cdef HeapState* h = k.heap
    cdef word keep
    close_roots(k)              # an abandoned cycle may not have come to them
    free_spent(k)
    if k.count != NULL:
        end_survey(h)
    if <word>k.deepest - <word>h.mark_stack > KEEP_STACK:
        keep = (<word>h.mark_stack + KEEP_STACK + h.page - 1) & ~(h.page - 1)
        madvise(<void*>keep, (<word>k.deepest - keep + h.page - 1) & ~(h.page - 1), MADV_DONTNEED)
