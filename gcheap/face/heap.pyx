# cython: nonecheck=True
"""The heap, as Python sees it."""
import errno as errno_names
import threading

import numpy as np

from gcheap.core.events cimport (
    copy_cycles, copy_pauses, hist_add, hist_upper, new_histogram)
from gcheap.core.layout cimport (
    BACKEND_STW, CycleRecord, ERRNO_SLOTS, HISTOGRAM_SLOTS, HeapState, Histogram, IOCTL_COPY,
    IOCTL_MOVE, IOCTL_ZEROPAGE, MutatorState, PauseRecord, RECORDS)
from gcheap.core.native cimport (
    futex_wait, load32_seq, load64_relaxed, load64_seq, mutex_lock, mutex_unlock)
from gcheap.core.requests cimport cycle_running, request_cycle
from gcheap.core.roots cimport live_handles
from gcheap.core.space cimport allocated_by, resident_bytes
from gcheap.face.mutator cimport attach
from gcheap.face.shape cimport define_shape
from gcheap.face.state cimport HeapCore
from gcheap.statistics import HeapStats, IoctlStats
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

cdef extern from "<Python.h>":
    int PyErr_CheckSignals() except -1

cdef enum:
    SIGNAL_SLICE_NS = 50000000  # how often a waiting main thread looks for Ctrl-C

_PAUSES = ("mark_start", "mark_end", "relocate_start", "verify", "full", "fork")
_BACKENDS = ("move", "copy", "stw")
_IOCTLS = {"move": IOCTL_MOVE, "copy": IOCTL_COPY, "zeropage": IOCTL_ZEROPAGE}
PAUSE_DTYPE = np.dtype([("cycle", "u8"), ("phase", "U16"), ("start_ns", "u8"), ("reach_ns", "u8"),
                        ("work_ns", "u8"), ("cpu_ns", "u8"), ("mutators", "u4")])
CYCLE_DTYPE = np.dtype([(name, "u8") for name in (
    "cycle", "start_ns", "cycle_ns", "mark_ns", "plan_ns", "relocate_ns", "used_before",
    "live_bytes", "black_bytes", "relocated")])


