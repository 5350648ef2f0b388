"""What a native mutator calls that is not inline in _fastpath.pxd.  See mutators.pyx."""
from gcheap.core.layout cimport HeapState, MutatorState, RootArea, word
from libc.stdint cimport uint32_t, uint64_t

cdef struct TagRule:            # gc_tag_rule of gcheap.h
    uint64_t mask
    uint64_t bits

cdef struct Statistics:         # gc_statistics of gcheap.h
    uint64_t capacity
    uint64_t used
    uint64_t live
    uint64_t cycles
    uint64_t relocations
    uint64_t moved
    uint64_t copied
    uint64_t faults
    uint64_t stalls

cdef const char* error_message() noexcept nogil
cdef void complain(const char* what) noexcept nogil             # what error_message() says next
cdef bint refuse_running(const char* what) noexcept nogil       # True, with a message: it is

# NULL or 0: it failed, and error_message() says why.
cdef MutatorState* gc_attach(HeapState* h, const char* name) noexcept nogil
cdef void gc_detach(MutatorState* m) noexcept nogil
cdef void gc_enter_open(MutatorState* m) noexcept nogil
cdef word gc_alloc_slow(MutatorState* m, uint64_t nbytes, word header,
                        uint64_t length) noexcept nogil
cdef word gc_alloc_array_slow(MutatorState* m, uint32_t shape, uint64_t length) noexcept nogil
cdef word gc_alloc_pinned(MutatorState* m, uint32_t shape, uint64_t length) noexcept nogil
cdef void gc_collect(HeapState* h) noexcept nogil
cdef void gc_request(HeapState* h) noexcept nogil
cdef void gc_get_statistics(HeapState* h, Statistics* into) noexcept nogil
cdef RootArea* gc_add_roots(MutatorState* m, word* base, const uint64_t* count,
                            const TagRule* tag) noexcept nogil
cdef void gc_remove_roots(MutatorState* m, RootArea* area) noexcept nogil
