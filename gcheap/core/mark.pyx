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

A marker reads slots that mutators may be writing: single words, relaxed; whichever value it sees,
the other is logged or allocated black.

The collector marks, alone or with other threads (mark_team.pyx).  Each has a Marker of its own; an
object belongs to the one that has won its mark, which alone counts it and pushes it.  Where several
mark, a large slot array is traced grain by grain: an entry of the stack may stand for one grain.
"""
from gcheap.core.failpoint cimport FP_MARKER_CLAIM, failpoint
from gcheap.core.large cimport grain_slots, large_space
from gcheap.core.layout cimport (
    BLOCK_BYTES, HeapState, LargeRun, LargeSpace, MutatorState, NO_START, SHAPE_FIXED,
    SHAPE_SLOTS, SatbBuffer, ShapeInfo, WORD, word)
from gcheap.core.native cimport (
    cas32, check_that, load32_acquire, load32_relaxed, load64_acquire, load64_relaxed, mutex_lock,
    mutex_unlock, prefetch_read, prefetch_write, store32_relaxed, unlikely)
from gcheap.core.objects cimport (
    HEADER_KEY, header_words, is_reference, object_bytes, object_slots, shape_of_header)
from gcheap.core.pinned cimport is_pinned, pinned_charge, pinned_run
from gcheap.core.roots cimport visit_roots
from gcheap.core.satb cimport take_full
from gcheap.core.shapes_census cimport begin_survey, count_object, end_survey
from gcheap.core.weaktable cimport visit_values
from libc.stdint cimport uint32_t, uint64_t
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
    if unlikely(k.shared):
        failpoint(FP_MARKER_CLAIM)
        if not win_live(k.heap.blocks, offset // WORD, nbytes // WORD):
            return
    else:
        set_live(k.heap.blocks, offset // WORD, nbytes // WORD)
    k.live_words += nbytes // WORD
    if unlikely(k.count != NULL):
        count_object(&k.count[shape_of_header(header)], nbytes)
    if object_slots(shape, obj) or header & HEADER_KEY:
        k.sp[0] = obj
        k.sp += 1


cdef inline bint win_epoch(Marker* k, LargeRun* run) noexcept nogil:
    """Marks what has a table's entry for its mark.  False: it was marked already."""
    cdef uint32_t epoch = k.heap.epoch, seen = load32_relaxed(&run.epoch)
    if seen == epoch:
        return False
    if k.shared:
        failpoint(FP_MARKER_CLAIM)
        return cas32(&run.epoch, seen, epoch)   # who loses, loses to the same epoch
    store32_relaxed(&run.epoch, epoch)
    return True


cdef void visit_pinned(Marker* k, word obj) noexcept nogil:
    cdef HeapState* h = k.heap
    cdef LargeRun* run
    cdef uint64_t nbytes
    check_that(is_pinned(h, obj), b"a reference leads outside the heap (word, half)", obj, k.base)
    run = pinned_run(h, obj)
    nbytes = load64_acquire(&run.bytes)         # of an array of this moment, perhaps
    check_that(nbytes and obj % h.page == 0, b"a reference leads to no pinned array (word)", obj, 0)
    if win_epoch(k, run):
        k.large_bytes += pinned_charge(h, nbytes)
        if unlikely(k.count != NULL):
            count_object(&k.count[run.shape], pinned_charge(h, nbytes))
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
    if not win_epoch(k, run):
        return
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
    k.shared = False
    k.stack = k.sp = k.deepest = h.mark_stack
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


cdef inline void trace_slots(Marker* k, const ShapeInfo* shape, word* slot,
                             const word* end) noexcept nogil:
    cdef word value
    while slot < end:
        value = load64_relaxed(slot)
        if is_reference(shape.tag_mask, shape.tag_bits, value):
            enqueue(k, value & ~shape.tag_mask)
        slot += 1


