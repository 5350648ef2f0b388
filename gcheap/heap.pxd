"""gcheap for extension modules in Cython: `from gcheap cimport heap`.

The same interface as gcheap.h has for C, inlined where that is inline; its rules for mutators are
at the head of that header, and of gcheap/_fastpath.pxd.  Compile with `gcheap.get_include()` among
the include directories.  A heap and a mutator that Python made are had by their `native()`:

    cdef heap.MutatorState* m = <heap.MutatorState*><uintptr_t>mutator.native()

Types are those of the core: build a module again when gcheap's version changes.
"""
from gcheap._fastpath cimport (
    bump, bump_array, gc_acquire, gc_acquire_element, gc_acquire_slot, gc_elements, gc_enter,
    gc_leave, gc_length, gc_load, gc_load_element, gc_poll, gc_pop, gc_publish, gc_publish_element,
    gc_publish_slot, gc_push, gc_raw, gc_replace, gc_replace_element, gc_replace_slot, gc_store,
    gc_store_element)
from gcheap.core.barrier cimport store_slot as gc_store_slot
from gcheap.core.guardian cimport drop_guardian as gc_drop_guardian
from gcheap.core.guardian cimport guardian_poll as gc_guardian_poll
from gcheap.core.layout cimport (
    EVENT_FLIPPED, EVENT_MARKED, EVENT_MUTATOR_ADDED, EVENT_MUTATOR_REMOVED,
    EVENT_MUTATOR_RESTARTED, EVENT_MUTATOR_STOPPING, EVENT_MUTATORS_STOPPED, EVENT_RELOCATED,
    EVENT_REQUESTING_STOP, EVENT_RESTARTING_MUTATORS, Event, HeapState, Listener, MutatorState,
    RootArea, SHAPE_BYTES, SHAPE_FIXED, SHAPE_RAW, SHAPE_SLOT_ARRAY, SHAPE_SLOTS, word)
from gcheap.core.native cimport load64_relaxed
from gcheap.core.objects cimport header_of_shape, is_reference, shape_of_header
from gcheap.core.roots cimport drop_handle as gc_drop_handle
from gcheap.core.safepoint cimport thread_mutator as gc_current
from gcheap.core.weak cimport drop_weak as gc_drop_weak
from gcheap.core.weakdata cimport Guardian, WeakTable
from gcheap.core.weaktable cimport WeakMatch
from gcheap.core.weaktable cimport drop_weak_table as gc_drop_table
from gcheap.core.weaktable cimport intern_add as gc_intern_add
from gcheap.core.weaktable cimport intern_find as gc_intern_find
from gcheap.core.weaktable cimport table_count as gc_table_count
from gcheap.embed.heaps cimport (
    ShapeSpec, gc_close_heap, gc_define_shape, gc_heap_of_object, gc_new_heap, gc_object_of_heap,
    gc_set_listener)
from gcheap.embed.mutators cimport (
    Statistics, TagRule, gc_add_roots, gc_alloc_array_slow, gc_alloc_pinned, gc_alloc_slow,
    gc_attach, gc_collect, gc_detach, gc_get_statistics, gc_remove_roots, gc_request)
from gcheap.embed.mutators cimport error_message as gc_error_message
from gcheap.embed.references cimport (
    gc_guard, gc_handle_load, gc_handle_store, gc_identity_hash, gc_new_guardian, gc_new_handle,
    gc_new_table, gc_new_weak, gc_table_get, gc_table_put, gc_table_remove, gc_weak_load)
from libc.stdint cimport uint32_t, uint64_t


# Allocation is that of gcheap._fastpath, but leaves a message when it fails.

cdef inline word gc_alloc_sized(MutatorState* m, uint32_t shape, uint64_t nbytes) noexcept nogil:
    """An object of a fixed shape whose size the caller knows: `nbytes` is ShapeInfo.bytes."""
    cdef word at
    if bump(m, nbytes, shape, &at):
        return at
    return gc_alloc_slow(m, nbytes, header_of_shape(shape), 0)


cdef inline word gc_alloc(MutatorState* m, uint32_t shape) noexcept nogil:
    """An object of a fixed shape."""
    return gc_alloc_sized(m, shape, m.heap.shapes[shape].bytes)


cdef inline word gc_alloc_array(MutatorState* m, uint32_t shape, uint64_t length) noexcept nogil:
    """An array of `length` elements."""
    cdef word at
    if bump_array(m, shape, length, &at):
        return at
    return gc_alloc_array_slow(m, shape, length)


cdef inline uint32_t gc_shape_of(word obj) noexcept nogil:
    """The shape of the object at `obj`."""
    return shape_of_header(load64_relaxed(<word*>obj))
