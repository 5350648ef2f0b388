"""Looking at the graph from any thread, in a pause of its own.  See inspect.pyx."""
from gcheap.core.layout cimport AddressSet, HeapState, MutatorState, word
from gcheap.core.records cimport PauseRecord
from gcheap.core.roots cimport Root, RootReader
from gcheap.core.weaktable cimport ValueVisitor
from gcheap.core.words cimport Words
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    INSPECT_CLOSED = -1         # beside errnos: the heap was closed meanwhile
    FOUND_WORDS = 3             # of one observed object: see observe()

cdef extern from *:
    """
    #define GC_EPHEMERON UINT64_MAX
    """
    const uint64_t EPHEMERON "GC_EPHEMERON"     # "slot" of a value that a weak table holds by key

cdef struct Inspection:
    HeapState* heap
    AddressSet seen             # what was reached
    Words queue                 # ... in that order
    uint64_t head               # the next of the queue to be visited
    bint keep                   # the queue stays whole, and `parents` are noted
    Words parents               # by place: 1 + the place from which it was reached; 0: a root
    uint64_t place              # 1 + the place that is being visited; 0: roots are
    word avoided                # an object that is never entered; 0: none
    uint32_t own                # a handle that is no root in this report; 0: none
    uint32_t level              # neither are handles of this ObserverLevel and above
    bint done                   # the visitors know enough
    int error                   # errno of the first failure; ends the traversal
    MutatorState taker          # nobody's: takes handles for the report
    PauseRecord pause

ctypedef void (*ObjectVisitor)(void* context, Inspection* k, word obj, uint32_t shape,
                               uint64_t nbytes) noexcept nogil
ctypedef void (*EdgeVisitor)(void* context, Inspection* k, word obj, uint64_t slot,
                             word target) noexcept nogil

cdef int begin_inspection(Inspection* k, HeapState* h, uint32_t level) noexcept nogil
cdef int end_inspection(Inspection* k) noexcept nogil
cdef void read_all_roots(Inspection* k, RootReader read, void* context) noexcept nogil
cdef bint counts_as_root(Inspection* k, const Root* root) noexcept nogil
cdef void reach(Inspection* k, word obj) noexcept nogil
cdef void reach_roots(Inspection* k) noexcept nogil
cdef void each_ephemeron(Inspection* k, word obj, ValueVisitor visit, void* context) noexcept nogil
cdef void traverse(Inspection* k, ObjectVisitor on_object, EdgeVisitor on_edge,
                   void* context) noexcept nogil
cdef void observe(Inspection* k, word obj, uint64_t where, uint32_t level,
                  Words* found) noexcept nogil
cdef void drop_observer(HeapState* h, uint32_t handle) noexcept nogil
