"""Handles, weak references, tables and guardians as gcheap.h has them.  See references.pyx."""
from gcheap.core.layout cimport HeapState, MutatorState, word
from gcheap.core.weakdata cimport Guardian, WeakTable
from libc.stdint cimport uint32_t

cdef uint32_t gc_identity_hash(MutatorState* m, word obj) noexcept nogil
cdef uint32_t gc_new_handle(MutatorState* m, word obj) noexcept nogil
cdef word gc_handle_load(MutatorState* m, uint32_t handle) noexcept nogil
cdef void gc_handle_store(MutatorState* m, uint32_t handle, word obj) noexcept nogil
cdef uint32_t gc_new_weak(MutatorState* m, word obj) noexcept nogil
cdef word gc_weak_load(MutatorState* m, uint32_t weak) noexcept nogil
cdef Guardian* gc_new_guardian(HeapState* h) noexcept nogil
cdef int gc_guard(MutatorState* m, Guardian* g, word obj, word agent) noexcept nogil
cdef WeakTable* gc_new_table(HeapState* h) noexcept nogil
cdef int gc_table_put(MutatorState* m, WeakTable* t, word key, word value) noexcept nogil
cdef int gc_table_get(MutatorState* m, WeakTable* t, word key, word* value) noexcept nogil
cdef int gc_table_remove(MutatorState* m, WeakTable* t, word key) noexcept nogil
