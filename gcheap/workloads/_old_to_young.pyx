"""`old-to-young`: a large old structure whose slots are given young objects all the time.

Live data of each mutator: objects of six slots, which are never replaced, held by a table; every
slot refers to a small object.  One operation stores a new small object into each of eight random
slots, after checking the one that it replaces.  Nothing old dies, everything young is reachable
from the old alone: what a write barrier of generations would have to remember, and what a full
cycle moves although nothing in it has died.

The model, outside the heap: how often each slot was written.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free

from gcheap._fastpath cimport (
    gc_alloc, gc_load, gc_load_element, gc_poll, gc_store, gc_store_element)
from gcheap.core.layout cimport word
from gcheap.core.native cimport unlikely
from gcheap.workloads._checks cimport below, is_object, raw_is, set_raw
from gcheap.workloads._record cimport own_lines
from gcheap.workloads.worker cimport Worker

cdef enum:
    SLOTS = 6
    OLD_ID = 7                  # words
    YOUNG_ID = 1
    STORES = 8                  # an operation
    OLD_BYTES = 64 + 8 + 6 * 24     # with its slot in the table and its young ones


cdef inline uint64_t young_id(OldToYoung o, uint64_t place) noexcept nogil:
    return <uint64_t>o.written[place] << 32 | place


cdef inline word old_at(OldToYoung o, uint64_t at) noexcept nogil:
    """The old object number `at`, or 0."""
    cdef word old = gc_load_element(o.frame[0], at)
    if is_object(o.r, old, o.old, at) and raw_is(o.r, old, OLD_ID, at, at):
        return old
    return 0


cdef inline void check_young(OldToYoung o, word old, uint64_t place) noexcept nogil:
    cdef word young = gc_load(old, place % SLOTS)
    if is_object(o.r, young, o.young, place) and raw_is(
            o.r, young, YOUNG_ID, young_id(o, place), place):
        raw_is(o.r, young, YOUNG_ID + 1, ~young_id(o, place), place)


cdef bint store_young(OldToYoung o, uint64_t place, bint checked) noexcept nogil:
    """False when the heap is exhausted."""
    cdef word young = gc_alloc(o.m, o.young), old
    if unlikely(young == 0):
        return False
    old = old_at(o, place // SLOTS)
    if unlikely(old == 0):
        return True
    if checked:
        check_young(o, old, place)
    o.written[place] += 1
    set_raw(young, YOUNG_ID, young_id(o, place))
    set_raw(young, YOUNG_ID + 1, ~young_id(o, place))
    gc_store(o.m, old, place % SLOTS, young)
    return True


cdef class OldToYoung(Worker):
    """One mutator of `old-to-young`."""
    cdef uint32_t* written
    cdef uint64_t count         # of old objects
    cdef uint32_t old
    cdef uint32_t young

    DAMAGES = ("old", "young", "lost")

    def __cinit__(self, heap, part):
        self.words = 1
        self.count = self.share // OLD_BYTES
        self.to_build = self.count * (1 + SLOTS)
        self.old = heap.shape("old-to-young.Old", refs=tuple(f"slot{i}" for i in range(SLOTS)),
                              raw=[("id", "u8")]).id
        self.young = heap.shape("old-to-young.Young", raw=[("id", "u8"), ("check", "u8")]).id
        self.written = <uint32_t*>own_lines(self.count * SLOTS * 4, "the model of the old objects")

    def __dealloc__(self):
        free(self.written)

    cdef bint start(self) noexcept nogil:
        return self.hold_slots(0, self.count) and self.build_all()

    cdef bint build_one(self, uint64_t i) noexcept nogil:
        """First all old objects, which are to lie together, then the young."""
        cdef word made
        if i >= self.count:
            return store_young(self, i - self.count, False)
        made = gc_alloc(self.m, self.old)
        if made == 0:
            return False
        set_raw(made, OLD_ID, i)
        gc_store_element(self.m, self.frame[0], i, made)
        return True

    cdef bint operation(self) noexcept nogil:
        cdef int _i
        for _i in range(STORES):
            if not store_young(self, below(self, self.count * SLOTS), True):
                return False
        gc_poll(self.m)
        return True

    cdef void check_one(self, uint64_t i) noexcept nogil:
        cdef word old
        if i >= self.count:
            old = old_at(self, (i - self.count) // SLOTS)
            if old:
                check_young(self, old, i - self.count)

    cdef void break_one(self, int what) noexcept nogil:
        cdef word old = gc_load_element(self.frame[0], 0)
        if what == 0:
            set_raw(old, OLD_ID, 1)
        elif what == 1:
            set_raw(gc_load(old, SLOTS - 1), YOUNG_ID + 1, 0)
        else:
            gc_store(self.m, old, 2, 0)

    def counts(self):
        return {"slots_written": STORES * self.operations}

    def sizes(self):
        return {"old_objects_a_mutator": self.count}
