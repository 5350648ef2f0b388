"""The write barrier: every store of a slot goes through `store_slot`.

While marking is on, the *old* value of the slot is logged before it is overwritten: whatever was
reachable when marking began is then marked, however mutators rearrange the graph meanwhile
(snapshot at the beginning: Yuasa 1990).  Off, the barrier is one load and one branch.
"""
from gcheap.core.layout cimport MutatorState, word
from gcheap.core.native cimport (
    load32_relaxed, load64_relaxed, store64_relaxed, store64_release, unlikely)
from gcheap.core.satb cimport log_old


cdef inline void store_slot(MutatorState* m, word obj, word* slot, word value) noexcept nogil:
    """Stores `value` into `slot` of the object at `obj`.  The mutator is RUNNING."""
    # Relaxed: `marking` changes only inside a pause, whose end this thread has synchronized with.
    if unlikely(load32_relaxed(&m.heap.marking)):
        log_old(m, obj, load64_relaxed(slot))
    # Relaxed: a slot publishes nothing by itself; objects become visible to the collector at a
    # safepoint, and to other mutators by whatever they synchronize with, or by `publish_slot`.
    store64_relaxed(slot, value)


cdef inline void publish_slot(MutatorState* m, word obj, word* slot, word value) noexcept nogil:
    """The same for an object that other mutators find by this slot and by nothing else.

    Release: whoever reads the slot with acquire sees all that was written to the object before.
    """
    if unlikely(load32_relaxed(&m.heap.marking)):
        log_old(m, obj, load64_relaxed(slot))
    store64_release(slot, value)
