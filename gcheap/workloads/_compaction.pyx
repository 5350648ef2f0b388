"""`compaction`: one thread compacts, application threads read and write at random, everywhere.

The use for which UFFDIO_MOVE was made, in the small: cycles follow each other without a rest, so
that nearly every access may meet a page that is on its way, and the pages that one cycle empties
are what the next one builds in.

Live data, shared by all mutators: rows with a number and a value, each with a byte array of 16 to
495 bytes.  One operation reads eight random rows, whoever's they are, adds one to the values of two
of its own, and replaces one of its own with its array, so that there is something to compact.

The model, outside the heap: value and generation of each row of one's own.  Of other rows number,
array and that value and generation belong together are checked.
"""
from gcheap.core.records cimport CAUSE_EXPLICIT
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free

from gcheap._fastpath cimport (
    gc_acquire_element, gc_alloc, gc_alloc_array, gc_elements, gc_length, gc_load,
    gc_load_element, gc_poll, gc_publish_element, gc_store)
from gcheap.core.layout cimport SHAPE_BYTES, word
from gcheap.core.native cimport load64_relaxed, store64_relaxed, unlikely
from gcheap.core.requests cimport cycle_running, request_cycle
from gcheap.workloads._checks cimport below, is_object, raw_is, set_raw
from gcheap.workloads._random cimport mix64
from gcheap.workloads._record cimport (
    BAD_BYTES, BAD_SHAPE, own_lines, record_failure)
from gcheap.workloads.worker cimport Worker

cdef enum:                      # words of the frame
    AT_TABLE = 0
    AT_ARRAY = 1
    FRAME = 2

cdef enum:
    PLACE = 2                   # words of a Row
    VALUE = 3                   # generation << 32 | how often it was added to
    ROW_BYTES = 32 + 8 + 16 + 252   # with its slot and the mean array
    READS = 8                   # an operation
    WRITES = 2


cdef inline uint64_t array_length(uint64_t place, uint64_t generation) noexcept nogil:
    return 16 + mix64(place << 32 | generation) % 480


cdef inline uint64_t array_word(uint64_t place, uint64_t generation, uint64_t i) noexcept nogil:
    return mix64(~(place << 32 | generation)) + i


cdef void check_row(Compaction c, uint64_t place, word row) noexcept nogil:
    """A row of anybody's: all of it belongs together.  Holds no safepoint."""
    cdef uint64_t generation, i
    cdef word array
    if not (is_object(c.r, row, c.row, place) and raw_is(c.r, row, PLACE, place, place)):
        return
    generation = load64_relaxed(<uint64_t*>row + VALUE) >> 32       # its owner may be adding
    array = gc_load(row, 0)
    if not is_object(c.r, array, SHAPE_BYTES, place):
        return
    if gc_length(array) != array_length(place, generation):
        record_failure(c.r, BAD_SHAPE, place, gc_length(array), array_length(place, generation))
        return
    for i in range(gc_length(array) // 8):
        if (<uint64_t*>gc_elements(array))[i] != array_word(place, generation, i):
            record_failure(c.r, BAD_BYTES, place, i, gc_length(array))
            return


cdef word own_row(Compaction c, uint64_t i) noexcept nogil:
    """A row of one's own when it is as the model says, else 0."""
    cdef uint64_t place = i * c.mutators + c.index
    cdef word row = gc_load_element(c.frame[AT_TABLE], place)
    if not (is_object(c.r, row, c.row, place) and raw_is(c.r, row, PLACE, place, place)
            and raw_is(c.r, row, VALUE, c.values[i], place)):
        return 0
    return row


cdef bint replace(Compaction c, uint64_t i) noexcept nogil:
    """A new row, of the next generation, and its array; false when the heap is exhausted."""
    cdef uint64_t place = i * c.mutators + c.index, generation = (c.values[i] >> 32) + 1, k
    cdef word row, array = gc_alloc_array(c.m, SHAPE_BYTES, array_length(place, generation))
    if unlikely(array == 0):
        return False
    for k in range(gc_length(array) // 8):
        (<uint64_t*>gc_elements(array))[k] = array_word(place, generation, k)
    c.frame[AT_ARRAY] = array
    row = gc_alloc(c.m, c.row)
    if unlikely(row == 0):
        return False
    c.values[i] = generation << 32
    set_raw(row, PLACE, place)
    set_raw(row, VALUE, c.values[i])
    gc_store(c.m, row, 0, c.frame[AT_ARRAY])
    gc_publish_element(c.m, c.frame[AT_TABLE], place, row)
    c.frame[AT_ARRAY] = 0
    return True


cdef class Compaction(Worker):
    """One mutator of `compaction`."""
    cdef uint64_t* values
    cdef uint64_t count         # rows of all
    cdef uint64_t own           # ... of this mutator
    cdef uint32_t row

    DAMAGES = ("place", "value", "bytes", "lost")

    def __cinit__(self, heap, part):
        self.words = FRAME
        self.shared = 1
        self.own = self.to_build = max(1, self.share * 15 // 16 // ROW_BYTES)
        self.count = self.own * self.mutators
        self.row = heap.shape("compaction.Row", refs=("array",),
                              raw=[("place", "u8"), ("value", "u8")]).id
        self.values = <uint64_t*>own_lines(self.own * 8, "the model of the rows")

    def __dealloc__(self):
        free(self.values)

    cdef bint start_shared(self) noexcept nogil:
        return self.hold_slots(AT_TABLE, self.count)

    cdef bint build_one(self, uint64_t i) noexcept nogil:
        return replace(self, i)

    cdef bint operation(self) noexcept nogil:
        cdef uint64_t place, i
        cdef word row
        cdef int _i
        for _i in range(READS):
            place = below(self, self.count)
            check_row(self, place, gc_acquire_element(self.frame[AT_TABLE], place))
        for _i in range(WRITES):
            i = below(self, self.own)
            row = own_row(self, i)
            if row:
                self.values[i] += 1
                store64_relaxed(<uint64_t*>row + VALUE, self.values[i])     # others read it
        i = below(self, self.own)
        self.check_one(i)
        if not replace(self, i):
            return False
        if not cycle_running(self.m.heap):
            request_cycle(self.m.heap, CAUSE_EXPLICIT)
        gc_poll(self.m)
        return True

    cdef void check_one(self, uint64_t i) noexcept nogil:
        cdef word row = own_row(self, i)
        if row:
            check_row(self, i * self.mutators + self.index, row)

    cdef void break_one(self, int what) noexcept nogil:
        cdef word row = gc_load_element(self.frame[AT_TABLE], self.index)
        if what == 0:
            set_raw(row, PLACE, self.count)
        elif what == 1:
            set_raw(row, VALUE, self.values[0] + 1)
        elif what == 2:
            gc_elements(gc_load(row, 0))[7] ^= 1
        else:
            gc_publish_element(self.m, self.frame[AT_TABLE], self.index, 0)

    def counts(self):
        return {"reads": READS * self.operations, "writes": WRITES * self.operations,
                "rows_replaced": self.operations}

    def sizes(self):
        return {"rows": self.count}
