# cython: nonecheck=True
"""What `Heap` reports of itself: counters, records of pauses and cycles, histograms.

Each of these may be called from any thread, and fails with HeapClosed once the heap is closed.
"""
import errno as errno_names

from gcheap.core.events cimport (
    copy_cycles, copy_pauses, hist_add, hist_upper, new_histogram)
from gcheap.core.layout cimport BACKEND_STW, HeapState, MutatorState
from gcheap.core.mark_team cimport marker_bytes, marker_threads
from gcheap.core.native cimport load64_relaxed, mutex_lock, mutex_unlock
from gcheap.core.records cimport (
    CauseTotals, CycleRecord, ERRNO_SLOTS, Events, HISTOGRAM_SLOTS, Histogram, IOCTL_COPY,
    IOCTL_MOVE, IOCTL_ZEROPAGE, PauseRecord, RECORDS)
from gcheap.core.roots cimport live_handles
from gcheap.core.tlab cimport allocated_by
from gcheap.face.callbacks import CAUSES, PAUSES
from gcheap.late import np
from gcheap.face.state cimport HeapCore
from gcheap.face.weakref cimport weak_counts
from gcheap.text import shown
from gcheap.statistics import HeapStats, IoctlStats
from gcheap.text import shown
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc

ctypedef uint64_t (*CopyRecords)(Events*, void*) noexcept nogil
ctypedef tuple (*RowOf)(const void*)

_BACKENDS = ("move", "copy", "stw")
_IOCTLS = {"move": IOCTL_MOVE, "copy": IOCTL_COPY, "zeropage": IOCTL_ZEROPAGE}
PAUSE_FIELDS = [("cycle", "u8"), ("phase", "U16"), ("start_ns", "u8"), ("reach_ns", "u8"),
                ("work_ns", "u8"), ("cpu_ns", "u8"), ("mutators", "u4")]
CYCLE_FIELDS = [(name, "u8") for name in (
    "cycle", "start_ns", "cycle_ns", "mark_ns", "weak_ns", "plan_ns", "relocate_ns", "used_before",
    "live_bytes", "black_bytes", "dense_bytes", "wasted_bytes", "relocated", "limit_bytes",
    "used_after", "collected_bytes")] + [("cause", "U8")]


def backend_name(HeapCore core not None):
    """See `Heap.backend`."""
    return _BACKENDS[core.h.backend]


def fault_mode_name(HeapCore core not None):
    """See `Heap.fault_mode`."""
    if core.h.backend == BACKEND_STW:
        return "none"
    return "sigbus" if core.h.server == NULL else "handler"


def cause_totals(HeapCore core not None):
    """See `Heap.get_stats`."""
    cdef CauseTotals* t
    cdef int i
    core.check_open()
    rows = []
    for i in range(len(CAUSES)):
        t = &core.h.totals[i]
        rows.append({"kind": CAUSES[i], "collections": load64_relaxed(&t.cycles),
                     "collected": load64_relaxed(&t.collected_bytes), "uncollectable": 0,
                     "relocations": load64_relaxed(&t.relocations),
                     "cycle_ns": load64_relaxed(&t.cycle_ns)})
    return rows


def heap_stats(HeapCore core not None):
    """See `Heap.stats`."""
    cdef HeapState* h = core.h
    cdef MutatorState* m
    cdef uint64_t allocated, faults, pages, waits, stalls, stall_ns, stall_max, mutators = 0
    core.check_open()
    with nogil:
        mutex_lock(&h.list_lock)
        allocated = h.retired.allocated
        faults = h.retired.faults
        pages = h.retired.fault_pages
        waits = h.retired.fault_waits
        stalls = h.retired.stalls
        stall_ns = h.retired.stall_ns
        stall_max = h.retired.stall_max_ns
        m = h.mutators
        while m != NULL:
            mutators += 1
            allocated += allocated_by(m)
            faults += load64_relaxed(&m.faults)
            pages += load64_relaxed(&m.fault_pages)
            waits += load64_relaxed(&m.fault_waits)
            stalls += load64_relaxed(&m.stalls)
            stall_ns += load64_relaxed(&m.stall_ns)
            stall_max = max(stall_max, load64_relaxed(&m.stall_max_ns))
            m = m.next
        mutex_unlock(&h.list_lock)
    if h.server != NULL:
        faults += load64_relaxed(&h.server.self.faults)
        pages += load64_relaxed(&h.server.self.fault_pages)
        waits += load64_relaxed(&h.server.self.fault_waits)
    return HeapStats(
        capacity_bytes=h.capacity,
        used_bytes=load64_relaxed(&h.used),
        live_bytes=load64_relaxed(&h.live_bytes),
        wasted_bytes=load64_relaxed(&h.wasted_bytes),
        pinned_bytes=load64_relaxed(&h.pinned.used),
        limit_bytes=load64_relaxed(&h.pacing.limit),
        limit_peak_bytes=load64_relaxed(&h.pacing.peak_limit),
        goal_bytes=load64_relaxed(&h.goal),
        allocated_bytes=allocated,
        cycles=load64_relaxed(&h.finished),
        relocations=load64_relaxed(&h.relocations),
        moved_bytes=load64_relaxed(&h.moved_bytes),
        copied_bytes=load64_relaxed(&h.copied_bytes),
        zeroed_bytes=load64_relaxed(&h.zeroed_bytes),
        recycled_bytes=load64_relaxed(&h.recycled_bytes),
        released_bytes=load64_relaxed(&h.released_bytes),
        faults=faults,
        fault_pages=pages,
        fault_waits=waits,
        hole_faults=load64_relaxed(&h.hole_faults),
        foreign_faults=load64_relaxed(&h.foreign_faults),
        stalls=stalls,
        stall_ns=stall_ns,
        stall_max_ns=stall_max,
        ioctls={name: ioctl_stats(core.h, kind) for name, kind in _IOCTLS.items()},
        register_refusals=load64_relaxed(&h.register_refusals),
        stray_pages=load64_relaxed(&h.stray_pages),
        unreported_pages=load64_relaxed(&h.unreported_pages),
        handler_reinstalls=load64_relaxed(&h.handler_reinstalls),
        sigbus_unblocks=load64_relaxed(&h.sigbus_unblocks),
        slow_safepoints=load64_relaxed(&h.slow_safepoints),
        marker_threads=marker_threads(h),
        marker_bytes=marker_bytes(h),
        batch_flushes=load64_relaxed(&h.batch_flushes),
        floating_bytes=load64_relaxed(&h.verification.floating_bytes),
        handles=live_handles(h),
        mutators=mutators,
        shapes=len(core.shapes_by_name),
        backend=backend_name(core),
        fault_mode=fault_mode_name(core),
        why=core.reason(),
        **weak_counts(h))


