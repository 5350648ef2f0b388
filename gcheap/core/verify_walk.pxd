"""Walking objects one after the other, each checked before it is stepped over."""
from gcheap.core.layout cimport HeapState, LARGE_SPACES, LargeSpace, ShapeInfo, WORD, word
from gcheap.core.native cimport check_that, load32_acquire, load64_relaxed
from gcheap.core.objects cimport header_words, object_bytes, object_slots, shape_of_header
from libc.stdint cimport uint64_t

ctypedef void (*ObjectVisitor)(HeapState* h, word obj) noexcept nogil
ctypedef void (*LargeVisitor)(HeapState* h, word obj, uint64_t nbytes) noexcept nogil


cdef inline uint64_t checked_words(HeapState* h, word obj, uint64_t room) noexcept nogil:
    """Words of the object at `obj`, which must be well-formed and have at most `room` words.
    The world is stopped."""
    cdef word header = (<word*>obj)[0]
    cdef uint64_t words
    check_that(header & 1, b"verify: no object where one must start (address, header)", obj, header)
    check_that(shape_of_header(header) < load32_acquire(&h.shape_count),
               b"verify: an object has no known shape (address, header)", obj, header)
    words = object_bytes(&h.shapes[shape_of_header(header)], obj) // WORD
    check_that(words <= room, b"verify: an object runs too far (address, words)", obj, words)
    return words


cdef inline word* slots_of(HeapState* h, word obj, uint64_t* count) noexcept nogil:
    """The first slot of an object, and how many it has."""
    cdef ShapeInfo* shape = &h.shapes[shape_of_header((<word*>obj)[0])]
    count[0] = object_slots(shape, obj)
    return <word*>obj + header_words(shape)


cdef inline void walk_units(HeapState* h, word at, uint64_t count,
                            ObjectVisitor visit) noexcept nogil:
    """Visits the objects of units as they were allocated: each unit from its start to its first
    zero header."""
    cdef uint64_t unit
    cdef word obj, end
    for unit in range(count):
        obj = at + (unit << h.unit_shift)
        end = obj + h.unit_bytes
        while obj < end and (<word*>obj)[0]:
            visit(h, obj)
            obj += checked_words(h, obj, (end - obj) // WORD) * WORD


cdef inline void walk_large(HeapState* h, LargeVisitor visit) noexcept nogil:
    """Visits the large objects of the current halves, by their tables."""
    cdef LargeSpace* s
    cdef uint64_t grain, nbytes
    cdef int i
    for i in range(LARGE_SPACES):
        s = &h.large[i]
        for grain in range(load64_relaxed(&s.top)):
            nbytes = s.runs[h.current][grain].bytes
            if nbytes:
                visit(h, s.base[h.current] + (grain << s.shift), nbytes)