cdef bint trace(Marker* k, uint64_t budget) noexcept nogil:
    """Traces from the stack and the queue.  Stops before an object that would take it past
    `budget` slots; True when nothing is left."""
    cdef word obj
    cdef word* slot
    cdef ShapeInfo* shape
    cdef uint64_t slots, cost
    cdef word header
    while True:
        if k.sp == k.stack:
            if k.tail == k.head:
                return True
            visit_oldest(k)
            continue
        if k.sp > k.deepest:
            k.deepest = k.sp
        obj = (k.sp - 1)[0]
        if unlikely(obj & GRAIN_ENTRY):
            return False            # only trace_slice() makes these, and takes them
        header = load64_relaxed(<word*>obj)
        shape = &k.heap.shapes[shape_of_header(header)]
        slots = object_slots(shape, obj)
        cost = slots + ((header & HEADER_KEY) != 0)
        if cost > budget:
            return False
        budget -= cost
        k.sp -= 1
        slot = <word*>obj + header_words(shape)
        trace_slots(k, shape, slot, slot + slots)
        if unlikely(header & HEADER_KEY):
            budget -= min(budget, visit_values(k.heap, obj, header, mark_value, k))


cdef uint64_t top_slots(Marker* k) noexcept nogil:
    """Slots of the object that is traced next: a budget that adds them always gets on."""
    cdef word obj
    if k.sp == k.stack:
        return 0
    obj = (k.sp - 1)[0]
    return object_slots(&k.heap.shapes[shape_of_header(load64_relaxed(<word*>obj))], obj)


# ---- grain by grain --------------------------------------------------------------------------

cdef void trace_grain(Marker* k, word at) noexcept nogil:
    """Traces the slots of a large object that lie in the grain at `at`."""
    cdef LargeSpace* s = large_space(k.heap, at)
    cdef uint64_t begin, end
    cdef ShapeInfo* shape = grain_slots(k.heap, s, (at - s.from_base) >> s.shift, &begin, &end)
    trace_slots(k, shape, <word*>at + begin, <word*>at + end)


cdef bint split_top(Marker* k) noexcept nogil:
    """Puts the grains of a large object in its place on the stack; the values that it is a key of
    are visited at once.  False: the object there is not so large."""
    cdef HeapState* h = k.heap
    cdef word obj = (k.sp - 1)[0], header
    cdef LargeSpace* s
    cdef uint64_t grain, slots = top_slots(k)
    if obj - k.base < h.half_bytes:
        return False
    s = large_space(h, obj)
    if s == NULL or slots * WORD <= <uint64_t>1 << s.shift:
        return False
    header = load64_relaxed(<word*>obj)
    k.sp -= 1
    # An entry for each grain, which has a page at least: the bound of the stack holds.
    grain = (object_bytes(&h.shapes[shape_of_header(header)], obj) - 1) >> s.shift
    while True:
        k.sp[0] = (obj + (grain << s.shift)) | GRAIN_ENTRY
        k.sp += 1
        if grain == 0:
            break
        grain -= 1
    if header & HEADER_KEY:
        visit_values(h, obj, header, mark_value, k)
    return True


cdef bint trace_slice(Marker* k, uint64_t budget) noexcept nogil:
    """Traces some `budget` slots, or one grain; always gets on.  True when nothing is left."""
    cdef word top
    if k.sp != k.stack:
        top = (k.sp - 1)[0]
        if top & GRAIN_ENTRY:
            k.sp -= 1
            trace_grain(k, top & ~<word>GRAIN_ENTRY)
            return False
        if split_top(k):
            return False
    return trace(k, budget + top_slots(k))


cdef void empty_queue(Marker* k) noexcept nogil:
    """Visits what is in the queue: then all that a marker has is on its stack."""
    while k.tail != k.head:
        visit_oldest(k)


cdef void give_back_stack(Marker* k, uint64_t keep) noexcept nogil:
    """Gives the pages of the mark stack beyond `keep` bytes back to the kernel."""
    cdef HeapState* h = k.heap
    cdef word low = (<word>k.stack + keep + h.page - 1) & ~(h.page - 1)
    if <word>k.deepest > low:
        madvise(<void*>low, (<word>k.deepest - low + h.page - 1) & ~(h.page - 1), MADV_DONTNEED)


cdef void end_marking(Marker* k) noexcept nogil:
    """Frees what marking has used, and gives most of the mark stack back."""
    cdef HeapState* h = k.heap
    close_roots(k)              # an abandoned cycle may not have come to them
    free_spent(k)
    if k.count != NULL:
        end_survey(h)
    give_back_stack(k, KEEP_STACK)