cdef class Heap:
    """A concurrent compacting heap.

    capacity     bytes of objects it may hold, headers included: an int or "512MiB"
    backend      "auto", "move" (UFFDIO_MOVE), "copy" (UFFDIO_COPY) or "stw" (inside a pause)
    faults       "sigbus": a thread that touches a page that has not arrived builds it itself
    unit_pages   pages claimed, assembled and placed as one, a power of two; 1: page by page
    batch_units  most units placed by one ioctl of the compactor; 0: chosen
    verify       0, or 3: the full graph is checked before and after each cycle
    fork         "continue": after fork() parent and child both have the heap, each as its own;
                 "none": the child has none of its memory, and every use there raises HeapClosed

    What is not given comes from GCHEAP_* variables, then from defaults (`gcheap.options`).
    Raises OptionError for a value that is not accepted.  Every method may be called from any
    thread.  As a context manager it closes at the end.
    """

    cdef HeapCore core
    cdef object __weakref__

    def __init__(self, capacity=None, **options):
        self.core = HeapCore(dict(options, capacity=capacity))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Ends the heap: waits for running mutators to leave and for the cycle in flight, then
        unmaps everything.  Refs may still be dropped; any other use raises HeapClosed.  May be
        called twice."""
        self.core.close()

    def shape(self, name, refs=(), raw=(), tag=None):
        """Declares an object layout, or returns the one of that name if it is the same.

        refs   names of the reference slots
        raw    the raw part: anything numpy.dtype() takes, usually [("key", "u8"), …]; a dtype
               without fields becomes one field, `value`
        tag    (mask, bits): which words of a slot are references; default: the low three bits
               are zero

        Raises ShapeError when it cannot be, or differs from the shape of that name.
        """
        return define_shape(self.core, name, refs, raw, tag)

    def attach(self, name=None):
        """Makes the calling thread a mutator of this heap; returns its `Mutator`.

        `name` (default: the thread's) is how reports call it.  Raises NotAttached when the
        thread is attached already.
        """
        return attach(self.core, threading.current_thread().name if name is None else name)

    def collect(self, wait=True):
        """A full cycle: everything allocated before the call is compacted.

        With `wait` it returns when such a cycle has ended, served by Ctrl-C meanwhile; without,
        it starts one, or joins the one that runs.
        """
        cdef HeapState* h = self.core.h
        cdef uint64_t ticket
        cdef uint32_t seen
        self.core.check_open()
        if not wait:
            if not cycle_running(h):
                request_cycle(h, True)
            return
        ticket = request_cycle(h, True)
        while True:
            seen = load32_seq(&h.progress)
            if load64_seq(&h.finished) >= ticket:
                return
            with nogil:
                futex_wait(&h.progress, seen, SIGNAL_SLICE_NS)
            PyErr_CheckSignals()
            self.core.check_open()
            if load64_seq(&h.requested) < ticket:       # a signal's handler forked: the child asks
                ticket = request_cycle(h, True)         # for itself
            self.core.check_engine()

    # ---- reports ---------------------------------------------------------------------------

    def stats(self):
        """A `HeapStats`: counters since the heap was made.  Cheap; any thread."""
        cdef HeapState* h = self.core.h
        cdef MutatorState* m
        cdef uint64_t allocated, faults, pages, waits, stalls, stall_ns, stall_max, mutators = 0
        self.core.check_open()
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
        return HeapStats(
            capacity_bytes=h.capacity,
            used_bytes=load64_relaxed(&h.used),
            live_bytes=load64_relaxed(&h.live_bytes),
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
            ioctls={name: self.ioctl_stats(kind) for name, kind in _IOCTLS.items()},
            register_refusals=load64_relaxed(&h.register_refusals),
            stray_pages=load64_relaxed(&h.stray_pages),
            handler_reinstalls=load64_relaxed(&h.handler_reinstalls),
            batch_flushes=load64_relaxed(&h.batch_flushes),
            handles=live_handles(h),
            mutators=mutators,
            shapes=len(self.core.shapes_by_name),
            backend=self.backend,
            fault_mode=self.fault_mode,
            why=self.why)

    cdef ioctl_stats(self, int kind):
        cdef HeapState* h = self.core.h
        cdef int e
        refused = {errno_names.errorcode.get(e, str(e)): load64_relaxed(&h.ioctls[kind].refused[e])
                   for e in range(ERRNO_SLOTS) if load64_relaxed(&h.ioctls[kind].refused[e])}
        return IoctlStats(calls=load64_relaxed(&h.ioctls[kind].calls),
                          pages=load64_relaxed(&h.ioctls[kind].pages), refused=refused)

    def pauses(self):
        """The last pauses (at most 16,384), oldest first: a structured array.

        cycle, phase ("mark_start", "mark_end", "relocate_start", "verify", "full"; "fork": around a
        fork(), after `cycle`), start_ns (CLOCK_MONOTONIC), reach_ns (time to safepoint), work_ns (from the last mutator's stop
        on), cpu_ns (thread CPU time of the work), mutators.
        """
        cdef PauseRecord* records
        cdef uint64_t n, i
        self.core.check_open()
        records = <PauseRecord*>malloc(RECORDS * sizeof(PauseRecord))
        if records == NULL:
            raise MemoryError
        n = copy_pauses(self.core.h.events, records)
        rows = np.zeros(n, dtype=PAUSE_DTYPE)
        for i in range(n):
            rows[i] = (records[i].cycle, _PAUSES[records[i].kind], records[i].start_ns,
                       records[i].reach_ns, records[i].work_ns, records[i].cpu_ns,
                       records[i].mutators)
        free(records)
        return rows

    def cycles(self):
        """The last cycles (at most 16,384), oldest first: a structured array of ns and bytes.

        relocate_ns runs from the flip until the last page is placed and the source released.
        """
        cdef CycleRecord* records
        cdef uint64_t n, i
        self.core.check_open()
        records = <CycleRecord*>malloc(RECORDS * sizeof(CycleRecord))
        if records == NULL:
            raise MemoryError
        n = copy_cycles(self.core.h.events, records)
        rows = np.zeros(n, dtype=CYCLE_DTYPE)
        for i in range(n):
            rows[i] = (records[i].cycle, records[i].start_ns, records[i].cycle_ns,
                       records[i].mark_ns, records[i].plan_ns, records[i].relocate_ns,
                       records[i].used_before, records[i].live_bytes, records[i].black_bytes,
                       records[i].relocated)
        free(records)
        return rows

    def histogram(self, name):
        """(values_ns, counts, max_ns) of "fault" (time in the fault path) or
        "time_to_safepoint"; values are the upper edges of the non-empty buckets (3 significant
        digits)."""
        cdef HeapState* h = self.core.h
        cdef Histogram* sum
        cdef MutatorState* m
        cdef uint64_t i
        if name not in ("fault", "time_to_safepoint"):
            raise ValueError(f"histogram {name!r}: there are 'fault' and 'time_to_safepoint'")
        self.core.check_open()
        sum = new_histogram()
        if sum == NULL:
            raise MemoryError
        if name == "time_to_safepoint":
            hist_add(sum, h.reach_hist)
        else:
            with nogil:
                mutex_lock(&h.list_lock)
                hist_add(sum, h.retired.fault_hist)
                m = h.mutators
                while m != NULL:
                    hist_add(sum, m.fault_hist)
                    m = m.next
                mutex_unlock(&h.list_lock)
        rows = [(hist_upper(i), sum.counts[i]) for i in range(HISTOGRAM_SLOTS) if sum.counts[i]]
        top = sum.max
        free(sum)
        values = np.array([min(v, top) for v, _ in rows], dtype="u8")
        return values, np.array([n for _, n in rows], dtype="u8"), top

    def resident_bytes(self):
        """Resident bytes of the heap's mappings and side tables now (mincore)."""
        # With the GIL: nobody can close the heap under the walk.
        self.core.check_open()
        return resident_bytes(self.core.h)

    # ---- properties ------------------------------------------------------------------------

    @property
    def capacity(self):
        """Bytes of objects the heap may hold."""
        return self.core.h.capacity

    @property
    def backend(self):
        """The backend in use: "move", "copy" or "stw".  A forked child has its parent's until it
        starts its first cycle, and "stw" from then on when it gets no userfaultfd."""
        return _BACKENDS[self.core.h.backend]

    @property
    def fault_mode(self):
        """Who serves faults: "sigbus", or "none" under stw."""
        return "none" if self.core.h.backend == BACKEND_STW else "sigbus"

    @property
    def why(self):
        """One sentence: why this backend."""
        return self.core.reason()

    @property
    def unit_pages(self):
        """Pages of a unit."""
        return self.core.h.unit_pages

    @property
    def page_size(self):
        """Bytes of a page."""
        return self.core.h.page

    @property
    def verify(self):
        """The verification level."""
        return self.core.h.verify

    @property
    def closed(self):
        """Whether the heap was closed, or is the parent's of this forked process (fork="none")."""
        return bool(self.core.h.closed)

    def __repr__(self):
        state = "closed" if self.closed else f"{self.backend}, {self.core.why}"
        return f"<gcheap.Heap of {self.capacity} bytes: {state}>"
