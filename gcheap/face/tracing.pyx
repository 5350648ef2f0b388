# cython: nonecheck=True
"""The reader of a heap's trace rings: see gcheap/core/trace.pyx.

A `Rings` has a share of the native state and touches none of the heap's mappings.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from gcheap.core.layout cimport HeapState
from gcheap.core.native cimport (
    add32_seq, add64_relaxed, futex_wait, futex_wake_all, load32_acquire, load64_relaxed,
    mutex_lock, mutex_unlock, store32_release, store32_seq)
from gcheap.core.records cimport RING_ENDED, RING_FREE, TRACE_EVENTS, TraceEvent, TraceRing
from gcheap.core.space cimport release_heap
from gcheap.core.trace cimport begin_tracing, end_tracing, last_running, read_ring
from gcheap.errors import GcheapError
from gcheap.face.limits import no_tables
from gcheap.face.state cimport HeapCore
from libc.errno cimport EBUSY, ENOSYS
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

# By number: TraceKind, FaultEnd and BatchOf of core/layout.pxd.
KINDS = ("running", "safepoint", "stall", "fault", "batch", "place")
FAULTS = ("built", "waited", "hole")
BATCHES = ("slide", "whole", "large")
EVENT = [("start_ns", "u8"), ("end_ns", "u8"), ("kind", "u4"), ("detail", "u4"), ("amount", "u8")]


cdef class Rings:
    """Tracing of one heap, from its making to `end`.  GcheapError while another one is."""

    cdef HeapState* h
    cdef TraceEvent* room
    cdef uint32_t stopped

    def __cinit__(self, HeapCore core not None):
        cdef HeapState* h = core.h
        cdef int error
        self.room = <TraceEvent*>malloc((TRACE_EVENTS + 1) * sizeof(TraceEvent))
        if self.room == NULL:
            raise MemoryError
        add32_seq(&h.refs, 1)
        self.h = h
        with nogil:
            error = begin_tracing(h)
        if error == EBUSY:
            raise GcheapError("this heap is being traced already")
        if error == ENOSYS:
            raise GcheapError("this gcheap was built without tracing (GCHEAP_NO_TRACING=1)")
        if error:
            raise no_tables()

    def __dealloc__(self):
        free(self.room)
        if self.h != NULL and not self.h.forked:
            release_heap(self.h)

    def wait(self, uint64_t tick_ns):
        """Waits for a tick, and begins the next; False once `stop` was called."""
        if load32_acquire(&self.stopped):
            return False
        with nogil:
            futex_wait(&self.stopped, 0, tick_ns)
            add64_relaxed(&self.h.tracing.tick, 1)
        return not load32_acquire(&self.stopped)

    def stop(self):
        """Ends a wait of another thread, for good."""
        store32_seq(&self.stopped, 1)
        futex_wake_all(&self.stopped)

    def end(self):
        """Nothing more is written."""
        end_tracing(self.h)

    def drain(self, bint last=False):
        """What the rings hold: a list of (track, name, thread, role, events, lost).

        track    a number for each thread that was traced
        role     "mutator", "collector" or "faults"
        events   bytes: an array of EVENT
        lost     events that found the ring full since it was last drained
        With `last`, running slices that go on are ended now.
        """
        cdef HeapState* h = self.h
        cdef TraceRing* ring
        cdef uint32_t state
        cdef uint64_t n, lost
        rows = []
        mutex_lock(&h.tracing.lock)     # nobody holds it for longer than it takes to add a ring
        ring = h.tracing.rings
        mutex_unlock(&h.tracing.lock)
        while ring != NULL:
            state = load32_acquire(&ring.state)     # before the events of a thread that ended
            if state != RING_FREE:
                n = read_ring(ring, self.room)
                if (state == RING_ENDED or last) and last_running(ring, &self.room[n]):
                    n += 1
                lost = load64_relaxed(&ring.lost)
                if n or lost != ring.said:
                    rows.append(self.row(ring, n, lost - ring.said))
                ring.said = lost
                if state == RING_ENDED:
                    store32_release(&ring.state, RING_FREE)
            ring = ring.next
        return rows

    cdef tuple row(self, TraceRing* ring, uint64_t n, uint64_t lost):
        cdef HeapState* h = self.h
        role = "mutator"
        thread = load64_relaxed(<uint64_t*>&ring.thread_id)
        if ring == h.tracing.compactor:
            role = "collector"
        elif h.server != NULL and ring == h.server.self.ring:
            role = "faults"
            thread = load64_relaxed(<uint64_t*>&h.server.self.thread_id)
        return (ring.owner, ring.name.decode(errors="replace"), thread, role,
                PyBytes_FromStringAndSize(<char*>self.room, n * sizeof(TraceEvent)), lost)
