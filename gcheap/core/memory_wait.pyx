"""When the kernel answers ENOMEM: back off and ask again, and let no allocation wait for it.

A unit that is half placed can only be finished, so whoever places it asks again until the kernel
has memory, however long that takes: nothing is lost (I7).  But an allocation that waits for room
waits for this cycle to end, and can be told.  A thread that was refused for PATIENCE_NS without a
break counts itself in `HeapState.starving`; while that is not zero, stalled allocations fail
(HeapExhausted, which says why) instead of waiting.  When memory comes back the heap goes on.

Runs on faulting threads: async-signal-safe (I4).
"""
from gcheap.core.layout cimport HeapState
from gcheap.core.native cimport add32_seq, clock_ns, sleep_ns, sub32_seq
from gcheap.core.requests cimport announce_progress
from libc.stdint cimport uint64_t

cdef enum:
    BACKOFF_NS = 200000
    PATIENCE_NS = 500000000


cdef void await_memory(HeapState* h, MemoryWait* w) noexcept nogil:
    """After a refusal: sleeps a little; the caller asks again."""
    cdef uint64_t now = clock_ns()
    if w.since_ns == 0:
        w.since_ns = now
    elif not w.told and now - w.since_ns >= PATIENCE_NS:
        w.told = 1
        add32_seq(&h.starving, 1)
        announce_progress(h)            # stalled allocations look again
    sleep_ns(BACKOFF_NS)


cdef void end_wait(HeapState* h, MemoryWait* w) noexcept nogil:
    """There was progress."""
    if w.told:
        sub32_seq(&h.starving, 1)
    begin_wait(w)
