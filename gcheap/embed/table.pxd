"""`gc_api_table` of gcheap.h, field by field in its order.

The functions are untyped here; tests/embedding calls each through the header's types.
"""
from libc.stdint cimport uint32_t

cdef extern from "gcheap.h" nogil:
    const uint32_t GC_ABI

    ctypedef struct gc_api_table:
        uint32_t abi
        uint32_t size
        void* error_message
        void* new_heap
        void* close_heap
        void* define_shape
        void* set_listener
        void* collect
        void* request
        void* statistics
        void* attach
        void* detach
        void* current
        void* enter
        void* leave
        void* poll_slow
        void* alloc_slow
        void* alloc_array
        void* alloc_pinned
        void* log_old
        void* identity_hash
        void* add_roots
        void* remove_roots
        void* new_handle
        void* handle_load
        void* handle_store
        void* drop_handle
        void* new_weak
        void* weak_load
        void* drop_weak
        void* new_guardian
        void* drop_guardian
        void* guard
        void* guardian_poll
        void* new_table
        void* drop_table
        void* table_get
        void* table_put
        void* table_remove
        void* intern_find
        void* intern_add
        void* table_count
        void* heap_of_object
        void* object_of_heap
