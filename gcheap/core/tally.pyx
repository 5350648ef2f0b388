"""What a heap has counted so far, summed over mutators that are and that were: for records."""
from gcheap.core.layout cimport HeapState, MutatorState
from gcheap.core.native cimport load64_relaxed, mutex_lock, mutex_unlock
from gcheap.core.records cimport ERRNO_SLOTS, IOCTL_KINDS, Tally


cdef inline void add_faults(Tally* into, const MutatorState* m) noexcept nogil:
    # Relaxed: counters; a fault that is being counted now counts the next time.
    into.faults += load64_relaxed(&m.faults)
    into.fault_pages += load64_relaxed(&m.fault_pages)
    into.fault_waits += load64_relaxed(&m.fault_waits)


cdef void take_tally(HeapState* h, Tally* into) noexcept nogil:
    """Takes list_lock: any thread that is not RUNNING and owns no unit."""
    cdef MutatorState* m
    cdef int kind, e
    for kind in range(IOCTL_KINDS):
        into.calls[kind] = load64_relaxed(&h.ioctls[kind].calls)
        into.pages[kind] = load64_relaxed(&h.ioctls[kind].pages)
        into.refused[kind] = 0
        for e in range(ERRNO_SLOTS):
            into.refused[kind] += load64_relaxed(&h.ioctls[kind].refused[e])
    into.hole_faults = load64_relaxed(&h.hole_faults)
    into.foreign_faults = load64_relaxed(&h.foreign_faults)
    into.recycled_bytes = load64_relaxed(&h.recycled_bytes)
    into.faults = into.fault_pages = into.fault_waits = 0
    mutex_lock(&h.list_lock)
    add_faults(into, &h.retired)
    m = h.mutators
    while m != NULL:
        add_faults(into, m)
        m = m.next
    mutex_unlock(&h.list_lock)
    if h.server != NULL:
        add_faults(into, &h.server.self)
