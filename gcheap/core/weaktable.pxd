"""Weak tables, natively.  See weaktable.pyx.

For native mutators: every function with an `m` is called RUNNING on m's thread, is no
safepoint, and returns addresses that hold until the next one.
"""
from gcheap.core.layout cimport HeapState, MutatorState, word
from gcheap.core.weakdata cimport WeakTable
from libc.stdint cimport uint64_t

cdef enum TablePut:
    TABLE_INSERTED = 0
    TABLE_FOUND = 1
    TABLE_NO_MEMORY = 2

# Whether `obj` is what the caller looks for.  Bounded; no safepoint, lock or weak table inside.
ctypedef bint (*WeakMatch)(void* context, MutatorState* m, word obj) noexcept nogil

# What the marker does with the value of an entry whose key it has reached.
ctypedef void (*ValueVisitor)(void* context, word target) noexcept nogil

cdef WeakTable* new_weak_table(HeapState* h) noexcept nogil     # NULL: no memory; any thread
cdef void drop_weak_table(WeakTable* t) noexcept nogil          # any thread; lock-free
cdef uint64_t table_count(WeakTable* t) noexcept nogil          # any thread

# Ephemeron tables: by the identity of `key`.  `value`: null, a reference, or a tagged value.
cdef bint table_get(MutatorState* m, WeakTable* t, word key, word* value) noexcept nogil
cdef int table_put(MutatorState* m, WeakTable* t, word key, word value, bint replace,
                   word* old) noexcept nogil
cdef bint table_remove(MutatorState* m, WeakTable* t, word key, word* value) noexcept nogil

# Intern tables: by the caller's hash and comparison.  The objects are held weakly.
cdef word intern_find(MutatorState* m, WeakTable* t, uint64_t hash, WeakMatch match,
                      void* context) noexcept nogil
cdef word intern_add(MutatorState* m, WeakTable* t, uint64_t hash, WeakMatch match, void* context,
                     word obj) noexcept nogil                   # 0: no memory
cdef bint intern_remove(MutatorState* m, WeakTable* t, uint64_t hash, word obj) noexcept nogil

# Both kinds, piecewise: start with a cursor of 0.
cdef uint64_t table_scan(MutatorState* m, WeakTable* t, uint64_t* cursor, word* keys, word* values,
                         uint64_t room) noexcept nogil
cdef bint table_clear(MutatorState* m, WeakTable* t, uint64_t* cursor) noexcept nogil

cdef uint64_t visit_values(HeapState* h, word key, word header, ValueVisitor visit,
                           void* context) noexcept nogil
cdef void clear_tables(HeapState* h) noexcept nogil
cdef void forward_tables(HeapState* h, bint rehearse) noexcept nogil
