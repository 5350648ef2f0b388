"""Hooks for tests: weak references, weak tables and guardians as native mutators use them.

Not part of the public interface.
"""
from cpython.bytes cimport PyBytes_AS_STRING
from gcheap._fastpath cimport (
    gc_alloc, gc_elements, gc_enter, gc_leave, gc_length, gc_load, gc_poll, gc_pop, gc_push, gc_raw,
    gc_store)
from gcheap.core.guardian cimport drop_guardian, guard, guardian_poll, new_guardian
from gcheap.core.layout cimport MutatorState, word
from gcheap.core.roots cimport handle_value
from gcheap.core.weak cimport drop_weak, take_weak, weak_read
from gcheap.core.weakdata cimport Guardian, NOTICE_NONE, WeakTable
from gcheap.core.weaktable cimport (
    TABLE_NO_MEMORY, drop_weak_table, intern_add, intern_find, intern_remove,
    new_weak_table, table_count, table_get, table_put, table_remove)
from gcheap.face.found cimport Found, found_value, keep_object
from gcheap.face.ref cimport RawArray, Ref
from gcheap.face.state cimport HeapCore
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.string cimport memcmp

cdef enum:
    KEPT = 32                   # objects that one storm holds at once


cdef struct Text:
    const char* at
    uint64_t nbytes


cdef bint same_text(void* context, MutatorState* m, word obj) noexcept nogil:
    cdef Text* text = <Text*>context
    return (gc_length(obj) == text.nbytes
            and memcmp(gc_elements(obj), text.at, text.nbytes) == 0)


cdef class InternTable:
    """Byte arrays, interned by their contents; the caller's hash, so that tests can collide."""

    cdef HeapCore core
    cdef MutatorState* m
    cdef WeakTable* t

    def __init__(self, Ref of_heap, uintptr_t mutator):
        self.core = of_heap.core
        self.m = <MutatorState*>mutator
        self.t = new_weak_table(self.core.h)

    def __dealloc__(self):
        if self.t != NULL:
            drop_weak_table(self.t)

    def __len__(self):
        return table_count(self.t)

    def find(self, uint64_t hash, bytes data):
        cdef Text text = Text(PyBytes_AS_STRING(data), len(data))
        cdef Found found
        gc_enter(self.m)
        keep_object(self.m, intern_find(self.m, self.t, hash, same_text, &text), &found)
        gc_leave(self.m)
        return found_value(self.core, &found)

    def add(self, uint64_t hash, RawArray ref):
        cdef bytes data = bytes(ref)
        cdef Text text = Text(PyBytes_AS_STRING(data), len(data))
        cdef Found found
        gc_enter(self.m)
        keep_object(self.m, intern_add(self.m, self.t, hash, same_text, &text,
                                       handle_value(self.core.h, ref.handle)[0]), &found)
        gc_leave(self.m)
        return found_value(self.core, &found)

    def remove(self, uint64_t hash, RawArray ref):
        cdef bint removed
        gc_enter(self.m)
        removed = intern_remove(self.m, self.t, hash, handle_value(self.core.h, ref.handle)[0])
        gc_leave(self.m)
        return removed


# ---- a storm ---------------------------------------------------------------------------------

cdef inline uint64_t* number(MutatorState* m, word obj, uint32_t shape) noexcept nogil:
    return <uint64_t*>gc_raw(m, obj, shape)


cdef struct Wanted:
    uint64_t number
    uint32_t shape


cdef bint same_number(void* context, MutatorState* m, word obj) noexcept nogil:
    return number(m, obj, (<Wanted*>context).shape)[0] == (<Wanted*>context).number


