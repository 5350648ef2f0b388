# cython: nonecheck=True
"""The owner of a heap's native state: creation, close, fork, and the entry of every Python call.

Every Python operation on objects is a short stretch of RUNNING with the GIL held: `enter`,
raw memory accesses, `leave_running`.  Inside such a stretch no Python object is created or
dropped, because that could run arbitrary code, and nothing blocks (I5).
"""
import os
import threading
import weakref

from gcheap.core import probe as probing
from gcheap.core.collector cimport start_collector
from gcheap.core.descriptor cimport begin_uffd
from gcheap.core.engine cimport end_engine, start_engine
from gcheap.core.events cimport new_histogram
from gcheap.core.failpoint cimport FP_CLOSE_BEGIN, FP_CLOSE_ENDED, failpoint
from gcheap.core.fault cimport unwatch_heap, watch_heap
from gcheap.core.fork cimport watch_forks
from gcheap.core.frozen cimport drop_frozen
from gcheap.core.handler cimport start_fault_server
from gcheap.core.layout cimport (
    BACKEND_COPY, BACKEND_MOVE, BACKEND_STW, HANDLE_CHUNKS, HandleChunk, HeapState, MAX_SHAPES,
    MutatorState, SHAPE_BYTES, SHAPE_RAW, SHAPE_SLOT_ARRAY, SHAPE_SLOTS, ShapeInfo)
from gcheap.core.native cimport (
    load32_acquire, mutex_lock, mutex_unlock, sleep_ns, store32_seq)
from gcheap.core.records cimport Events
from gcheap.core.registry cimport enlist_heap
from gcheap.core.safepoint cimport (
    enter_running, everyone_outside, leave_running, thread_mutator)
from gcheap.core.space cimport release_heap, release_pinned, release_space, reserve_space
from gcheap.core.uffd cimport GC_FEATURE_MOVE, GC_FEATURE_SIGBUS
from gcheap.core.weak cimport new_weak_state
from gcheap.errors import GcheapError, HeapClosed, NotAttached, OptionError
from gcheap.face import observers
from gcheap.face.limits import mapping_advice, no_tables, no_thread
from gcheap.face.settings cimport apply_settings
from gcheap.options import TLAB_BYTES, format_size, least_capacity, resolve, setting_of
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc
from posix.unistd cimport close as posix_close

cdef extern from "<Python.h>":
    int PyErr_CheckSignals() except -1

cdef extern from "<sys/mman.h>" nogil:
    int MADV_HUGEPAGE, MADV_NOHUGEPAGE

_BACKENDS = {"move": BACKEND_MOVE, "copy": BACKEND_COPY, "stw": BACKEND_STW}
_live = weakref.WeakSet()       # of HeapCore, for their Python locks after a fork
MAX_CAPACITY = 24 << 30         # prefix sums count words of a half in 32 bits


