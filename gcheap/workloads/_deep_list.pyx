"""`deep-list`: one singly linked list of 10 million cells, taken off in front, added to behind.

Marking has a single path to follow, however many threads it has, and no recursion would survive
it.  Live data of each mutator: its list (fewer cells when the live bytes do not allow so many).
One operation adds a cell at the end, drops the first, and walks on by 64 cells, whose numbers must
follow one another; at the end of the list the walk starts again at its head.
"""
from libc.stdint cimport uint32_t, uint64_t

from gcheap._fastpath cimport gc_alloc, gc_load, gc_poll, gc_store
from gcheap.core.layout cimport word
from gcheap.core.native cimport unlikely
from gcheap.workloads._checks cimport is_object, set_raw
from gcheap.workloads._record cimport BAD_COUNT, BAD_LINK, BAD_ORDER, record_failure
from gcheap.workloads.worker cimport Worker

from gcheap.errors import OptionError
from gcheap.options import format_size

cdef enum:
    AT_HEAD = 0
    AT_TAIL = 1
    AT_CURSOR = 2
    FRAME = 3

cdef enum:
    NUMBER = 2                  # word of a cell
    CELL_BYTES = 24
    WALK = 64

STANDARD_CELLS = 10_000_000


cdef inline bint cell_is(DeepList d, word cell, uint64_t number) noexcept nogil:
    if not is_object(d.r, cell, d.cell, number):
        return False
    if unlikely((<uint64_t*>cell)[NUMBER] != number):
        record_failure(d.r, BAD_ORDER, number, (<uint64_t*>cell)[NUMBER], number)
        return False
    return True


cdef inline bint append(DeepList d) noexcept nogil:
    """False when the heap is exhausted."""
    cdef word cell = gc_alloc(d.m, d.cell)
    if unlikely(cell == 0):
        return False
    set_raw(cell, NUMBER, d.next)
    if d.frame[AT_TAIL]:
        gc_store(d.m, d.frame[AT_TAIL], 0, cell)
    else:
        d.frame[AT_HEAD] = cell
    d.frame[AT_TAIL] = cell
    d.next += 1
    return True


cdef void walk(DeepList d) noexcept nogil:
    """Holds no safepoint."""
    cdef word cell = d.frame[AT_CURSOR]
    cdef int _i
    for _i in range(WALK):
        if cell == 0 or d.walked == d.next:
            cell, d.walked = d.frame[AT_HEAD], d.first
            d.rounds += 1
        if not cell_is(d, cell, d.walked):
            cell, d.walked = 0, d.next
            break
        cell = gc_load(cell, 0)
        d.walked += 1
        if cell == 0 and d.walked != d.next:
            record_failure(d.r, BAD_LINK, d.walked, 0, d.next)
            d.walked = d.next
    d.frame[AT_CURSOR] = cell


cdef class DeepList(Worker):
    """One mutator of `deep-list`."""
    cdef uint64_t cells
    cdef uint64_t first         # number of the first cell
    cdef uint64_t next          # ... of the one that will follow the last
    cdef uint64_t walked        # ... of the one under the cursor
    cdef uint64_t rounds
    cdef uint32_t cell

    DAMAGES = ("number", "cut", "lost")

    def __cinit__(self, heap, part):
        self.words = FRAME
        self.cells = self.to_build = part.settings["cells"] or min(
            STANDARD_CELLS, self.share * 15 // 16 // CELL_BYTES)
        self.cell = heap.shape("deep-list.Cell", refs=("next",), raw=[("number", "u8")]).id

    cdef bint build_one(self, uint64_t i) noexcept nogil:
        return append(self)

    cdef bint operation(self) noexcept nogil:
        if not append(self):
            return False
        if cell_is(self, self.frame[AT_HEAD], self.first):
            self.frame[AT_HEAD] = gc_load(self.frame[AT_HEAD], 0)
            self.first += 1
            walk(self)
        gc_poll(self.m)
        return True

    cdef void check_all(self) noexcept nogil:
        """The whole list, with a safepoint every so many cells."""
        cdef uint64_t number = self.first
        self.frame[AT_CURSOR] = self.frame[AT_HEAD]
        while self.frame[AT_CURSOR] and cell_is(self, self.frame[AT_CURSOR], number):
            self.frame[AT_CURSOR] = gc_load(self.frame[AT_CURSOR], 0)
            number += 1
            gc_poll(self.m)
        self.frame[AT_CURSOR] = 0
        if number - self.first != self.cells:
            record_failure(self.r, BAD_COUNT, 0, number - self.first, self.cells)

    cdef void break_one(self, int what) noexcept nogil:
        cdef word cell = gc_load(self.frame[AT_HEAD], 0)
        if what == 0:
            set_raw(cell, NUMBER, 0)
        elif what == 1:
            gc_store(self.m, cell, 0, 0)
        else:
            gc_store(self.m, self.frame[AT_HEAD], 0, gc_load(cell, 0))

    def counts(self):
        return {"times_walked": self.rounds}

    def sizes(self):
        return {"cells_a_mutator": self.cells}


def check(config):
    """OptionError for more cells than there are live bytes for."""
    cells = config.settings["cells"]
    if cells is not None and cells * CELL_BYTES * config.mutators > config.live:
        raise OptionError(
            f"cells {cells}: {config.mutators} lists of so many cells are "
            f"{format_size(cells * CELL_BYTES * config.mutators)}, live is "
            f"{format_size(config.live)}; more live bytes, or fewer cells")