cdef ioctl_stats(HeapState* h, int kind):
    cdef int e
    refused = {errno_names.errorcode.get(e, str(e)): load64_relaxed(&h.ioctls[kind].refused[e])
               for e in range(ERRNO_SLOTS) if load64_relaxed(&h.ioctls[kind].refused[e])}
    return IoctlStats(calls=load64_relaxed(&h.ioctls[kind].calls),
                      pages=load64_relaxed(&h.ioctls[kind].pages), refused=refused)


cdef read_records(HeapCore core, CopyRecords copy, uint64_t size, RowOf row_of, dtype):
    """A structured array of the records that are kept, oldest first."""
    cdef uint64_t n, i
    cdef char* records
    core.check_open()
    records = <char*>malloc(RECORDS * size)
    if records == NULL:
        raise MemoryError
    try:
        n = copy(core.h.events, records)
        return np.array([row_of(records + i * size) for i in range(n)], dtype=dtype)
    finally:
        free(records)


cdef tuple row_of_pause(const void* record):
    cdef const PauseRecord* r = <const PauseRecord*>record
    return (r.cycle, PAUSES[r.kind], r.start_ns, r.reach_ns, r.work_ns, r.cpu_ns, r.mutators)


cdef tuple row_of_cycle(const void* record):
    cdef const CycleRecord* r = <const CycleRecord*>record
    return (r.cycle, r.start_ns, r.cycle_ns, r.mark_ns, r.weak_ns, r.plan_ns, r.relocate_ns,
            r.used_before, r.live_bytes, r.black_bytes, r.dense_bytes, r.wasted_bytes,
            r.relocated, r.limit_bytes, r.used_after, r.collected_bytes, CAUSES[r.cause])


def pause_records(HeapCore core not None):
    """See `Heap.pauses`."""
    return read_records(core, copy_pauses, sizeof(PauseRecord), row_of_pause, PAUSE_FIELDS)


def cycle_records(HeapCore core not None):
    """See `Heap.cycles`."""
    return read_records(core, copy_cycles, sizeof(CycleRecord), row_of_cycle, CYCLE_FIELDS)


def histogram(HeapCore core not None, name):
    """See `Heap.histogram`."""
    cdef HeapState* h = core.h
    cdef Histogram* sum
    cdef MutatorState* m
    cdef uint64_t i
    if name not in ("fault", "stall", "time_to_safepoint"):
        raise ValueError(
            f"histogram {shown(name)}: there are 'fault', 'stall' and 'time_to_safepoint'")
    core.check_open()
    sum = new_histogram()
    if sum == NULL:
        raise MemoryError
    if name == "time_to_safepoint":
        hist_add(sum, h.reach_hist)
    elif name == "stall":
        hist_add(sum, h.stalls.hist)
    else:
        with nogil:
            mutex_lock(&h.list_lock)
            hist_add(sum, h.retired.fault_hist)
            m = h.mutators
            while m != NULL:
                hist_add(sum, m.fault_hist)
                m = m.next
            mutex_unlock(&h.list_lock)
        if h.server != NULL:
            hist_add(sum, h.server.self.fault_hist)
    rows = [(hist_upper(i), sum.counts[i]) for i in range(HISTOGRAM_SLOTS) if sum.counts[i]]
    top = sum.max
    free(sum)
    values = np.array([min(v, top) for v, _ in rows], dtype="u8")
    return values, np.array([n for _, n in rows], dtype="u8"), top
