"""`weak-table`: ephemerons and weak references, in constant change.

Live data of each mutator: keys held by a slot array; an ephemeron table with a value for each key
that refers back to it, so that only an ephemeron lets them die; and a weak reference to each key.
One operation checks two random keys (table, value and weak reference agree), and replaces one of
them by a new key.  The weak reference to the old one goes into a ring, where it is read at random:
null, or still that key, and nothing else.

Before the audit each mutator has a cycle run.  Then what was dropped must be gone: the table has
exactly the live keys, and every weak reference in the ring is null.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free

from gcheap._fastpath cimport (
    gc_alloc, gc_load, gc_load_element, gc_poll, gc_store, gc_store_element)
from gcheap.core.layout cimport word
from gcheap.core.native cimport unlikely
from gcheap.core.weak cimport drop_weak
from gcheap.core.weakdata cimport WeakTable
from gcheap.core.weaktable cimport drop_weak_table, table_count
from gcheap.embed.references cimport (
    gc_new_table, gc_new_weak, gc_table_get, gc_table_put, gc_table_remove, gc_weak_load)
from gcheap.workloads._checks cimport below, is_object, raw_is, set_raw
from gcheap.workloads._record cimport BAD_COUNT, BAD_SLOT, BAD_WEAK, own_lines, record_failure
from gcheap.workloads.worker cimport Worker

cdef enum:
    AT_KEYS = 0
    AT_KEY = 1                  # in the making
    FRAME = 2

cdef enum:
    KEY_ID = 1                  # words
    VALUE_ID = 2
    ENTRY_BYTES = 64            # key, value, slot, and some room
    GRAVES = 1024

cdef struct Grave:              # a weak reference to what was dropped
    uint64_t id
    uint32_t weak
    uint32_t unused


cdef bint make_key(WeakTables t, uint64_t place) noexcept nogil:
    """A new key at `place` with its value and weak reference; false when the heap is exhausted."""
    cdef uint64_t id = t.last_id + 1
    cdef uint32_t weak
    cdef word key, value
    key = gc_alloc(t.m, t.key)
    if unlikely(key == 0):
        return False
    set_raw(key, KEY_ID, id)
    t.frame[AT_KEY] = key
    value = gc_alloc(t.m, t.value)
    if unlikely(value == 0):
        return False
    key = t.frame[AT_KEY]
    set_raw(value, VALUE_ID, ~id)
    gc_store(t.m, value, 0, key)
    weak = gc_new_weak(t.m, key)
    if unlikely(weak == 0 or gc_table_put(t.m, t.table, key, value) < 0):
        return False
    gc_store_element(t.m, t.frame[AT_KEYS], place, key)
    t.frame[AT_KEY] = 0
    t.ids[place], t.weak[place] = id, weak
    t.last_id = id
    return True


cdef void check_key(WeakTables t, uint64_t place) noexcept nogil:
    """Holds no safepoint."""
    cdef word key = gc_load_element(t.frame[AT_KEYS], place), value = 0
    if not (is_object(t.r, key, t.key, place) and raw_is(t.r, key, KEY_ID, t.ids[place], place)):
        return
    if not gc_table_get(t.m, t.table, key, &value):
        record_failure(t.r, BAD_WEAK, place, 0, t.ids[place])
        return
    if is_object(t.r, value, t.value, place) and raw_is(
            t.r, value, VALUE_ID, ~t.ids[place], place):
        if gc_load(value, 0) != key:
            record_failure(t.r, BAD_SLOT, place, gc_load(value, 0), key)
    if gc_weak_load(t.m, t.weak[place]) != key:
        record_failure(t.r, BAD_WEAK, place, 0, key)


cdef void check_grave(WeakTables t, Grave* grave, bint must_be_empty) noexcept nogil:
    cdef word found
    if grave.weak == 0:
        return
    found = gc_weak_load(t.m, grave.weak)
    if found == 0:
        t.found_dead += 1
    elif must_be_empty:
        record_failure(t.r, BAD_WEAK, grave.id, found, 0)
    elif is_object(t.r, found, t.key, grave.id):
        raw_is(t.r, found, KEY_ID, grave.id, grave.id)


cdef void bury(WeakTables t, uint64_t place) noexcept nogil:
    """The key at `place` is about to be replaced."""
    cdef Grave* grave = &t.graves[t.buried % GRAVES]
    check_grave(t, grave, False)
    if grave.weak:
        drop_weak(t.m.heap, grave.weak)
    grave.id, grave.weak = t.ids[place], t.weak[place]
    t.weak[place] = 0
    t.buried += 1


cdef class WeakTables(Worker):
    """One mutator of `weak-table`."""
    cdef WeakTable* table
    cdef uint64_t* ids          # the model: of the key at each place,
    cdef uint32_t* weak         # ... and the weak reference to it
    cdef Grave* graves
    cdef uint64_t count
    cdef uint64_t last_id
    cdef uint64_t buried
    cdef uint64_t found_dead
    cdef uint32_t key
    cdef uint32_t value

    DAMAGES = ("key", "entry", "value", "weak", "grave")

    def __cinit__(self, heap, part):
        self.words = FRAME
        self.count = self.to_build = self.share // ENTRY_BYTES
        self.key = heap.shape("weak-table.Key", raw=[("id", "u8")]).id
        self.value = heap.shape("weak-table.Value", refs=("key",), raw=[("id", "u8")]).id
        self.ids = <uint64_t*>own_lines(self.count * 8, "the model of a weak table")
        self.weak = <uint32_t*>own_lines(self.count * 4, "the model of a weak table")
        self.graves = <Grave*>own_lines(GRAVES * sizeof(Grave), "the model of a weak table")

    def __dealloc__(self):
        free(self.ids)
        free(self.weak)
        free(self.graves)

    cdef bint start(self) noexcept nogil:
        self.table = gc_new_table(self.m.heap)
        return (self.table != NULL and self.hold_slots(AT_KEYS, self.count)
                and self.build_all())

    cdef bint build_one(self, uint64_t place) noexcept nogil:
        return make_key(self, place)

    cdef bint operation(self) noexcept nogil:
        cdef uint64_t place = below(self, self.count)
        check_key(self, below(self, self.count))
        check_grave(self, &self.graves[below(self, GRAVES)], False)
        check_key(self, place)
        bury(self, place)
        if not make_key(self, place):
            return False
        gc_poll(self.m)
        return True

    def settle(self, heap):
        heap.collect()

    cdef void check_one(self, uint64_t place) noexcept nogil:
        check_key(self, place)

    cdef void check_all(self) noexcept nogil:
        cdef uint64_t i
        Worker.check_all(self)
        for i in range(GRAVES):
            check_grave(self, &self.graves[i], True)
        if table_count(self.table) != self.count:
            record_failure(self.r, BAD_COUNT, 0, table_count(self.table), self.count)

    cdef void break_one(self, int what) noexcept nogil:
        cdef word key = gc_load_element(self.frame[AT_KEYS], 0), value = 0
        if what == 0:
            set_raw(key, KEY_ID, 0)
        elif what == 1:
            gc_table_remove(self.m, self.table, key)
        elif what == 2:
            gc_table_get(self.m, self.table, key, &value)
            gc_store(self.m, value, 0, 0)
        elif what == 3:
            drop_weak(self.m.heap, self.weak[0])
            self.weak[0] = gc_new_weak(self.m, gc_load_element(self.frame[AT_KEYS], 1))
        else:
            self.frame[AT_KEY] = key            # kept alive by nothing that the model knows of
            self.graves[0].weak = gc_new_weak(self.m, key)

    cdef void let_go(self) noexcept nogil:
        cdef uint64_t i
        for i in range(self.count):
            if self.weak[i]:
                drop_weak(self.m.heap, self.weak[i])
        for i in range(GRAVES):
            if self.graves[i].weak:
                drop_weak(self.m.heap, self.graves[i].weak)
        if self.table != NULL:
            drop_weak_table(self.table)
            self.table = NULL

    def counts(self):
        return {"keys_replaced": self.buried, "dead_found_null": self.found_dead}

    def sizes(self):
        return {"keys_a_mutator": self.count}
