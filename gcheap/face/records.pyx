# cython: nonecheck=True
"""A heap's records as they come, for a log or a trace: pauses, phases, cycles, stalls.

A `Records` has a share of the native state, not of the heap: whoever reads may outlive its Python
objects.  Nothing here touches the heap's mappings.  One thread at a time uses one.
"""
import os
import platform

from gcheap.core.events cimport copy_since
from gcheap.core.layout cimport HeapState
from gcheap.core.native cimport (
    add32_seq, futex_wait, load32_acquire, load32_seq, load64_relaxed, mutex_lock, mutex_unlock)
from gcheap.core.records cimport (
    CycleRecord, Events, PauseRecord, PhaseRecord, RECORDS, StallRecord, Tally)
from gcheap.core.requests cimport announce_progress, cause_of
from gcheap.core.space cimport release_heap
from gcheap.core.tally cimport take_tally
from gcheap.face.callbacks import CAUSES, PAUSES
from gcheap.face.observers import BORN_NS
from gcheap.face.reports import backend_name, fault_mode_name
from gcheap.face.state cimport HeapCore
from gcheap.version import __version__
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

# By number: PhaseKind of core/layout.pxd.
PHASES = ("reset", "mark", "mark_continue", "non_strong", "select", "register", "relocate")


def facts(HeapCore core not None):
    """What does not change about a heap: plain data."""
    cdef HeapState* h = core.h
    return {"version": __version__, "heap": core.number, "pid": os.getpid(), "born_ns": BORN_NS,
            "backend": backend_name(core), "why": core.reason(),
            "fault_mode": fault_mode_name(core), "capacity": h.capacity,
            "policy": str(core.options["policy"]), "unit": h.unit_bytes, "tlab": h.tlab_bytes,
            "batch_units": h.batch_units, "page": h.page, "verify": h.verify,
            "cpus": len(os.sched_getaffinity(0)), "kernel": platform.release()}


def is_open(HeapCore core not None):
    """Whether the heap is neither closed nor, in a forked child, the parent's alone."""
    return not load32_acquire(&core.h.closed)


cdef dict tally_dict(const Tally* t):
    cdef int kind
    d = {"faults": t.faults, "fault_pages": t.fault_pages, "fault_waits": t.fault_waits,
         "hole_faults": t.hole_faults, "foreign_faults": t.foreign_faults,
         "recycled_bytes": t.recycled_bytes}
    for kind, name in enumerate(("move", "copy", "zeropage")):
        d[f"{name}_calls"] = t.calls[kind]
        d[f"{name}_pages"] = t.pages[kind]
        d[f"{name}_refused"] = t.refused[kind]
    return d


cdef dict pause_dict(const PauseRecord* r):
    return {"cycle": r.cycle, "phase": PAUSES[r.kind], "start_ns": r.start_ns,
            "reach_ns": r.reach_ns, "work_ns": r.work_ns, "cpu_ns": r.cpu_ns,
            "mutators": r.mutators}


cdef dict cycle_dict(const CycleRecord* r):
    return {"cycle": r.cycle, "start_ns": r.start_ns, "cycle_ns": r.cycle_ns,
            "cause": CAUSES[r.cause], "used_before": r.used_before,
            "used_mark_end": r.used_mark_end, "used_relocate_start": r.used_relocate_start,
            "used_after": r.used_after, "live_bytes": r.live_bytes, "black_bytes": r.black_bytes,
            "dense_bytes": r.dense_bytes, "wasted_bytes": r.wasted_bytes,
            "collected_bytes": r.collected_bytes, "limit_bytes": r.limit_bytes,
            "relocated": bool(r.relocated), "cpu_ns": r.cpu_ns, "tally": tally_dict(&r.tally)}


cdef dict stall_dict(const StallRecord* r):
    return {"start_ns": r.start_ns, "wait_ns": r.wait_ns, "bytes": r.bytes,
            "thread_id": r.thread_id, "name": r.name.decode(errors="replace")}


