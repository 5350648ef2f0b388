"""From a word found in native memory to what Python sees: in two steps, because no Python object
may be made while RUNNING (I5)."""
from gcheap.core.layout cimport MutatorState, SHAPE_FIXED, word
from gcheap.core.objects cimport is_reference, shape_of_header
from gcheap.core.roots cimport take_handle
from gcheap.face.state cimport HeapCore
from libc.stdint cimport uint32_t, uint64_t

cdef struct Found:
    word value                  # the word itself
    uint64_t length             # of an array
    uint32_t handle             # taken for a reference; 0 when there was no memory
    uint32_t shape
    bint refers

cdef object found_value(HeapCore core, Found* f)    # after leave_running: a Ref, Tagged or None


cdef inline void keep_object(MutatorState* m, word target, Found* f) noexcept nogil:
    """While RUNNING: takes a handle for the object at `target`, or notes that there is none."""
    f.value = target
    f.handle = 0
    f.refers = target != 0
    if target:
        f.shape = shape_of_header((<word*>target)[0])
        f.length = 0
        if m.heap.shapes[f.shape].kind != SHAPE_FIXED:
            f.length = (<word*>target)[1]
        f.handle = take_handle(m.heap, m, target)


cdef inline void keep_found(MutatorState* m, word value, Found* f) noexcept nogil:
    """The same for a word that may be null or tagged, under the heap's rule."""
    if is_reference(m.heap.tag_mask, m.heap.tag_bits, value):
        keep_object(m, value & ~m.heap.tag_mask, f)
    else:
        f.value = value
        f.refers = False
