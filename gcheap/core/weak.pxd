"""Weak references, natively: make, read, drop.  See weak.pyx; nonstrong.pyx has the protocol."""
from gcheap.core.failpoint cimport FP_WEAK_READ, failpoint
from gcheap.core.layout cimport HeapState, MutatorState, word
from gcheap.core.mark cimport reached
from gcheap.core.native cimport (
    fence_seq, load32_acquire, load32_relaxed, load64_relaxed, unlikely)
from gcheap.core.satb cimport log_target
from gcheap.core.segments cimport segment_item
from gcheap.core.weakdata cimport WeakCell, weak_state
from libc.stdint cimport uint32_t, uint64_t

cdef bint new_weak_state(HeapState* h) noexcept nogil           # False: no memory
cdef void free_weak_state(HeapState* h) noexcept nogil
# 0: no memory.
cdef uint32_t take_weak(MutatorState* m, word target, uint32_t notice) noexcept nogil
cdef void drop_weak(HeapState* h, uint32_t index) noexcept nogil
cdef uint64_t take_notices(HeapState* h, uint64_t* cursor, uint32_t* cells,
                           uint64_t room) noexcept nogil
cdef void clear_cells(HeapState* h) noexcept nogil
cdef void forward_cells(HeapState* h, bint rehearse) noexcept nogil


cdef inline WeakCell* weak_cell(HeapState* h, uint64_t index) noexcept nogil:
    return <WeakCell*>segment_item(weak_state(h).cells, index, sizeof(WeakCell))


cdef inline word weak_load(MutatorState* m, word* cell) noexcept nogil:
    """What a weak cell refers to, or 0 once that has died.  The caller is RUNNING and may keep
    the address until its next safepoint, or store it, as any other.

    While marking is on, the target is logged, so that it is marked.  While reads are blocked
    (nonstrong.pyx), a target that marking did not reach counts as dead, even where the
    collector has not come to the cell yet.
    """
    cdef HeapState* h = m.heap
    # Acquire, and before the cell: who finds reads unblocked again finds the cells cleared.
    cdef uint32_t blocked = load32_acquire(&weak_state(h).blocked)
    cdef word target = load64_relaxed(cell)
    if target == 0:
        return 0
    failpoint(FP_WEAK_READ)
    if unlikely(load32_relaxed(&h.marking)):
        log_target(m, target)
    elif unlikely(blocked):
        if not reached(h, target):
            return 0
        # Reached, perhaps by resurrection alone: but then the cell was cleared before, and the
        # collector's fence between the two pairs with this one.
        fence_seq()
        if load64_relaxed(cell) != target:
            return 0
    return target


cdef inline word weak_read(MutatorState* m, uint32_t index) noexcept nogil:
    """The target of weak reference `index`, or 0.  RUNNING."""
    return weak_load(m, &weak_cell(m.heap, index).target)
