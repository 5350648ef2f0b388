"""Verification: what is checked at which level, and when.

Levels are cumulative; each kind of check has a module of its own.

    level   Mark Start     Mark End       Plan            every unit PLACED   cycle end (a pause)
    -----   ------------   ------------   -------------   -----------------   -------------------
      1                                                   states              readers, bytes placed,
                                                                              used, TLABs, handles,
                                                                              straddles, ioctls
      2                    tri-colour,    sums, units,                        to-space walkable, no
                           live bits      readers, range                      from-space address
      3     full graph     full graph,    (old half                           full graph; then the
                           marks          opened)                             old half is closed
      4                    graph marked
                           again, exact

Level 1 takes time per unit, handle and mutator, the others per object.  Mark Start, Mark End and
the end of a cycle are pauses; at Mark End the strongest check comes first, because it says most.
A check that fails writes which invariant broke, and the two words that show it, and aborts.

Modules: verify_counters (1); verify_marks, verify_plan, verify_space (2); verify_graph,
verify_half (3); verify_exact (4).  Each checks the halves; another space has a check of its own
beside them, called here.
"""
from gcheap.core.layout cimport HeapState
from gcheap.core.native cimport load64_relaxed
from gcheap.core.verify_counters cimport check_counters, check_placed
from gcheap.core.verify_exact cimport compare_marks
from gcheap.core.verify_graph cimport verify_graph
from gcheap.core.verify_half cimport close_old_half, open_old_half
from gcheap.core.verify_marks cimport check_marks
from gcheap.core.verify_plan cimport check_plan
from gcheap.core.verify_space cimport check_space


cdef void verify_mark_start(HeapState* h) noexcept nogil:
    """Inside the pause, before anything is marked."""
    if h.verify >= 3:
        verify_graph(h, False)


cdef void verify_mark_end(HeapState* h) noexcept nogil:
    """Inside the pause, marking being complete."""
    if h.verify >= 4:
        verify_graph(h, False)
        compare_marks(h)
    elif h.verify == 3:
        verify_graph(h, True)
    if h.verify >= 2:
        check_marks(h)


cdef void verify_planned(HeapState* h) noexcept nogil:
    """After planning, before REGISTER; mutators may run, and touch nothing of the plan."""
    open_old_half(h)
    h.verification.placed_before = (load64_relaxed(&h.moved_bytes)
                                    + load64_relaxed(&h.copied_bytes)
                                    + load64_relaxed(&h.skipped_bytes))
    if h.verify >= 2:
        check_plan(h)


cdef void verify_relocated(HeapState* h) noexcept nogil:
    """Every unit is PLACED, nothing is unregistered yet; mutators may run."""
    check_placed(h)


cdef void verify_cycle_end(HeapState* h, bint relocated) noexcept nogil:
    """Inside a pause after the cycle."""
    check_counters(h, relocated)
    if h.verify >= 2 and relocated:
        check_space(h)
    if h.verify >= 3:
        verify_graph(h, False)
        close_old_half(h)
