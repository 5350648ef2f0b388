"""Marking: which words of from-space are live.  See mark.pyx."""
from gcheap.core.large cimport large_reached
from gcheap.core.layout cimport (
    BLOCK_WORDS, Block, HeapState, SatbBuffer, ShapeTotal, WORD, word)
from gcheap.core.pinned cimport pinned_reached
from gcheap.core.native cimport (
    cas32, load32_relaxed, load64_relaxed, or64_relaxed, store64_relaxed)
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    MARK_QUEUE = 16             # references in flight between prefetch and visit
    GRAIN_ENTRY = 1             # set in a stack entry: the slots in one grain of a large object

cdef struct Marker:
    HeapState* heap
    word base
    uint64_t limit              # bytes below TAMS: what is marked
    bint shared                 # other threads mark as well: marks are won, by one atomic step
    word* stack
    word* sp                    # next free stack entry
    word* deepest
    uint64_t live_words
    uint64_t large_bytes        # of marked large objects, and of pages of pinned ones
    ShapeTotal* count           # totals by shape, when somebody may ask what fills the heap
    word* roots                 # as recorded inside the pause; NULL: they are marked there
    uint64_t root_count
    uint64_t root_room
    uint64_t head               # queue: [tail, head) modulo MARK_QUEUE
    uint64_t tail
    word queue[MARK_QUEUE]
    SatbBuffer* spent           # buffers read inside a pause, which frees nothing

cdef void clear_marks(HeapState* h, uint64_t low, uint64_t high) noexcept nogil
cdef void begin_marking(Marker* k, HeapState* h) noexcept nogil
cdef void open_roots(Marker* k, HeapState* h) noexcept nogil
cdef void record_roots(Marker* k) noexcept nogil
cdef void mark_roots(Marker* k) noexcept nogil
cdef void mark_object(Marker* k, word obj) noexcept nogil
cdef bint mark_logged(Marker* k) noexcept nogil
cdef bint mark_open_logs(Marker* k) noexcept nogil
cdef void free_spent(Marker* k) noexcept nogil
cdef bint trace(Marker* k, uint64_t budget) noexcept nogil
cdef bint trace_slice(Marker* k, uint64_t budget) noexcept nogil
cdef uint64_t top_slots(Marker* k) noexcept nogil
cdef void empty_queue(Marker* k) noexcept nogil
cdef void give_back_stack(Marker* k, uint64_t keep) noexcept nogil
cdef void end_marking(Marker* k) noexcept nogil


cdef inline bint is_marked(HeapState* h, uint64_t index) noexcept nogil:
    """Whether the object that starts at from-space word `index` is live.

    Relaxed: only markers write; a mutator that sees an old value logs once too often.
    """
    return (load64_relaxed(&h.blocks[index // BLOCK_WORDS].live) >> (index % BLOCK_WORDS)) & 1


cdef inline bint reached(HeapState* h, word obj) noexcept nogil:
    """Whether this cycle knows `obj` to be live: marked, or allocated since Mark Start (black)."""
    cdef uint64_t offset = obj - h.r.from_base
    if offset < h.r.tams_bytes:
        return is_marked(h, offset // WORD)
    return offset < h.half_bytes or (large_reached(h, obj) and pinned_reached(h, obj))


cdef inline void set_live(Block* blocks, uint64_t index, uint64_t words) noexcept nogil:
    """Marks the object of `words` words at word `index`: a live bit for each of its words, and
    its place as the lowest start in its block where it is that.  One writer."""
    cdef Block* block = &blocks[index // BLOCK_WORDS]
    cdef uint64_t offset = index % BLOCK_WORDS
    cdef uint64_t n
    if offset < block.first_start:
        block.first_start = <uint32_t>offset
    while True:
        n = min(words, BLOCK_WORDS - offset)
        if n == BLOCK_WORDS:
            store64_relaxed(&block.live, <uint64_t>-1)
        else:
            store64_relaxed(&block.live, block.live | ((<uint64_t>1 << n) - 1) << offset)
        words -= n
        if words == 0:
            return
        block += 1
        offset = 0


cdef inline bint win_live(Block* blocks, uint64_t index, uint64_t words) noexcept nogil:
    """set_live() where several threads mark.  False: another one was first, and has the object.

    The object's first bit decides, by one fetch-or, which sets bits of this object alone: who
    loses has changed nothing.  Further blocks the winner alone writes, and a block that the
    object fills has no bit of anybody else.  Relaxed: a mark hands nothing over.  The object was
    written before Pause Mark Start, and who plans by the marks synchronizes with each marker when
    that has run out of work (mark_team.pyx).
    """
    cdef Block* block = &blocks[index // BLOCK_WORDS]
    cdef uint64_t offset = index % BLOCK_WORDS
    cdef uint64_t n = min(words, BLOCK_WORDS - offset)
    cdef uint64_t bits = (<uint64_t>-1 >> (BLOCK_WORDS - n)) << offset
    cdef uint32_t seen
    if (or64_relaxed(&block.live, bits) >> offset) & 1:
        return False
    seen = load32_relaxed(&block.first_start)
    while offset < seen and not cas32(&block.first_start, seen, <uint32_t>offset):
        seen = load32_relaxed(&block.first_start)
    words -= n
    while words:
        block += 1
        n = min(words, <uint64_t>BLOCK_WORDS)
        if n == BLOCK_WORDS:
            store64_relaxed(&block.live, <uint64_t>-1)
        else:
            or64_relaxed(&block.live, (<uint64_t>1 << n) - 1)
        words -= n
    return True
