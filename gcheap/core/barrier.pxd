"""The write barrier: every store of a slot goes through `store_slot`.

Marking happens inside a pause for now, so a store needs no log of the old value; it still is
one atomic word, because the verifier of another thread's pause, and later a concurrent
marker, may read the slot at any time.  Concurrent marking puts its deletion barrier here
and nowhere else.
"""
from gcheap.core.layout cimport MutatorState, word
from gcheap.core.native cimport store64_relaxed


cdef inline void store_slot(MutatorState* m, word* slot, word value) noexcept nogil:
    # Relaxed: a slot publishes nothing by itself; objects become visible to the collector
    # at a safepoint, and to other mutators by whatever they synchronize with.
    store64_relaxed(slot, value)