cdef class Storm:
    """Tables and a guardian that several native threads use at once.

    Numbers are interned as objects of a shape with two slots and one u8.  Each object is a key
    of an ephemeron table; its value is a fresh object with the number plus one, which has
    the key in its slot.
    """

    cdef HeapCore core
    cdef WeakTable* interned
    cdef WeakTable* values
    cdef Guardian* guardian
    cdef uint32_t shape

    def __init__(self, Ref of_shape):
        self.core = of_shape.core
        self.shape = of_shape.layout.id
        self.interned = new_weak_table(self.core.h)
        self.values = new_weak_table(self.core.h)
        self.guardian = new_guardian(self.core.h)

    def __dealloc__(self):
        drop_weak_table(self.interned)
        drop_weak_table(self.values)
        drop_guardian(self.guardian)

    def counts(self):
        return table_count(self.interned), table_count(self.values), self.guardian.held

    def run(self, uintptr_t mutator, uint64_t seed, uint64_t rounds, uint64_t numbers):
        """Works without the GIL; returns (broken facts, objects registered, yielded)."""
        cdef MutatorState* m = <MutatorState*>mutator
        cdef uint64_t broken = 0, registered = 0, yielded = 0
        with nogil:
            gc_enter(m)
            self.work(m, seed | 1, rounds, numbers, &broken, &registered, &yielded)
            gc_leave(m)
        return broken, registered, yielded

    def drain(self, uintptr_t mutator):
        """How many objects the guardian still yields now."""
        cdef MutatorState* m = <MutatorState*>mutator
        cdef uint64_t n = 0
        gc_enter(m)
        while guardian_poll(m, self.guardian):
            n += 1
        gc_leave(m)
        return n

    cdef void work(self, MutatorState* m, uint64_t x, uint64_t rounds, uint64_t numbers,
                   uint64_t* broken, uint64_t* registered, uint64_t* yielded) noexcept nogil:
        cdef word* frame = gc_push(m, KEPT + 3)     # ..., key, value, guarded
        cdef uint32_t cells[KEPT]
        cdef uint64_t expected[KEPT]
        cdef Wanted wanted
        cdef uint64_t i, n
        cdef word got, obj
        for i in range(KEPT):
            cells[i] = 0
            expected[i] = 0
        wanted.shape = self.shape
        for n in range(rounds):
            x ^= x << 13
            x ^= x >> 7
            x ^= x << 17
            i = (x >> 32) % KEPT
            wanted.number = 2 * (x % numbers)
            # The canonical object of a number.
            frame[KEPT] = intern_find(m, self.interned, wanted.number, same_number, &wanted)
            if frame[KEPT] == 0:
                obj = gc_alloc(m, self.shape)
                number(m, obj, self.shape)[0] = wanted.number
                frame[KEPT] = intern_add(m, self.interned, wanted.number, same_number, &wanted, obj)
                if frame[KEPT] == obj:
                    registered[0] += guard(m, self.guardian, obj, 0)
            broken[0] += number(m, frame[KEPT], self.shape)[0] != wanted.number
            # Its value.
            if not table_get(m, self.values, frame[KEPT], &got):
                frame[KEPT + 1] = gc_alloc(m, self.shape)
                number(m, frame[KEPT + 1], self.shape)[0] = wanted.number + 1
                gc_store(m, frame[KEPT + 1], 0, frame[KEPT])
                if table_put(m, self.values, frame[KEPT], frame[KEPT + 1], x & 1,
                             &got) == TABLE_NO_MEMORY:
                    broken[0] += 1
            if table_get(m, self.values, frame[KEPT], &got):
                broken[0] += number(m, got, self.shape)[0] != wanted.number + 1
                broken[0] += gc_load(got, 0) != frame[KEPT]
            if x >> 60 == 0 and table_remove(m, self.values, frame[KEPT], &got):
                broken[0] += number(m, got, self.shape)[0] != wanted.number + 1
            gc_poll(m)
            # An object that was held until now may die; whose weak reference reads what it is.
            if cells[i]:
                frame[i] = 0
                gc_poll(m)
                obj = weak_read(m, cells[i])
                broken[0] += obj != 0 and number(m, obj, self.shape)[0] != expected[i]
                drop_weak(m.heap, cells[i])
            frame[i] = frame[KEPT]
            expected[i] = wanted.number
            cells[i] = take_weak(m, frame[i], NOTICE_NONE)
            broken[0] += weak_read(m, cells[i]) != frame[i]
            # What was found unreachable is whole, and is no longer interned.
            frame[KEPT + 2] = guardian_poll(m, self.guardian)
            if frame[KEPT + 2]:
                yielded[0] += 1
                wanted.number = number(m, frame[KEPT + 2], self.shape)[0]
                broken[0] += wanted.number & 1
                broken[0] += intern_find(m, self.interned, wanted.number, same_number,
                                         &wanted) == frame[KEPT + 2]
                broken[0] += table_get(m, self.values, frame[KEPT + 2], &got)
        for i in range(KEPT):
            if cells[i]:
                drop_weak(m.heap, cells[i])
        gc_pop(m, KEPT + 3)
