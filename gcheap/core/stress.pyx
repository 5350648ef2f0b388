"""Stress modes: options that make rare interleavings common.

`collect_every` = n asks for a full cycle at every n-th allocation of each mutator; with n = 1
the mutator waits until that cycle has flipped, so that each allocation moves every object and an
address kept across a safepoint is wrong at once (what runtimes call GC stress).  It costs
nothing when off, not even a branch in inline allocation: when on, TLABs look full there
(`tlab_end` = `tlab_top`), so that every allocation takes the slow path, which alone knows
better:

    between allocations     tlab_end = tlab_top      tlab_hidden = end of the unit
    in alloc_try            tlab_end = end of the unit (show_tlab … hide_tlab)
    retired by a pause      tlab_top = tlab_end = 0: whatever tlab_hidden says

`relocate` = "always" is one test in cycle.pyx.  `delay_placements_us` makes every placement
slow, whoever's it is, so that mutators fault on, and wait for, what has not arrived.  Under stw
nothing is placed, and nothing delayed.

Source: gc_stress of language runtimes, for instance V8's --gc-interval, Ruby's GC.stress.
"""
from gcheap.core.layout cimport HeapState, MutatorState, PHASE_RELOCATE
from gcheap.core.native cimport (
    futex_wait, load32_acquire, load32_seq, load64_seq)
from gcheap.core.records cimport CAUSE_EXPLICIT
from gcheap.core.requests cimport request_cycle
from libc.stdint cimport uint32_t, uint64_t


cdef uint64_t cycle_due(MutatorState* m) noexcept nogil:
    """Counts one allocation of a mutator; asks for a cycle when it is the n-th.  Its own thread,
    which need not be RUNNING.  Returns the ticket to wait for before allocating, or 0."""
    cdef HeapState* h = m.heap
    cdef uint64_t ticket
    m.since_cycle += 1
    if m.since_cycle < h.stress.collect_every:
        return 0
    m.since_cycle = 0
    ticket = request_cycle(h, CAUSE_EXPLICIT)
    return ticket if h.stress.collect_every == 1 else 0


cdef void wait_for_flip(HeapState* h, uint64_t ticket) noexcept nogil:
    """Waits until cycle `ticket` has flipped, or the heap ends.  The caller is not RUNNING."""
    cdef uint32_t seen
    while True:
        seen = load32_seq(&h.progress)
        # `started` is stored before the cycle's first phase, and IDLE before `finished`.
        if (load64_seq(&h.finished) >= ticket or not load32_acquire(&h.collector_alive)
                or (load64_seq(&h.started) >= ticket
                    and load32_acquire(&h.phase) >= PHASE_RELOCATE)):
            return
        futex_wait(&h.progress, seen, 0)
