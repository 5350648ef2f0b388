"""`many-roots`: up to a million handles, each to a short list of its own.

Pauses do not grow with the heap but with what they have to rewrite: every handle, in the flip.
All mutators together hold `roots` handles; the live bytes that these do not need go into their
lists.  One operation checks the list of a random handle and replaces it: every other time through
the handle, otherwise by dropping the handle and taking a new one.

The model, outside the heap: how often each handle was written.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free

from gcheap._fastpath cimport gc_alloc, gc_load, gc_poll, gc_store
from gcheap.core.layout cimport word
from gcheap.core.native cimport unlikely
from gcheap.core.roots cimport drop_handle
from gcheap.embed.references cimport gc_handle_load, gc_handle_store, gc_new_handle
from gcheap.workloads._checks cimport below, is_object, raw_is, set_raw
from gcheap.workloads._record cimport BAD_LINK, own_lines, record_failure
from gcheap.workloads.worker cimport Worker

from gcheap.errors import OptionError
from gcheap.options import format_size

cdef enum:
    ID = 2                      # word of a cell
    CELL_BYTES = 24
    LONGEST = 64                # cells of a list

STANDARD_ROOTS = 100_000


cdef inline uint64_t id_of(ManyRoots w, uint64_t at, uint64_t cell) noexcept nogil:
    return at << 40 | <uint64_t>w.written[at] << 8 | cell


cdef void check_list(ManyRoots w, uint64_t at) noexcept nogil:
    cdef word found = gc_handle_load(w.m, w.handles[at])
    cdef uint64_t i
    for i in range(w.cells):
        if not (is_object(w.r, found, w.cell, at) and raw_is(w.r, found, ID, id_of(w, at, i), at)):
            return
        found = gc_load(found, 0)
    if unlikely(found):
        record_failure(w.r, BAD_LINK, at, found, 0)


cdef bint make_list(ManyRoots w, uint64_t at) noexcept nogil:
    """A new list in frame[0]; false when the heap is exhausted."""
    cdef uint64_t i
    cdef word cell
    w.written[at] += 1
    w.frame[0] = 0
    for i in range(w.cells):
        cell = gc_alloc(w.m, w.cell)
        if unlikely(cell == 0):
            return False
        set_raw(cell, ID, id_of(w, at, w.cells - 1 - i))
        gc_store(w.m, cell, 0, w.frame[0])
        w.frame[0] = cell
    return True


cdef bint replace(ManyRoots w, uint64_t at) noexcept nogil:
    """False when the heap, or the memory for handles, is exhausted."""
    if not make_list(w, at):
        return False
    if w.handles[at] and w.written[at] % 2:
        gc_handle_store(w.m, w.handles[at], w.frame[0])
    else:
        if w.handles[at]:
            drop_handle(w.m.heap, w.handles[at])
        w.handles[at] = gc_new_handle(w.m, w.frame[0])
    w.frame[0] = 0
    return w.handles[at] != 0


cdef class ManyRoots(Worker):
    """One mutator of `many-roots`."""
    cdef uint32_t* handles
    cdef uint32_t* written
    cdef uint64_t roots         # of this mutator
    cdef uint64_t all_roots
    cdef uint64_t cells         # of a list
    cdef uint32_t cell

    DAMAGES = ("id", "cut", "lost")

    def __cinit__(self, heap, part):
        self.words = 1
        self.all_roots = part.settings["roots"] or min(STANDARD_ROOTS, part.live // 48)
        self.roots = self.to_build = max(1, self.all_roots // self.mutators)
        self.cells = max(1, min(LONGEST, self.share * 15 // 16 // (self.roots * CELL_BYTES)))
        self.cell = heap.shape("many-roots.Cell", refs=("next",), raw=[("id", "u8")]).id
        self.handles = <uint32_t*>own_lines(self.roots * 4, "the numbers of handles")
        self.written = <uint32_t*>own_lines(self.roots * 4, "the model of the handles")

    def __dealloc__(self):
        free(self.handles)
        free(self.written)

    cdef bint build_one(self, uint64_t at) noexcept nogil:
        return replace(self, at)

    cdef bint operation(self) noexcept nogil:
        cdef uint64_t at = below(self, self.roots)
        check_list(self, at)
        if not replace(self, at):
            return False
        gc_poll(self.m)
        return True

    cdef void check_one(self, uint64_t at) noexcept nogil:
        check_list(self, at)

    cdef void break_one(self, int what) noexcept nogil:
        cdef word cell = gc_handle_load(self.m, self.handles[0])
        if what == 0:
            set_raw(cell, ID, 0)
        elif what == 1:
            gc_store(self.m, cell, 0, 0 if gc_load(cell, 0) else cell)
        else:
            gc_handle_store(self.m, self.handles[0], 0)

    cdef void let_go(self) noexcept nogil:
        cdef uint64_t at
        for at in range(self.roots):
            if self.handles[at]:
                drop_handle(self.m.heap, self.handles[at])
                self.handles[at] = 0

    def sizes(self):
        return {"roots": self.roots * self.mutators, "cells_a_root": self.cells}


def check(config):
    """OptionError for more roots than there are live bytes for."""
    roots = config.settings["roots"]
    if roots is not None and roots * CELL_BYTES * 17 // 16 > config.live:
        raise OptionError(
            f"roots {roots}: what so many refer to is {format_size(roots * CELL_BYTES * 17 // 16)} "
            f"at least, live is {format_size(config.live)}; more live bytes, or fewer roots")
