# cython: nonecheck=True
"""The native side of `WeakKeyTable`: single operations on an ephemeron table."""
cimport cython
from gcheap.core.layout cimport MutatorState, word
from gcheap.core.objects cimport is_reference
from gcheap.core.roots cimport handle_value
from gcheap.core.safepoint cimport leave_running
from gcheap.core.weakdata cimport WeakTable
from gcheap.core.weaktable cimport (
    TABLE_FOUND, TABLE_NO_MEMORY, drop_weak_table, new_weak_table, table_clear, table_count,
    table_get, table_put, table_remove, table_scan)
from gcheap.face.found cimport Found, found_value, keep_found, keep_object
from gcheap.face.ref cimport Ref, Tagged, check_ref
from gcheap.face.state cimport HeapCore
from gcheap.text import shown
from libc.stdint cimport uint32_t, uint64_t

ctypedef bint (*Lookup)(MutatorState*, WeakTable*, word, word*) noexcept nogil

cdef enum:
    PIECE = 64                  # entries between two safepoints of a snapshot


@cython.no_gc
cdef class KeyTable:
    """One ephemeron table of a heap.  `missing` is what the caller wants for "no entry"."""

    cdef HeapCore core
    cdef WeakTable* t

    def __cinit__(self, HeapCore core not None):
        core.check_open()
        self.t = new_weak_table(core.h)
        if self.t == NULL:
            raise MemoryError("gcheap: no memory for another weak table")
        self.core = core

    def __dealloc__(self):
        if self.t != NULL:
            drop_weak_table(self.t)

    cdef uint32_t key_handle(self, key) except 0:
        if not isinstance(key, Ref):
            raise TypeError(f"weak-key table: a key is a Ref, not {shown(key)}")
        return check_ref(self.core, key, "weak-key table").handle

    cdef uint32_t value_of(self, value, word* tagged) except? 0xFFFFFFFF:
        """The handle of a Ref, or 0 and the word."""
        tagged[0] = 0
        if value is None:
            return 0
        if isinstance(value, Ref):
            return check_ref(self.core, value, "weak-key table").handle
        if not isinstance(value, Tagged):
            raise TypeError(f"weak-key table: a value is a Ref, None or Tagged, not {shown(value)}")
        tagged[0] = (<Tagged>value).word
        if is_reference(self.core.h.tag_mask, self.core.h.tag_bits, tagged[0]):
            raise ValueError(f"weak-key table: {value!r} would be a reference under the tag rule "
                             f"(mask {self.core.h.tag_mask:#x}, bits {self.core.h.tag_bits:#x})")
        return 0

    cdef take(self, Lookup lookup, key, missing):
        """The value that `lookup` finds for `key`, or `missing`."""
        cdef uint32_t handle = self.key_handle(key)
        cdef Found found
        cdef word value = 0
        cdef MutatorState* m = self.core.enter()
        cdef bint there = lookup(m, self.t, handle_value(self.core.h, handle)[0], &value)
        if there:
            keep_found(m, value, &found)
        leave_running(m)
        return found_value(self.core, &found) if there else missing

    def get(self, key, missing):
        """The value of `key`, or `missing`."""
        return self.take(table_get, key, missing)

    def pop(self, key, missing):
        """Removes `key` and returns its value, or `missing`."""
        return self.take(table_remove, key, missing)

    def put(self, key, value, bint replace):
        """Sets the value of `key`; without `replace` only if it has none.  The value it has."""
        cdef uint32_t handle = self.key_handle(key), target
        cdef Found found
        cdef word new = 0, old = 0
        cdef int result
        cdef MutatorState* m
        target = self.value_of(value, &new)
        m = self.core.enter()
        if target:
            new = handle_value(self.core.h, target)[0] | self.core.h.tag_bits
        result = table_put(m, self.t, handle_value(self.core.h, handle)[0], new, replace, &old)
        if result == TABLE_FOUND and not replace:
            keep_found(m, old, &found)
        leave_running(m)
        if result == TABLE_NO_MEMORY:
            raise MemoryError("gcheap: no memory for another entry of a weak table")
        return value if result != TABLE_FOUND or replace else found_value(self.core, &found)

    def __len__(self):
        return table_count(self.t)

    def items(self):
        """A list of all (key, value) pairs, taken in pieces with safepoints between them."""
        cdef word keys[PIECE]
        cdef word values[PIECE]
        cdef Found found[2 * PIECE]
        cdef uint64_t cursor = 0, n = PIECE, i
        cdef MutatorState* m
        pairs = []
        while n == PIECE:
            m = self.core.enter()
            n = table_scan(m, self.t, &cursor, keys, values, PIECE)
            for i in range(n):
                keep_object(m, keys[i], &found[2 * i])
                keep_found(m, values[i], &found[2 * i + 1])
            leave_running(m)
            for i in range(n):
                pairs.append((found_value(self.core, &found[2 * i]),
                              found_value(self.core, &found[2 * i + 1])))
        return pairs

    def clear(self):
        """Removes every entry, in pieces with safepoints between them."""
        cdef uint64_t cursor = 0
        cdef bint more = True
        cdef MutatorState* m
        while more:
            m = self.core.enter()
            more = table_clear(m, self.t, &cursor)
            leave_running(m)
