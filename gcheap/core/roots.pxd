"""Handles, the root table behind every Python `Ref`; root areas.  See roots.pyx."""
from gcheap.core.layout cimport HANDLE_CHUNK, HeapState, MutatorState, RootArea, word
from libc.stdint cimport uint32_t, uint64_t

cdef uint32_t take_handle(HeapState* h, MutatorState* m, word value) noexcept nogil  # 0: no memory
cdef void drop_handle(HeapState* h, uint32_t index) noexcept nogil
cdef void return_handles(HeapState* h, MutatorState* m) noexcept nogil
cdef uint64_t live_handles(HeapState* h) noexcept nogil

# NULL: no memory.
cdef RootArea* add_area(MutatorState* m, word* base, const uint64_t* count, uint64_t tag_mask,
                        uint64_t tag_bits) noexcept nogil
cdef void remove_area(HeapState* h, RootArea* area) noexcept nogil
cdef void end_areas(HeapState* h, MutatorState* m) noexcept nogil

cdef enum RootKind:
    ROOT_HANDLE = 0
    ROOT_SHADOW = 1
    ROOT_FROZEN = 2             # see frozen.pyx
    ROOT_GUARDED = 3            # an agent, or what waits in a guardian's queue; see guardian.pyx
    ROOT_AREA = 4

cdef struct Root:               # where a root stands
    uint32_t kind               # RootKind
    uint32_t handle             # ROOT_HANDLE: its index
    MutatorState* mutator       # ROOT_SHADOW, ROOT_AREA: whose stack or area
    uint64_t position           # ROOT_SHADOW, ROOT_AREA: the word, from the bottom

ctypedef void (*RootReader)(void* context, HeapState* h, const Root* root,
                            word value) noexcept nogil
cdef void read_roots(HeapState* h, RootReader read, void* context) noexcept nogil

ctypedef word (*RootVisitor)(void* context, HeapState* h, word value) noexcept nogil
cdef void visit_roots(HeapState* h, RootVisitor visit, void* context) noexcept nogil

ctypedef void (*RangeVisitor)(void* context, HeapState* h, word* at, uint64_t count,
                              uint64_t tag_mask, uint64_t tag_bits) noexcept nogil
cdef void visit_ranges(HeapState* h, RangeVisitor visit, void* context) noexcept nogil


cdef inline word* handle_value(HeapState* h, uint32_t index) noexcept nogil:
    """Where the address of handle `index` stands.  Its owner reads it while RUNNING."""
    return &h.handles[index // HANDLE_CHUNK].value[index % HANDLE_CHUNK]


cdef inline uint32_t* handle_link(HeapState* h, uint32_t index) noexcept nogil:
    return &h.handles[index // HANDLE_CHUNK].link[index % HANDLE_CHUNK]
