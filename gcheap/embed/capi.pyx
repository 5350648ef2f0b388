"""The table behind gcheap.h, in a capsule: `gcheap.embed.capi._C_API`.

Programs are compiled against the beginnings of HeapState, MutatorState, ShapeInfo and of what
crosses the border whole.  Where the header and the core disagree, this file does not compile.
GC_ABI changes when any of it does; what is appended to the table changes its size only.
"""
from cpython.pycapsule cimport PyCapsule_New
from gcheap._fastpath cimport poll_slow
from gcheap.core.guardian cimport drop_guardian, guardian_poll
from gcheap.core.layout cimport Event, HeapState, MutatorState, ShapeInfo
from gcheap.core.roots cimport drop_handle
from gcheap.core.safepoint cimport leave_running, thread_mutator
from gcheap.core.satb cimport log_old
from gcheap.core.weak cimport drop_weak
from gcheap.core.weaktable cimport (
    drop_weak_table, intern_add, intern_find, table_count)
from gcheap.embed.heaps cimport (
    ShapeSpec, gc_close_heap, gc_define_shape, gc_heap_of_object, gc_new_heap, gc_object_of_heap,
    gc_set_listener)
from gcheap.embed.mutators cimport (
    Statistics, TagRule, error_message, gc_add_roots, gc_alloc_array_slow, gc_alloc_pinned,
    gc_alloc_slow, gc_attach, gc_collect, gc_detach, gc_enter_open, gc_get_statistics,
    gc_remove_roots, gc_request)
from gcheap.embed.references cimport (
    gc_guard, gc_handle_load, gc_handle_store, gc_identity_hash, gc_new_guardian, gc_new_handle,
    gc_new_table, gc_new_weak, gc_table_get, gc_table_put, gc_table_remove, gc_weak_load)
from gcheap.embed.table cimport GC_ABI, gc_api_table

cdef extern from * nogil:
    """
    #define SAME_PLACE(a, b, field, named) \\
        _Static_assert(offsetof(__typeof__(*(a)), field) == offsetof(b, named) \\
                       && sizeof((a)->field) == sizeof(((b *)0)->named), \\
                       "gcheap.h: " #b "." #named)
    #define SAME_SIZE(a, b) _Static_assert(sizeof(*(a)) == sizeof(b), "gcheap.h: " #b)
    """
    ctypedef struct Name "gcheap_name":     # a field's or type's name, as the macros take it
        pass
    void SAME_PLACE(void*, Name, Name, Name)
    void SAME_SIZE(void*, Name)
    Name gc_heap, gc_mutator, gc_shape_info, gc_event, gc_tag_rule, gc_shape_spec, gc_statistics
    Name pause, phase, marking, shapes, tag_mask, tag_bits
    Name tlab_top, tlab_end, heap, shadow_top, shadow_end, user
    Name bytes_ "bytes"
    Name kind, refs, slots, item, cycle, mutator, mask, bits, name, raw_bytes, tag
    Name capacity, used, live, cycles, relocations, moved, copied, faults, stalls


