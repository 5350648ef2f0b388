"""Verification of the whole graph (level 3), the world stopped.

Walks everything that the roots reach in the current half and checks that every reference
leads to the start of a well-formed object below the top, and that no two objects overlap.
A failure is a broken invariant (I1, I6, I7): it says which word and aborts.
"""
from gcheap.core.layout cimport HeapState, ShapeInfo, WORD, word
from gcheap.core.mark cimport is_marked
from gcheap.core.native cimport check_that, load64_relaxed
from gcheap.core.objects cimport (
    header_words, is_reference, object_bytes, object_slots, shape_of_header)
from gcheap.core.roots cimport visit_roots
from gcheap.core.weakverify cimport verify_weak
from libc.stdint cimport uint64_t
from libc.string cimport memset

cdef struct Walk:
    HeapState* heap
    word base
    uint64_t top
    uint64_t marked             # objects below this offset must be marked
    word* sp


cdef void check_object(Walk* k, word obj) noexcept nogil:
    """Checks one object the first time it is reached, and pushes it."""
    cdef uint64_t offset = obj - k.base, nbytes, first, last, i
    cdef uint64_t* starts
    cdef word header
    cdef HeapState* h = k.heap
    check_that(offset < k.top, b"verify: a reference leads outside the objects (word, top)",
               obj, k.base + k.top)
    check_that(obj % WORD == 0, b"verify: a reference is not aligned (word)", obj, 0)
    header = (<word*>obj)[0]
    check_that(header & 1, b"verify: a reference leads to no object (word, header)", obj, header)
    check_that(shape_of_header(header) < h.shape_count,
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
    k.sp = h.mark_stack
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
