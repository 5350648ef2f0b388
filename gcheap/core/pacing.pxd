"""When a cycle starts: the policy, as one function.

A cycle should end before mutators run out of room.  What was allocated from the last cycle's
start until its flip says how much room a cycle needs; half as much again is kept free.
"""
from gcheap.core.layout cimport HeapState
from gcheap.core.native cimport load64_relaxed, store64_relaxed
from libc.stdint cimport uint64_t


cdef inline void set_goal(HeapState* h, uint64_t allocated_in_cycle) noexcept nogil:
    """Sets the used bytes at which the next cycle starts.

    Never within the lowest quarter of the free room: cycles that follow each other at once win
    little and cost the mutators everything.
    """
    cdef uint64_t live = min(load64_relaxed(&h.live_bytes), h.capacity)
    cdef uint64_t headroom = max(h.capacity // 16, allocated_in_cycle + allocated_in_cycle // 2)
    cdef uint64_t least = live + (h.capacity - live) // 4
    cdef uint64_t goal = h.capacity - min(headroom, h.capacity)
    store64_relaxed(&h.goal, max(goal, least))
