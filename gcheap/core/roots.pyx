"""Roots: handles, shadow stacks and root areas.

A handle is an index into a chunked table of addresses; index 0 is never used.  Taking one is
done by a RUNNING mutator; dropping one may happen on any thread, at any moment, attached or
not, during a pause, at shutdown (I5).  So a drop only marks the entry and pushes its index:

    live --drop_handle, any thread--> dropped, linked from handle_dropped --take_handle--> live

A dropped entry keeps its stale address, which nobody reads: scanning skips entries whose
link has HANDLE_DROPPED.  A mutator that needs a handle pops its private chain; when that is
empty it takes the whole shared chain with one exchange (so there is no ABA), and only then
grows the table.

A root area is memory of the embedder's own, of which so many words as its counter says are roots,
under a tag rule of its own.  Areas are linked under `area_lock`, which a mutator takes while it is
RUNNING and passes no safepoint under: so a stopped world finds it free and the list whole.
"""
from gcheap.core.failpoint cimport FP_HANDLE_DROP, failpoint
from gcheap.core.layout cimport (
    HANDLE_CHUNK, HANDLE_CHUNKS, HANDLE_DROPPED, HandleChunk, HeapState, MutatorState, RootArea,
    word)
from gcheap.core.native cimport (
    cas32, exchange32_acq_rel, load32_acquire, load32_relaxed, load64_relaxed, mutex_lock,
    mutex_unlock, store32_relaxed, store32_release, store64_relaxed)
from gcheap.core.objects cimport is_reference
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free


