"""`big-arrays`: a dozen large arrays, replaced now and then, written here and there.

Live data of each mutator: twelve arrays of a 32nd to a 16th of its live bytes each.  Two of three
are raw, of 8-byte elements; the third is a slot array, whose elements are tagged values and, in
every fourth page, references to small objects.  A fresh array has only zeros; most pages are never
written, and stay holes whatever a cycle does.

One operation checks 16 random pages of an array and writes one word of each anew; one in 64
replaces an array instead.  From 8 MiB on raw arrays lie in huge pages, where the system has them.

The model, outside the heap: how often each page was written.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from gcheap._fastpath cimport (
    gc_alloc, gc_alloc_array, gc_elements, gc_length, gc_poll, gc_store_element)
from gcheap.core.layout cimport SHAPE_SLOT_ARRAY, word
from gcheap.core.native cimport unlikely
from gcheap.workloads._checks cimport below, is_object, raw_is, set_raw
from gcheap.workloads._random cimport mix64
from gcheap.workloads._record cimport (
    BAD_BYTES, BAD_SHAPE, BAD_SLOT, own_lines, record_failure)
from gcheap.workloads.worker cimport Worker

cdef enum:
    ARRAYS = 12
    AT_FRESH = 12               # in the making; the arrays are the words before it
    FRAME = 13

cdef enum:
    PAGE_WORDS = 512            # of the model, whatever the machine's are
    WRITES = 16                 # an operation
    REPLACE_EVERY = 64          # operations
    ELEMENT_EVERY = 4           # pages of a slot array
    ID = 1                      # word of an Element


cdef inline bint has_slots(uint64_t which) noexcept nogil:
    return which % 3 == 2


cdef inline uint32_t* writes_of(BigArrays b, uint64_t which, uint64_t page) noexcept nogil:
    return &b.writes[which * b.pages + page]


cdef inline uint64_t value_of(BigArrays b, uint64_t which, uint64_t page) noexcept nogil:
    """What the first word of a written page is: as a tagged value, or an Element's id."""
    return mix64((b.generation[which] << 40) + (which << 32) + page) + writes_of(
        b, which, page)[0] * 2 | 1


cdef bint array_is(BigArrays b, uint64_t which) noexcept nogil:
    cdef word array = b.frame[which]
    if not is_object(b.r, array, SHAPE_SLOT_ARRAY if has_slots(which) else b.raw, which):
        return False
    if gc_length(array) != b.length[which]:
        record_failure(b.r, BAD_SHAPE, which, gc_length(array), b.length[which])
        return False
    return True


cdef void check_page(BigArrays b, uint64_t which, uint64_t page) noexcept nogil:
    """Its first word, and that the next one is zero.  Holds no safepoint."""
    cdef word array = b.frame[which]
    cdef const uint64_t* at = <const uint64_t*>gc_elements(array) + page * PAGE_WORDS
    cdef uint64_t place = which << 32 | page, wanted = value_of(b, which, page)
    if writes_of(b, which, page)[0] == 0:
        wanted = 0
    elif has_slots(which) and page % ELEMENT_EVERY == 0:
        if is_object(b.r, at[0], b.element, place):
            raw_is(b.r, at[0], ID, wanted, place)
        wanted = at[0]
    if unlikely(at[0] != wanted):
        record_failure(b.r, BAD_SLOT if has_slots(which) else BAD_BYTES, place, at[0], wanted)
    if unlikely(at[1] != 0):
        record_failure(b.r, BAD_BYTES, place, at[1], 0)


cdef bint write_page(BigArrays b, uint64_t which, uint64_t page) noexcept nogil:
    """False when the heap is exhausted."""
    cdef uint64_t value
    cdef word element
    writes_of(b, which, page)[0] += 1
    value = value_of(b, which, page)
    if not has_slots(which):
        (<uint64_t*>gc_elements(b.frame[which]))[page * PAGE_WORDS] = value
        return True
    if page % ELEMENT_EVERY:
        gc_store_element(b.m, b.frame[which], page * PAGE_WORDS, value)
        return True
    element = gc_alloc(b.m, b.element)
    if unlikely(element == 0):
        writes_of(b, which, page)[0] -= 1
        return False
    set_raw(element, ID, value)
    gc_store_element(b.m, b.frame[which], page * PAGE_WORDS, element)
    return True


cdef bint replace(BigArrays b, uint64_t which) noexcept nogil:
    """Drops an array and allocates another one in its place; false when the heap is exhausted."""
    cdef uint64_t pages = b.pages // 2 + below(b, b.pages // 2 + 1)
    cdef word array
    b.frame[which] = 0          # first, so that there is room for the next
    array = gc_alloc_array(b.m, SHAPE_SLOT_ARRAY if has_slots(which) else b.raw,
                           pages * PAGE_WORDS)
    if unlikely(array == 0):
        return False
    b.frame[which] = array
    b.length[which] = pages * PAGE_WORDS
    b.generation[which] += 1
    memset(writes_of(b, which, 0), 0, b.pages * sizeof(uint32_t))
    b.replaced += 1
    return True


cdef class BigArrays(Worker):
    """One mutator of `big-arrays`."""
    cdef uint32_t* writes       # [array][page]
    cdef uint64_t length[12]    # elements
    cdef uint64_t generation[12]
    cdef uint64_t pages         # of the largest array
    cdef uint64_t replaced
    cdef uint32_t raw
    cdef uint32_t element

    DAMAGES = ("word", "zero", "slot", "lost")

    def __cinit__(self, heap, part):
        self.words = FRAME
        self.pages = max(2, self.share // 16 // (PAGE_WORDS * 8))
        self.to_build = ARRAYS
        self.element = heap.shape("big-arrays.Element", raw=[("id", "u8")]).id
        self.writes = <uint32_t*>own_lines(ARRAYS * self.pages * sizeof(uint32_t),
                                           "the model of the arrays")

    def __dealloc__(self):
        free(self.writes)

    def ready(self, mutator):
        self.raw = mutator.new_array("u8", 0).shape.id

    cdef bint build_one(self, uint64_t which) noexcept nogil:
        return replace(self, which)

    cdef bint operation(self) noexcept nogil:
        cdef uint64_t which = below(self, ARRAYS), page, _i
        if self.operations % REPLACE_EVERY == 0:
            if not replace(self, which):
                return False
        elif array_is(self, which):
            for _i in range(WRITES):
                page = below(self, self.length[which] // PAGE_WORDS)
                check_page(self, which, page)
                if not write_page(self, which, page):
                    return False
        gc_poll(self.m)
        return True

    cdef void check_one(self, uint64_t which) noexcept nogil:
        cdef uint64_t page
        if array_is(self, which):
            for page in range(self.length[which] // PAGE_WORDS):
                check_page(self, which, page)
                gc_poll(self.m)

    cdef void break_one(self, int what) noexcept nogil:
        cdef uint64_t* raw = <uint64_t*>gc_elements(self.frame[0])
        if what == 0:
            raw[self.length[0] - PAGE_WORDS] ^= 1
        elif what == 1:
            raw[1] = 9
        elif what == 2:
            gc_store_element(self.m, self.frame[2], PAGE_WORDS, 9)
        else:
            self.frame[1] = self.frame[2]

    def counts(self):
        return {"arrays_replaced": self.replaced}

    def sizes(self):
        return {"largest_bytes": self.pages * PAGE_WORDS * 8}
