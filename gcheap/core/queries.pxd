"""Questions about the graph, each answered in one pause.  See queries.pyx."""
from gcheap.core.layout cimport HeapState
from gcheap.core.words cimport Words
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef struct RootFound:          # a root, told so that it outlives its pause
    uint64_t kind               # RootKind
    uint64_t position           # in a shadow stack: the word, from the bottom
    int64_t thread_id
    char name[32]               # the mutator's

cdef enum:
    ROOT_WORDS = 7              # of one RootFound

# Each returns 0, an errno or INSPECT_CLOSED.  Objects found are FOUND_WORDS each (see observe()
# in inspect.pyx), their handles the caller's even after an error.
cdef int count_by_shape(HeapState* h, uint64_t* objects, uint64_t* nbytes) noexcept nogil
cdef int find_referrers(HeapState* h, uint32_t handle, Words* holders,
                        Words* roots) noexcept nogil
cdef int measure_retained(HeapState* h, uint32_t handle, uint64_t* objects,
                          uint64_t* nbytes, uint64_t* own) noexcept nogil
cdef int find_path(HeapState* h, uint32_t handle, uint64_t longest, Words* root,
                   Words* steps, uint64_t* skipped) noexcept nogil
cdef int freeze_reachable(HeapState* h, uint64_t* count) noexcept nogil