cdef void compare_layouts() noexcept nogil:
    """Compiled, never called."""
    cdef HeapState* h = NULL
    cdef MutatorState* m = NULL
    cdef ShapeInfo* info = NULL
    cdef Event* event = NULL
    cdef TagRule* rule = NULL
    cdef ShapeSpec* spec = NULL
    cdef Statistics* sums = NULL
    SAME_PLACE(h, gc_heap, pause, pause)
    SAME_PLACE(h, gc_heap, phase, phase)
    SAME_PLACE(h, gc_heap, marking, marking)
    SAME_PLACE(h, gc_heap, shapes, shapes)
    SAME_PLACE(h, gc_heap, tag_mask, tag_mask)
    SAME_PLACE(h, gc_heap, tag_bits, tag_bits)
    SAME_PLACE(m, gc_mutator, tlab_top, tlab_top)
    SAME_PLACE(m, gc_mutator, tlab_end, tlab_end)
    SAME_PLACE(m, gc_mutator, heap, heap)
    SAME_PLACE(m, gc_mutator, shadow_top, shadow_top)
    SAME_PLACE(m, gc_mutator, shadow_end, shadow_end)
    SAME_PLACE(m, gc_mutator, user, user)
    SAME_PLACE(info, gc_shape_info, bytes_, bytes_)
    SAME_PLACE(info, gc_shape_info, kind, kind)
    SAME_PLACE(info, gc_shape_info, refs, slots)
    SAME_PLACE(info, gc_shape_info, item, item)
    SAME_PLACE(info, gc_shape_info, tag_mask, tag_mask)
    SAME_PLACE(info, gc_shape_info, tag_bits, tag_bits)
    SAME_SIZE(info, gc_shape_info)
    SAME_PLACE(event, gc_event, kind, kind)
    SAME_PLACE(event, gc_event, pause, pause)
    SAME_PLACE(event, gc_event, cycle, cycle)
    SAME_PLACE(event, gc_event, mutator, mutator)
    SAME_SIZE(event, gc_event)
    SAME_PLACE(rule, gc_tag_rule, mask, mask)
    SAME_PLACE(rule, gc_tag_rule, bits, bits)
    SAME_PLACE(spec, gc_shape_spec, name, name)
    SAME_PLACE(spec, gc_shape_spec, kind, kind)
    SAME_PLACE(spec, gc_shape_spec, slots, slots)
    SAME_PLACE(spec, gc_shape_spec, raw_bytes, raw_bytes)
    SAME_PLACE(spec, gc_shape_spec, tag, tag)
    SAME_PLACE(sums, gc_statistics, capacity, capacity)
    SAME_PLACE(sums, gc_statistics, used, used)
    SAME_PLACE(sums, gc_statistics, live, live)
    SAME_PLACE(sums, gc_statistics, cycles, cycles)
    SAME_PLACE(sums, gc_statistics, relocations, relocations)
    SAME_PLACE(sums, gc_statistics, moved, moved)
    SAME_PLACE(sums, gc_statistics, copied, copied)
    SAME_PLACE(sums, gc_statistics, faults, faults)
    SAME_PLACE(sums, gc_statistics, stalls, stalls)
    SAME_SIZE(sums, gc_statistics)


cdef gc_api_table table

table.abi = GC_ABI
table.size = sizeof(table)
table.error_message = <void*>error_message
table.new_heap = <void*>gc_new_heap
table.close_heap = <void*>gc_close_heap
table.define_shape = <void*>gc_define_shape
table.set_listener = <void*>gc_set_listener
table.collect = <void*>gc_collect
table.request = <void*>gc_request
table.statistics = <void*>gc_get_statistics
table.attach = <void*>gc_attach
table.detach = <void*>gc_detach
table.current = <void*>thread_mutator
table.enter = <void*>gc_enter_open
table.leave = <void*>leave_running
table.poll_slow = <void*>poll_slow
table.alloc_slow = <void*>gc_alloc_slow
table.alloc_array = <void*>gc_alloc_array_slow
table.alloc_pinned = <void*>gc_alloc_pinned
table.log_old = <void*>log_old
table.identity_hash = <void*>gc_identity_hash
table.add_roots = <void*>gc_add_roots
table.remove_roots = <void*>gc_remove_roots
table.new_handle = <void*>gc_new_handle
table.handle_load = <void*>gc_handle_load
table.handle_store = <void*>gc_handle_store
table.drop_handle = <void*>drop_handle
table.new_weak = <void*>gc_new_weak
table.weak_load = <void*>gc_weak_load
table.drop_weak = <void*>drop_weak
table.new_guardian = <void*>gc_new_guardian
table.drop_guardian = <void*>drop_guardian
table.guard = <void*>gc_guard
table.guardian_poll = <void*>guardian_poll
table.new_table = <void*>gc_new_table
table.drop_table = <void*>drop_weak_table
table.table_get = <void*>gc_table_get
table.table_put = <void*>gc_table_put
table.table_remove = <void*>gc_table_remove
table.intern_find = <void*>intern_find
table.intern_add = <void*>intern_add
table.table_count = <void*>table_count
table.heap_of_object = <void*>gc_heap_of_object
table.object_of_heap = <void*>gc_object_of_heap

_C_API = PyCapsule_New(&table, b"gcheap.embed.capi._C_API", NULL)
