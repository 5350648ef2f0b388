"""A table of small objects that are replaced at random: the data of several workloads.

A Row has a number, filler that follows from it, and a Tail of its own that refers back.  The
workloads that use it differ in who replaces rows, and when; see `_steady.pyx`, `_many_threads.pyx`.
"""
from libc.stdint cimport uint64_t
from libc.stdlib cimport free

from gcheap._fastpath cimport (
    gc_alloc, gc_load, gc_load_element, gc_poll, gc_store, gc_store_element)
from gcheap.core.layout cimport word
from gcheap.core.native cimport unlikely
from gcheap.workloads._checks cimport below, is_object, raw_is, set_raw
from gcheap.workloads._record cimport BAD_SLOT, own_lines, record_failure
from gcheap.workloads.worker cimport Worker

cdef enum:                      # words of the frame
    AT_TABLE = 0
    AT_ROW = 1
    FRAME = 2

cdef enum:
    ID = 2                      # word of a Row and of a Tail
    FILLER = 3                  # words after it


cdef inline uint64_t id_of(Rows t, uint64_t place) noexcept nogil:
    return <uint64_t>t.written[place] << 32 | place


cdef void check_row(Rows t, uint64_t place) noexcept nogil:
    """Holds no safepoint."""
    cdef word row = gc_load_element(t.frame[AT_TABLE], place), tail
    cdef uint64_t id = id_of(t, place), i
    if not (is_object(t.r, row, t.row, place) and raw_is(t.r, row, ID, id, place)):
        return
    for i in range(1, FILLER + 1):
        raw_is(t.r, row, ID + i, id + i, place)
    tail = gc_load(row, 0)
    if is_object(t.r, tail, t.tail, place) and raw_is(t.r, tail, ID, ~id, place):
        if gc_load(tail, 0) != row:
            record_failure(t.r, BAD_SLOT, place, gc_load(tail, 0), row)


cdef bint write_row(Rows t, uint64_t place) noexcept nogil:
    """False when the heap is exhausted."""
    cdef uint64_t id, i
    cdef word row = gc_alloc(t.m, t.row), tail
    if unlikely(row == 0):
        return False
    t.frame[AT_ROW] = row
    tail = gc_alloc(t.m, t.tail)
    if unlikely(tail == 0):
        return False
    row = t.frame[AT_ROW]
    t.written[place] += 1
    id = id_of(t, place)
    for i in range(FILLER + 1):
        set_raw(row, ID + i, id + i)
    set_raw(tail, ID, ~id)
    gc_store(t.m, row, 0, tail)
    gc_store(t.m, tail, 0, row)
    gc_store_element(t.m, t.frame[AT_TABLE], place, row)
    return True


cdef class Rows(Worker):
    """One mutator with a table of rows."""

    DAMAGES = ("id", "filler", "tail", "lost")

    def __cinit__(self, heap, part):
        self.words = FRAME
        self.count = self.to_build = max(16, self.share * 15 // 16 // ROW_BYTES)
        self.row = heap.shape("rows.Row", refs=("tail",), raw=[("id", "u8"), ("filler", "V24")]).id
        self.tail = heap.shape("rows.Tail", refs=("row",), raw=[("id", "u8")]).id
        self.written = <uint32_t*>own_lines(self.count * 4, "the model of a table")

    def __dealloc__(self):
        free(self.written)

    cdef bint start(self) noexcept nogil:
        return self.hold_slots(AT_TABLE, self.count) and self.build_all()

    cdef bint build_one(self, uint64_t place) noexcept nogil:
        return write_row(self, place)

    cdef bint turn_over(self, uint64_t rows) noexcept nogil:
        """Checks so many random rows, and replaces each; false when the heap is exhausted."""
        cdef uint64_t place, _i
        for _i in range(rows):
            place = below(self, self.count)
            check_row(self, place)
            if not write_row(self, place):
                return False
        gc_poll(self.m)
        return True

    cdef bint operation(self) noexcept nogil:
        return self.turn_over(1)

    cdef void check_one(self, uint64_t place) noexcept nogil:
        check_row(self, place)

    cdef void break_one(self, int what) noexcept nogil:
        cdef word row = gc_load_element(self.frame[AT_TABLE], 0)
        if what == 0:
            set_raw(row, ID, 1)
        elif what == 1:
            set_raw(row, ID + FILLER, 1)
        elif what == 2:
            gc_store(self.m, row, 0, gc_load(gc_load_element(self.frame[AT_TABLE], 1), 0))
        else:
            gc_store_element(self.m, self.frame[AT_TABLE], 0, 0)

    def sizes(self):
        return {"rows_a_mutator": self.count}
