"""Marking: tracing from the roots, in one pass, each object pushed at most once.

The world is stopped.  A live object gets a bit for each of its words, which is its mark (the
bit of its first word) and at the same time all that the slide needs.  References found in an
object go through a short queue that has already prefetched their header and their block
before they are looked at (Cher, Hosking, Vitek 2004, "Software prefetching for mark-sweep").
Objects without slots are never pushed.  The stack has room for one entry per 16 bytes of
heap, as address space: it cannot overflow.
"""
from gcheap.core.layout cimport (
    BLOCK_BYTES, HeapState, NO_START, ShapeInfo, WORD, word)
from gcheap.core.native cimport check_that, prefetch_read, prefetch_write
from gcheap.core.objects cimport (
    header_words, is_reference, object_bytes, object_slots, shape_of_header)
from gcheap.core.roots cimport visit_roots
from libc.stdint cimport uint64_t
from posix.mman cimport MADV_DONTNEED, madvise

cdef enum:
    QUEUE = 16                  # references in flight between prefetch and use
    KEEP_STACK = 1 << 20        # bytes of mark stack that stay resident between cycles

cdef struct Marker:
    HeapState* heap
    word base
    uint64_t limit              # bytes below TAMS
    word* sp                    # next free stack entry
    word* deepest
    uint64_t live_words
    uint64_t head               # queue: [tail, head) modulo QUEUE
    uint64_t tail
    word queue[QUEUE]


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
    header = (<word*>obj)[0]
    check_that(header & 1, b"a reference leads to no object (slot's word, header)", obj, header)
    shape = &k.heap.shapes[shape_of_header(header)]
    nbytes = object_bytes(shape, obj)
    check_that(nbytes <= k.limit - offset, b"an object runs past the top (address, bytes)",
               obj, nbytes)
    set_live(k.heap.blocks, offset // WORD, nbytes // WORD)
    k.live_words += nbytes // WORD
    if object_slots(shape, obj):
        k.sp[0] = obj
        k.sp += 1


cdef inline void enqueue(Marker* k, word obj) noexcept nogil:
    """Prefetches what a visit needs; visits the oldest of the queue when that is full."""
    cdef uint64_t offset = obj - k.base
    check_that(offset < k.limit and offset % WORD == 0,
               b"a reference leads outside the heap (word, top)", obj, k.limit)
    prefetch_read(<void*>obj)
    prefetch_write(&k.heap.blocks[offset // BLOCK_BYTES])
    k.queue[k.head % QUEUE] = obj
    k.head += 1
    if k.head - k.tail == QUEUE:
        k.tail += 1
        visit(k, k.queue[(k.tail - 1) % QUEUE])


cdef void drain(Marker* k, word* bottom) noexcept nogil:
    cdef word obj
    cdef word* slot
    cdef word* end
    cdef ShapeInfo* shape
    while True:
        if k.sp == bottom:
            if k.tail == k.head:
                return
            k.tail += 1
            visit(k, k.queue[(k.tail - 1) % QUEUE])
            continue
        if k.sp > k.deepest:
            k.deepest = k.sp
        k.sp -= 1
        obj = k.sp[0]
        shape = &k.heap.shapes[shape_of_header((<word*>obj)[0])]
        slot = <word*>obj + header_words(shape)
        end = slot + object_slots(shape, obj)
        while slot < end:
            if is_reference(shape.tag_mask, shape.tag_bits, slot[0]):
                enqueue(k, slot[0] & ~shape.tag_mask)
            slot += 1


cdef word mark_root(void* context, HeapState* h, word value) noexcept nogil:
    cdef Marker* k = <Marker*>context
    enqueue(k, value)
    if k.sp - h.mark_stack > 256:       # keep the cache warm: many roots, shallow stack
        drain(k, h.mark_stack)
    return value


cdef uint64_t mark(HeapState* h) noexcept nogil:
    """Marks everything that the roots reach; returns the live words.  Inside a pause."""
    cdef Marker k
    cdef word keep
    k.heap = h
    k.base = h.r.from_base
    k.limit = h.r.tams_bytes
    k.sp = k.deepest = h.mark_stack
    k.live_words = k.head = k.tail = 0
    visit_roots(h, mark_root, &k)
    drain(&k, h.mark_stack)
    if <word>k.deepest - <word>h.mark_stack > KEEP_STACK:
        keep = (<word>h.mark_stack + KEEP_STACK + h.page - 1) & ~(h.page - 1)
        madvise(<void*>keep, (<word>k.deepest - keep + h.page - 1) & ~(h.page - 1), MADV_DONTNEED)
    return k.live_words
