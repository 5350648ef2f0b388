"""Handles, weak references, tables and guardians for native code: the core's, with messages.

Every function with an `m` is called RUNNING on m's thread and is no safepoint.
"""
from gcheap.core.guardian cimport guard, new_guardian
from gcheap.core.identity cimport identity_hash
from gcheap.core.layout cimport HeapState, MutatorState, word
from gcheap.core.native cimport load64_acquire, store64_release
from gcheap.core.roots cimport handle_value, take_handle
from gcheap.core.weak cimport take_weak, weak_read
from gcheap.core.weakdata cimport NOTICE_NONE, Guardian, WeakTable
from gcheap.core.weaktable cimport (
    TABLE_NO_MEMORY, new_weak_table, table_get, table_put, table_remove)
from gcheap.embed.mutators cimport complain
from libc.stdint cimport uint32_t


cdef uint32_t gc_identity_hash(MutatorState* m, word obj) noexcept nogil:
    return identity_hash(m, obj, 0)


cdef uint32_t gc_new_handle(MutatorState* m, word obj) noexcept nogil:
    """0: no memory."""
    cdef uint32_t handle = take_handle(m.heap, m, obj)
    if handle == 0:
        complain(b"gc_new_handle: no memory")
    return handle


cdef word gc_handle_load(MutatorState* m, uint32_t handle) noexcept nogil:
    return load64_acquire(handle_value(m.heap, handle))     # of another thread's gc_handle_store


cdef void gc_handle_store(MutatorState* m, uint32_t handle, word obj) noexcept nogil:
    # Release: whoever loads the handle sees the object as this thread does.
    store64_release(handle_value(m.heap, handle), obj)


cdef uint32_t gc_new_weak(MutatorState* m, word obj) noexcept nogil:
    """0: no memory."""
    cdef uint32_t weak = take_weak(m, obj, NOTICE_NONE)
    if weak == 0:
        complain(b"gc_new_weak: no memory")
    return weak


cdef word gc_weak_load(MutatorState* m, uint32_t weak) noexcept nogil:
    return weak_read(m, weak)


cdef Guardian* gc_new_guardian(HeapState* h) noexcept nogil:
    """NULL: no memory."""
    cdef Guardian* g = new_guardian(h)
    if g == NULL:
        complain(b"gc_new_guardian: no memory")
    return g


cdef int gc_guard(MutatorState* m, Guardian* g, word obj, word agent) noexcept nogil:
    """-1: no memory."""
    if guard(m, g, obj, agent):
        return 0
    complain(b"gc_guard: no memory")
    return -1


cdef WeakTable* gc_new_table(HeapState* h) noexcept nogil:
    """NULL: no memory."""
    cdef WeakTable* t = new_weak_table(h)
    if t == NULL:
        complain(b"gc_new_table: no memory")
    return t


cdef int gc_table_put(MutatorState* m, WeakTable* t, word key, word value) noexcept nogil:
    """-1: no memory."""
    if table_put(m, t, key, value, True, NULL) != TABLE_NO_MEMORY:
        return 0
    complain(b"gc_table_put: no memory")
    return -1


cdef int gc_table_get(MutatorState* m, WeakTable* t, word key, word* value) noexcept nogil:
    return table_get(m, t, key, value)


cdef int gc_table_remove(MutatorState* m, WeakTable* t, word key) noexcept nogil:
    cdef word value
    return table_remove(m, t, key, &value)
