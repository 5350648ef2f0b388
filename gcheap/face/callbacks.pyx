# cython: nonecheck=True
"""Callbacks at the start and the end of cycles, on a thread of the heap's own.

    collector   ... cycle 7 starts ......... ends | 8 starts .............. ends
    this thread        start 7 .............. stop 7, start 8 ................ stop 8

It is a daemon thread, made when somebody first asks for the list.  It sleeps on the heap's futex
word `progress`, which the collector bumps when a cycle starts, flips or ends, and then tells what
it has not told yet, in order: so it may lag, but skips nothing that the ring of records still
has, and neither a pause nor the collector ever waits for Python code (I5).

The thread owns a share of the native state, but not of the heap: while it sleeps it holds the
Python objects weakly, and the collector's end wakes it for the last time.
"""
import os
import threading
import weakref

from cpython.exc cimport PyErr_SetObject, PyErr_WriteUnraisable
from gcheap.core.events cimport find_cycle, find_pauses
from gcheap.core.layout cimport HeapState
from gcheap.core.native cimport (
    add32_seq, futex_wait, load32_acquire, load32_seq, load64_seq)
from gcheap.core.records cimport CycleRecord, PauseRecord
from gcheap.core.requests cimport cause_of
from gcheap.core.space cimport release_heap
from gcheap.face.state cimport HeapCore
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    PAUSES_TOLD = 64            # of one cycle at most: the last ones

# By number: Cause and PauseKind of core/layout.pxd.
CAUSES = ("goal", "idle", "stall", "explicit")
PAUSES = ("mark_start", "mark_end", "relocate_start", "verify", "full", "inspect",
          "fork")


cdef class _Share:
    """A share of the native state: it outlives the heap's Python objects."""

    cdef HeapState* h
    cdef uint64_t started       # cycles told of so far
    cdef uint64_t finished

    def __cinit__(self, HeapCore core):
        add32_seq(&core.h.refs, 1)
        self.h = core.h
        # A cycle that runs already is told from its end on.
        self.started = load64_seq(&core.h.started)
        self.finished = load64_seq(&core.h.finished)

    def __dealloc__(self):
        if self.h != NULL and not self.h.forked:
            release_heap(self.h)

    cdef bint wait(self):
        """Waits for news; False: the collector has ended, there will be none."""
        cdef HeapState* h = self.h
        cdef uint32_t seen
        while True:
            seen = load32_seq(&h.progress)
            if load64_seq(&h.started) > self.started or load64_seq(&h.finished) > self.finished:
                return True
            if not load32_acquire(&h.collector_alive):
                return False
            with nogil:
                futex_wait(&h.progress, seen, 0)

    cdef tuple next(self):
        """(phase, info) of the next event, or None."""
        cdef HeapState* h = self.h
        cdef CycleRecord record
        cdef bint start = self.started == self.finished
        cdef uint64_t told = self.finished + 1
        cdef bint found
        if told > load64_seq(&h.started if start else &h.finished):
            return None
        found = find_cycle(h.events, told, &record)
        if start and not found and told > load64_seq(&h.finished):
            return None         # it has only just begun, and will be announced
        if start:
            self.started = told
        else:
            self.finished = told
        if not found:           # long ago: more cycles than the ring holds
            return "start" if start else "stop", {"cycle": told}
        info = {
            "cycle": told,
            "cause": CAUSES[cause_of(h, told)],
            "used_before": record.used_before,
            "start_ns": record.start_ns,
        }
        if not start:
            info |= {
                "used_after": record.used_after,
                "live_bytes": record.live_bytes,
                "collected_bytes": record.collected_bytes,
                "relocated": bool(record.relocated),
                "cycle_ns": record.cycle_ns,
                "pauses": self.pauses(told),
            }
        return "start" if start else "stop", info

    cdef list pauses(self, uint64_t cycle):
        cdef PauseRecord records[PAUSES_TOLD]
        cdef uint64_t i, n = find_pauses(self.h.events, cycle, records, PAUSES_TOLD)
        return [{"phase": PAUSES[records[n - 1 - i].kind], "start_ns": records[n - 1 - i].start_ns,
                 "reach_ns": records[n - 1 - i].reach_ns, "work_ns": records[n - 1 - i].work_ns}
                for i in range(n)]


def _tell(callbacks, phase, info):
    for callback in list(callbacks):
        try:
            callback(phase, dict(info))
        except BaseException as e:      # as gc does; nobody here could catch it
            PyErr_SetObject(type(e), e)
            PyErr_WriteUnraisable(callback)


def _dispatch(_Share share, held):
    """The thread.  `held` is a weak reference to the list of callbacks."""
    while share.wait():
        callbacks = held()
        if callbacks is None:
            return
        while True:
            event = share.next()
            if event is None:
                break
            if callbacks:
                _tell(callbacks, *event)
        del callbacks


class Callbacks(list):
    """The list behind `Heap.callbacks`; the heap holds it, its thread does so only weakly."""

    __slots__ = ("__weakref__",)


_threads = weakref.WeakKeyDictionary()      # HeapCore -> the thread that calls its callbacks


cdef _start_thread(HeapCore core, callbacks):
    _threads[core] = thread = threading.Thread(
        target=_dispatch, args=(_Share(core), weakref.ref(callbacks)), name="gcheap-callbacks",
        daemon=True)
    thread.start()


def callbacks_of(HeapCore core not None):
    """The heap's list of callbacks.  The first call makes it, and the thread that calls them."""
    core.check_open()
    if core.callbacks is None:
        callbacks = Callbacks()
        with core.guard:
            # Garbage collection and signals may have run what asked for it meanwhile.
            if core.callbacks is not None:
                return core.callbacks
            core.callbacks = callbacks
        _start_thread(core, callbacks)
    return core.callbacks


def _in_child():
    """A forked child tells the cycles of its own, on a thread of its own.  A callback that has
    forked goes on in the child as that thread."""
    cdef HeapCore core
    for core, thread in list(_threads.items()):
        if (thread is not threading.current_thread() and core.callbacks is not None
                and not load32_acquire(&core.h.closed)):
            _start_thread(core, core.callbacks)


os.register_at_fork(after_in_child=_in_child)
