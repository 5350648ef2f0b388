"""Verification, level 3: the whole graph, the world stopped.

Walks everything that the roots reach in the current half and checks that every reference
leads to the start of a well-formed object below the top, and that no two objects overlap.
A failure is a broken invariant (I1, I6, I7): it says which word and aborts.
"""
from gcheap.core.large cimport large_reached, large_space
from gcheap.core.layout cimport HeapState, LargeRun, LargeSpace, ShapeInfo, WORD, word
from gcheap.core.mark cimport is_marked
from gcheap.core.native cimport (
    add32_relaxed, check_that, load32_acquire, load32_relaxed, load64_relaxed)
from gcheap.core.objects cimport (
    header_words, is_reference, object_bytes, object_slots, shape_of_header)
from gcheap.core.pinned cimport is_pinned, pinned_reached, pinned_run
from gcheap.core.roots cimport visit_roots
from gcheap.core.weakverify cimport verify_weak
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

cdef struct Walk:
    HeapState* heap
    word base
    uint64_t top
    uint64_t marked             # objects below this offset, and large ones, must be marked
    bint all_marked
    word* sp
    uint32_t round              # of verification, counted to tell what this one has seen

cdef uint32_t rounds = 0


cdef void check_pinned(Walk* k, word obj) noexcept nogil:
    cdef HeapState* h = k.heap
    cdef LargeRun* run
    check_that(is_pinned(h, obj), b"verify: a reference leads outside the heap (word, base)", obj,
               k.base)
    run = pinned_run(h, obj)
    check_that(obj % h.page == 0 and run.bytes,
               b"verify: a reference leads to no pinned array (word, bytes)", obj, run.bytes)
    check_that(shape_of_header((<word*>obj)[0]) == run.shape
               and object_bytes(&h.shapes[run.shape], obj) == run.bytes,
               b"verify: a pinned array's header and entry differ (word, header)", obj,
               (<word*>obj)[0])
    check_that(not k.all_marked or pinned_reached(h, obj),
               b"verify: marking missed a reachable pinned array (word, bytes)", obj, run.bytes)
    run.seen = k.round


cdef void check_large(Walk* k, word obj) noexcept nogil:
    """The same for a large object, against its table."""
    cdef HeapState* h = k.heap
    cdef LargeSpace* s = large_space(h, obj)
    cdef LargeRun* run
    cdef uint64_t grain, offset
    if s == NULL:
        check_pinned(k, obj)
        return
    offset = obj - s.base[h.current]
    grain = offset >> s.shift
    check_that(grain < s.top and offset % (<uint64_t>1 << s.shift) == 0,
               b"verify: a reference leads to no large object (word, top)", obj, s.top)
    run = &s.runs[h.current][grain]
    check_that(run.bytes and run.first == grain and grain + (run.bytes >> s.shift) <= s.top,
               b"verify: a large object's entry is broken (word, bytes)", obj, run.bytes)
    check_that(not k.all_marked or large_reached(h, obj),
               b"verify: marking missed a reachable large object (word, bytes)", obj, run.bytes)
    if run.seen == k.round:
        return
    run.seen = k.round
    # Verification reads the header, which nothing else of a cycle does.
    check_that(shape_of_header((<word*>obj)[0]) == run.shape
               and object_bytes(&h.shapes[run.shape], obj) == run.bytes,
               b"verify: a large object's header and entry differ (word, header)", obj,
               (<word*>obj)[0])
    k.sp[0] = obj
    k.sp += 1


cdef void check_object(Walk* k, word obj) noexcept nogil:
    """Checks one object the first time it is reached, and pushes it."""
    cdef uint64_t offset = obj - k.base, nbytes, first, last, i
    cdef uint64_t* starts
    cdef word header
    cdef HeapState* h = k.heap
    if offset >= h.half_bytes:
        check_large(k, obj)
        return
    check_that(offset < k.top, b"verify: a reference leads outside the objects (word, top)",
               obj, k.base + k.top)
    check_that(obj % WORD == 0, b"verify: a reference is not aligned (word)", obj, 0)
    header = (<word*>obj)[0]
    check_that(header & 1, b"verify: a reference leads to no object (word, header)", obj, header)
    check_that(shape_of_header(header) < load32_acquire(&h.shape_count),
               b"verify: an object has no known shape (word, header)", obj, header)
    nbytes = object_bytes(&h.shapes[shape_of_header(header)], obj)
    check_that(nbytes <= k.top - offset, b"verify: an object runs past the top (word, bytes)",
               obj, nbytes)
    check_that(offset >= k.marked or is_marked(h, offset // WORD),
               b"verify: marking missed a reachable object (word, header)", obj, header)
    first = offset // WORD
    last = first + nbytes // WORD
    # The first visit must find all words of the object free; a later one, its start known.
    starts = h.visited + h.half_bytes // (WORD * 64)
    if starts[first // 64] >> (first % 64) & 1:
        return
    starts[first // 64] |= <uint64_t>1 << (first % 64)
    for i in range(first, last):
        check_that(not (h.visited[i // 64] >> (i % 64) & 1),
                   b"verify: two objects overlap (word, offset)", obj, i * WORD)
        h.visited[i // 64] |= <uint64_t>1 << (i % 64)
    k.sp[0] = obj
    k.sp += 1


cdef word check_root(void* context, HeapState* h, word value) noexcept nogil:
    check_object(<Walk*>context, value)
    return value


cdef void verify_graph(HeapState* h, bint marked) noexcept nogil:
    """Aborts with what broke unless the graph of the current half is sound, and, where `marked`,
    every object below TAMS that it reaches has been marked.  Uses `visited` and the mark stack.
    """
    cdef Walk k
    cdef word obj
    cdef word* slot
    cdef word* end
    cdef ShapeInfo* shape
    k.heap = h
    k.base = h.base[h.current]
    k.top = load64_relaxed(&h.top)
    k.marked = h.r.tams_bytes if marked else 0
    k.all_marked = marked
    k.sp = h.mark_stack
    k.round = add32_relaxed(&rounds, 1) + 1
    memset(h.visited, 0, k.top // 64 + 8)
    memset(h.visited + h.half_bytes // (WORD * 64), 0, k.top // 64 + 8)
    visit_roots(h, check_root, &k)
    while k.sp > h.mark_stack:
        k.sp -= 1
        obj = k.sp[0]
        shape = &h.shapes[shape_of_header((<word*>obj)[0])]
        slot = <word*>obj + header_words(shape)
        end = slot + object_slots(shape, obj)
        while slot < end:
            if is_reference(shape.tag_mask, shape.tag_bits, slot[0]):
                check_object(&k, slot[0] & ~shape.tag_mask)
            slot += 1
    verify_weak(h, marked)


cdef bint seen_last(const LargeRun* run) noexcept nogil:
    """Whether the last walk reached this large or pinned object.  Inside the same pause."""
    return run.seen == load32_relaxed(&rounds)