cdef class Records:
    """The records of a heap from its making on (`everything`), or from now on."""

    cdef HeapState* h
    cdef char* room
    cdef uint64_t pauses
    cdef uint64_t cycles
    cdef uint64_t phases
    cdef uint64_t stalls
    cdef uint64_t started_ns        # start of the cycle that was announced last
    cdef uint64_t lost_records
    cdef uint32_t seen              # `progress` before the last take

    def __cinit__(self, HeapCore core not None, bint everything=True):
        cdef Events* events = core.h.events
        add32_seq(&core.h.refs, 1)
        self.h = core.h
        self.room = <char*>malloc(RECORDS * (sizeof(PauseRecord) + sizeof(CycleRecord)
                                             + sizeof(PhaseRecord) + sizeof(StallRecord)))
        if self.room == NULL:
            raise MemoryError
        if not everything:
            mutex_lock(&events.lock)
            self.pauses = events.pauses
            self.cycles = events.cycles
            self.phases = events.phases
            self.stalls = events.stalls
            self.started_ns = events.current.start_ns
            mutex_unlock(&events.lock)

    def __dealloc__(self):
        free(self.room)
        if self.h != NULL and not self.h.forked:
            release_heap(self.h)

    @property
    def lost(self):
        """Records that the rings had overwritten before they were read."""
        return self.lost_records

    def tally(self):
        """What the heap has counted so far."""
        cdef Tally t
        with nogil:
            take_tally(self.h, &t)
        return tally_dict(&t)

    def state(self):
        """(used, live, evacuated and unused) in bytes, now."""
        return (load64_relaxed(&self.h.used), load64_relaxed(&self.h.live_bytes),
                load64_relaxed(&self.h.pool_bytes))

    def wait(self, uint64_t timeout_ns):
        """Until the collector does something after the last take, or so long; False: it has
        ended."""
        cdef HeapState* h = self.h
        cdef uint32_t seen = self.seen
        if not load32_acquire(&h.collector_alive):
            return False
        with nogil:
            futex_wait(&h.progress, seen, timeout_ns)
        return True

    def wake(self):
        """Ends a wait of another thread."""
        announce_progress(self.h)

    def take(self):
        """What is new: a list of (end_ns, kind, dict), oldest first.  Kinds: "start" (of a cycle),
        "phase", "pause", "cycle", "stall".  A "start" is told once its cycle has begun."""
        cdef Events* events = self.h.events
        cdef PauseRecord* pause = <PauseRecord*>self.room
        cdef CycleRecord* cycle = <CycleRecord*>(pause + RECORDS)
        cdef PhaseRecord* phase = <PhaseRecord*>(cycle + RECORDS)
        cdef StallRecord* stall = <StallRecord*>(phase + RECORDS)
        cdef CycleRecord current
        cdef uint64_t n_pause, n_cycle, n_phase, n_stall, i
        self.seen = load32_seq(&self.h.progress)
        with nogil:
            mutex_lock(&events.lock)
            n_pause = copy_since(events.pause, events.pauses, sizeof(PauseRecord), &self.pauses,
                                 pause, RECORDS, &self.lost_records)
            n_cycle = copy_since(events.cycle, events.cycles, sizeof(CycleRecord), &self.cycles,
                                 cycle, RECORDS, &self.lost_records)
            n_phase = copy_since(events.phase, events.phases, sizeof(PhaseRecord), &self.phases,
                                 phase, RECORDS, &self.lost_records)
            n_stall = copy_since(events.stall, events.stalls, sizeof(StallRecord), &self.stalls,
                                 stall, RECORDS, &self.lost_records)
            current = events.current
            mutex_unlock(&events.lock)
        rows = []
        for i in range(n_pause):
            end = pause[i].start_ns + pause[i].reach_ns + pause[i].work_ns
            rows.append((end, "pause", pause_dict(&pause[i])))
        for i in range(n_phase):
            rows.append((phase[i].end_ns, "phase", {
                "cycle": phase[i].cycle, "phase": PHASES[phase[i].kind],
                "start_ns": phase[i].start_ns, "end_ns": phase[i].end_ns,
                "in_pause": bool(phase[i].in_pause)}))
        for i in range(n_stall):
            rows.append((stall[i].start_ns + stall[i].wait_ns, "stall", stall_dict(&stall[i])))
        for i in range(n_cycle):
            if cycle[i].start_ns > self.started_ns:
                rows.append(self.start(&cycle[i], cycle[i].cause))
            rows.append((cycle[i].start_ns + cycle[i].cycle_ns, "cycle", cycle_dict(&cycle[i])))
        if current.start_ns > self.started_ns:
            rows.append(self.start(&current, cause_of(self.h, current.cycle)))
        rows.sort(key=lambda row: row[0])
        return rows

    cdef tuple start(self, const CycleRecord* r, uint64_t cause):
        self.started_ns = r.start_ns
        return (r.start_ns, "start", {"cycle": r.cycle, "start_ns": r.start_ns,
                                      "cause": CAUSES[cause], "used_before": r.used_before})