cdef uint32_t grow(HeapState* h, MutatorState* m) noexcept nogil:
    """A fresh chunk, all but one of its handles to the mutator's private chain."""
    cdef HandleChunk* chunk
    cdef uint32_t first, i
    mutex_lock(&h.handle_lock)      # short, and never held across anything that blocks
    first = h.handle_high
    if first // HANDLE_CHUNK >= HANDLE_CHUNKS:
        mutex_unlock(&h.handle_lock)
        return 0
    chunk = <HandleChunk*>calloc(1, sizeof(HandleChunk))
    if chunk == NULL:
        mutex_unlock(&h.handle_lock)
        return 0
    for i in range(HANDLE_CHUNK):
        chunk.link[i] = HANDLE_DROPPED | (first + i + 1 if i + 1 < HANDLE_CHUNK else 0)
    h.handles[first // HANDLE_CHUNK] = chunk
    # Release: a scan that sees the new bound sees the chunk.
    store32_release(&h.handle_high, first + HANDLE_CHUNK)
    mutex_unlock(&h.handle_lock)
    m.handle_free = first if first else 1
    return m.handle_free


cdef uint32_t take_handle(HeapState* h, MutatorState* m, word value) noexcept nogil:
    """A handle for `value`; 0 when memory is out.  The caller is RUNNING on m's thread."""
    cdef uint32_t index = m.handle_free
    if index == 0:
        # Acquire: the links of the whole chain, whoever pushed them.
        index = exchange32_acq_rel(&h.handle_dropped, 0)
        if index == 0:
            index = grow(h, m)
            if index == 0:
                return 0
    m.handle_free = load32_relaxed(handle_link(h, index)) & ~<uint32_t>HANDLE_DROPPED
    store64_relaxed(handle_value(h, index), value)      # forward_ahead may be reading it
    # After the value: a pause scans only when this thread is not RUNNING, so order is free.
    store32_relaxed(handle_link(h, index), 0)
    return index


cdef void push_chain(HeapState* h, uint32_t first, uint32_t last) noexcept nogil:
    cdef uint32_t head
    while True:
        head = load32_relaxed(&h.handle_dropped)
        store32_relaxed(handle_link(h, last), HANDLE_DROPPED | head)
        if cas32(&h.handle_dropped, head, first):       # release: the links before the head
            return


cdef void drop_handle(HeapState* h, uint32_t index) noexcept nogil:
    """Frees a handle.  Any thread, any moment; lock-free."""
    failpoint(FP_HANDLE_DROP)
    push_chain(h, index, index)


cdef void return_handles(HeapState* h, MutatorState* m) noexcept nogil:
    """Gives a mutator's private chain back to all, at detach."""
    cdef uint32_t last = m.handle_free, following
    if last == 0:
        return
    while True:
        following = load32_relaxed(handle_link(h, last)) & ~<uint32_t>HANDLE_DROPPED
        if following == 0:
            break
        last = following
    push_chain(h, m.handle_free, last)
    m.handle_free = 0


cdef uint64_t live_handles(HeapState* h) noexcept nogil:
    """Handles in use, approximately while others take and drop."""
    cdef uint32_t high = load32_acquire(&h.handle_high)
    cdef uint64_t i, n = 0
    for i in range(1, high):
        if load32_relaxed(handle_link(h, <uint32_t>i)) == 0:
            n += 1
    return n


cdef RootArea* add_area(MutatorState* m, word* base, const uint64_t* count, uint64_t tag_mask,
                        uint64_t tag_bits) noexcept nogil:
    """A root area that ends with `m` at the latest; NULL: no memory.  RUNNING."""
    cdef RootArea* area = <RootArea*>calloc(1, sizeof(RootArea))
    if area == NULL:
        return NULL
    area.owner = m
    area.base = base
    area.count = count
    area.tag_mask = tag_mask
    area.tag_bits = tag_bits
    mutex_lock(&m.heap.area_lock)
    area.next = m.heap.areas
    m.heap.areas = area
    mutex_unlock(&m.heap.area_lock)
    return area


cdef void unlink_areas(HeapState* h, RootArea* one, MutatorState* owner) noexcept nogil:
    """Ends the area `one`, or all of `owner`.  RUNNING, or with list_lock held."""
    cdef RootArea** link = &h.areas
    cdef RootArea* area
    mutex_lock(&h.area_lock)
    while link[0] != NULL:
        area = link[0]
        if area == one or area.owner == owner:
            link[0] = area.next
            free(area)
        else:
            link = &area.next
    mutex_unlock(&h.area_lock)


cdef void remove_area(HeapState* h, RootArea* area) noexcept nogil:
    """RUNNING."""
    unlink_areas(h, area, NULL)


cdef void end_areas(HeapState* h, MutatorState* m) noexcept nogil:
    """At detach, with list_lock held."""
    unlink_areas(h, NULL, m)


cdef void read_roots(HeapState* h, RootReader read, void* context) noexcept nogil:
    """Calls read(context, h, root, address) for every root of a stopped world that visit_roots
    visits, and says where it stands."""
    cdef uint64_t i, high = load32_acquire(&h.handle_high)
    cdef MutatorState* m = h.mutators
    cdef RootArea* area = h.areas
    cdef Root root
    cdef word* at
    root.mutator = NULL
    root.position = 0
    root.kind = ROOT_HANDLE
    for i in range(1, high):
        # Relaxed: as in visit_roots.
        if load32_relaxed(handle_link(h, <uint32_t>i)) == 0:
            root.handle = <uint32_t>i
            read(context, h, &root, handle_value(h, <uint32_t>i)[0])
    root.kind = ROOT_SHADOW
    root.handle = 0
    while m != NULL:
        root.mutator = m
        at = m.shadow
        while at < m.shadow_top:
            if is_reference(h.tag_mask, h.tag_bits, at[0]):
                root.position = at - m.shadow
                read(context, h, &root, at[0] & ~h.tag_mask)
            at += 1
        m = m.next
    root.kind = ROOT_AREA
    while area != NULL:
        root.mutator = area.owner
        for i in range(load64_relaxed(area.count)):
            if is_reference(area.tag_mask, area.tag_bits, area.base[i]):
                root.position = i
                read(context, h, &root, area.base[i] & ~area.tag_mask)
        area = area.next


cdef void visit_ranges(HeapState* h, RangeVisitor visit, void* context) noexcept nogil:
    """Calls visit(context, h, words, count, tag_mask, tag_bits) for every shadow stack and root area
    of a stopped world."""
    cdef MutatorState* m = h.mutators
    cdef RootArea* area = h.areas
    while m != NULL:
        visit(context, h, m.shadow, m.shadow_top - m.shadow, h.tag_mask, h.tag_bits)
        m = m.next
    while area != NULL:
        visit(context, h, area.base, load64_relaxed(area.count), area.tag_mask, area.tag_bits)
        area = area.next


cdef struct Visit:
    RootVisitor visit
    void* context


cdef void visit_range(void* context, HeapState* h, word* at, uint64_t count, uint64_t tag_mask,
                      uint64_t tag_bits) noexcept nogil:
    cdef Visit* v = <Visit*>context
    cdef uint64_t i
    for i in range(count):
        if is_reference(tag_mask, tag_bits, at[i]):
            at[i] = v.visit(v.context, h, at[i] & ~tag_mask) | tag_bits


cdef void visit_roots(HeapState* h, RootVisitor visit, void* context) noexcept nogil:
    """Calls visit(context, h, address) for every root of a stopped world and stores what it
    returns.  Cost: the handles ever in use at once, the words of shadow stacks and root areas."""
    cdef uint64_t c, i, chunks = load32_acquire(&h.handle_high) // HANDLE_CHUNK
    cdef HandleChunk* chunk
    cdef Visit each
    for c in range(chunks):
        chunk = h.handles[c]
        for i in range(HANDLE_CHUNK):
            # Relaxed: a concurrent drop may be missed, which keeps its object one cycle longer.
            if load32_relaxed(&chunk.link[i]) == 0 and (c or i):
                # Relaxed: a thread that is not RUNNING may be asking for the kind of its array.
                store64_relaxed(&chunk.value[i], visit(context, h, chunk.value[i]))
    each.visit = visit
    each.context = context
    visit_ranges(h, visit_range, &each)