cdef class HeapCore:
    """Native state of one heap.  `Heap`, `Mutator`, `Shape` and `Ref` each keep it alive."""

    def __cinit__(self, given):
        self.h = <HeapState*>calloc(1, sizeof(HeapState))
        if self.h == NULL:
            raise no_tables()
        if watch_forks() != 0:
            raise MemoryError("gcheap: pthread_atfork has no memory")
        self.h.fd = -1
        self.h.refs = 1
        self.h.start_engine = start_engine
        self.build(given)

    cdef build(self, given):
        cdef HeapState* h = self.h
        cdef int error
        self.options = options = resolve(given)
        self.followers = []
        self.number = next(observers.numbers)
        self.guard = threading.RLock()
        self.shapes = [None] * 3
        self.shapes_by_name = {}
        self.array_shapes = {}
        self.set_geometry(options)
        h.verify = options["verify"]
        h.fork_none = options["fork"] == "none"
        h.safepoint_warning_ns = options["safepoint_warning_ms"] * 1000000
        h.stress.collect_every = options["collect_every"]
        h.stress.place_delay_ns = 1000 * options["delay_placements_us"]
        h.stress.always_relocate = options["relocate"] == "always"
        h.tag_mask = 7
        h.shapes = <ShapeInfo*>calloc(MAX_SHAPES, sizeof(ShapeInfo))
        h.handles = <HandleChunk**>calloc(HANDLE_CHUNKS, sizeof(HandleChunk*))
        h.events = <Events*>calloc(1, sizeof(Events))
        h.reach_hist = new_histogram()
        h.retired.fault_hist = new_histogram()
        if (h.shapes == NULL or h.handles == NULL or h.events == NULL or h.reach_hist == NULL
                or h.retired.fault_hist == NULL or not new_weak_state(h)):
            raise no_tables()
        self.define_own_shapes()
        enlist_heap(h)          # before there is a descriptor that a forked child must close
        self.choose_backend(options["backend"], options["faults"])
        error = reserve_space(h)
        if error:
            raise OptionError(
                f"{setting_of('capacity', options['capacity'])}: a heap of "
                f"{format_size(h.capacity)} needs "
                f"{format_size(h.reservation_bytes + h.side_bytes)} of address space, but "
                f"{mapping_advice(error)}")
        h.alloc_limit = h.half_bytes
        apply_settings(h, options)
        if h.backend != BACKEND_STW:
            self.serve_faults(options["faults"])
        error = start_collector(h)
        if error:
            raise no_thread("the collector thread", error)
        _live.add(self)
        for observe in observers.on_made:
            observe(self)

    cdef choose_backend(self, str wanted, str faults):
        cdef uint64_t features = 0, ioctls = 0
        found = probing.probe()
        if wanted == "auto":
            backend, self.why = found.backend, f"auto: {found.why}"
        else:
            usable = {"move": found.move_works, "copy": found.copy_works, "stw": True}
            if not usable[wanted]:
                raise OptionError(f"{setting_of('backend', wanted)} is not available: {found.why}; "
                                  f'use backend="auto" (here: {found.backend!r})')
            backend, self.why = wanted, f"backend={wanted!r} was asked for"
        self.h.backend = _BACKENDS[backend]
        if backend == "stw":
            return
        self.h.fd, _, error = probing.open_descriptor()
        if self.h.fd < 0:
            raise GcheapError(f"userfaultfd answers {os.strerror(error)} now, although it has just "
                              f"worked; is the process out of descriptors (RLIMIT_NOFILE)?")
        # Without the SIGBUS feature a fault blocks in the kernel until somebody places the page.
        if begin_uffd(self.h.fd, (0 if faults == "handler" else GC_FEATURE_SIGBUS) | (
                GC_FEATURE_MOVE if backend == "move" else 0), &features, &ioctls) != 0:
            raise GcheapError("the userfaultfd handshake failed although it has just worked")

    cdef serve_faults(self, str faults):
        cdef int error
        if faults == "handler":
            error = start_fault_server(self.h)
            if error:
                raise no_thread("the thread that serves faults", error)
        elif watch_heap(self.h):
            raise GcheapError("256 heaps with a userfaultfd are open in this process already; "
                              "close one")

    cdef set_geometry(self, options):
        cdef HeapState* h = self.h
        cdef uint64_t units
        h.page = os.sysconf("SC_PAGE_SIZE")
        h.unit_pages = options["unit_pages"]
        h.unit_bytes = h.page * h.unit_pages
        h.unit_words = h.unit_bytes // 8
        h.unit_shift = h.unit_bytes.bit_length() - 1
        h.tlab_bytes = max(h.unit_bytes, <uint64_t>TLAB_BYTES)
        h.large_bytes = h.unit_bytes // 2
        h.batch_units = options["batch_units"] or (
            1 if h.unit_pages == 1 else max(1, 256 // h.unit_pages))
        h.capacity = options["capacity"]
        least = least_capacity(h.unit_pages)
        if not least <= h.capacity <= MAX_CAPACITY:
            raise OptionError(
                f"{setting_of('capacity', options['capacity'])}: expected {format_size(least)} "
                f"(with units of {h.unit_pages} pages) to {format_size(MAX_CAPACITY)}")
        # Slack: black allocation before a flip, rounding to units, large runs.
        units = (h.capacity + h.capacity // 8) // h.unit_bytes + 64 * (h.tlab_bytes // h.unit_bytes)
        h.half_bytes = (units * h.unit_bytes + (2 << 20) - 1) // (2 << 20) * (2 << 20)
        h.half_units = h.half_bytes // h.unit_bytes
        h.huge_advice = {"system": -1, "always": MADV_HUGEPAGE, "never": MADV_NOHUGEPAGE}[
            options["huge_pages"]]

    cdef define_own_shapes(self):
        """The two shapes every heap has, and shape 0: what a refused gc_define_shape answers.  No
        TLAB has room for one, nor for an array of elements of so many bytes, and the calls that
        inlined allocation falls back to refuse it."""
        cdef ShapeInfo* s = &self.h.shapes[0]
        s.bytes = ~<uint64_t>0
        s.item = <uint64_t>1 << 40
        s = &self.h.shapes[SHAPE_SLOT_ARRAY]
        s.kind = SHAPE_SLOTS
        s.tag_mask = 7
        s = &self.h.shapes[SHAPE_BYTES]
        s.kind = SHAPE_RAW
        s.item = 1
        self.h.shape_count = 3

    # ---- every call ----------------------------------------------------------------------

    cdef int check_open(self) except -1:
        if load32_acquire(&self.h.closed):
            if self.h.forked:
                raise HeapClosed('this heap was made with fork="none": it belongs to the parent of '
                                 'this forked process; make one in the child, or use '
                                 'fork="continue"')
            raise HeapClosed("the heap is closed")
        return 0

    cdef int check_engine(self) except -1:
        """In a forked child: raises GcheapError when no collector thread could be started."""
        cdef int error = self.h.engine_error
        if not load32_acquire(&self.h.collector_alive) and error:
            raise GcheapError(f"the collector thread cannot be started in this forked process: "
                              f"{os.strerror(error)}; raise RLIMIT_NPROC (ulimit -u) or end "
                              f"threads")
        return 0

    cdef str reason(self):
        """Why this backend."""
        cdef int error = self.h.descriptor_error
        if not error:
            return self.why
        return (f"{self.why}; in this forked process userfaultfd answers {os.strerror(error)}, so "
                f"compaction happens inside a pause")

    cdef MutatorState* enter(self) except NULL:
        """The calling thread's mutator, RUNNING.  The caller must leave_running it."""
        cdef MutatorState* m
        self.check_open()
        m = thread_mutator(self.h)
        if m == NULL:
            raise NotAttached(
                f"thread {threading.current_thread().name!r} is not attached to this heap; use "
                f"`with heap.attach() as m:` in the thread that touches objects")
        enter_running(m)
        # close() stores `closed` before it looks at `run`: one of the two sees the other.
        if load32_acquire(&self.h.closed):
            leave_running(m)
            self.check_open()
        return m

    # ---- the end -------------------------------------------------------------------------

    def close(self):
        """Ends the heap; see Heap.close."""
        cdef HeapState* h = self.h
        cdef bint outside
        with self.guard:
            if h.reservation == 0 or h.forked:
                return
            store32_seq(&h.closed, 1)
            while True:         # Ctrl-C may end this; close() may be called again
                with nogil:
                    outside = everyone_outside(h)
                    if not outside:
                        sleep_ns(1000000)
                if outside:
                    break
                PyErr_CheckSignals()
                if h.reservation == 0:          # a signal's handler has closed it meanwhile
                    return
            self.tear_down()
        if self.finalizers is not None:
            self.finalizers.end()       # without the guard: callbacks may do what they like

    cdef tear_down(self):
        cdef HeapState* h = self.h
        cdef bint exports = self.exports > 0
        with nogil:
            failpoint(FP_CLOSE_BEGIN)
            end_engine(h)
            failpoint(FP_CLOSE_ENDED)
        for follower in self.followers or ():
            follower.end()
        with nogil:
            mutex_lock(&h.list_lock)        # whole in a forked child, or not begun
            unwatch_heap(h)
            if h.fd >= 0:
                posix_close(h.fd)
                h.fd = -1
            drop_frozen(h)
            release_space(h, exports)
            mutex_unlock(&h.list_lock)
        if exports and self.exports == 0 and h.pinned.base:
            release_pinned(h)               # the last view went while this did not hold the GIL

    def renew_guard(self):
        """In a forked child: another thread may have held the lock."""
        self.guard = threading.RLock()

    def __dealloc__(self):
        cdef HeapState* h = self.h
        if h == NULL or h.forked:
            return              # a child's copy goes with the process
        if h.reservation or h.collector_thread or h.fd >= 0:
            h.closed = 1
            self.tear_down()
        release_heap(h)


def _renew_guards():
    for core in list(_live):
        core.renew_guard()


# The heap itself has been made the child's own by then (core/fork.pyx), for C's fork() as well.
os.register_at_fork(after_in_child=_renew_guards)

# Nothing is registered for the interpreter's exit: the collector thread needs no interpreter,
# and a daemon thread may be inside the heap until the process ends.
