# cython: nonecheck=True
"""The heap, as Python sees it."""
import threading

from gcheap.core.layout cimport HeapState
from gcheap.core.mark_team cimport resident_stacks
from gcheap.core.native cimport (
    futex_wait, load32_relaxed, load32_seq, load64_relaxed, load64_seq, store32_seq)
from gcheap.core.pacing cimport request_shrinking
from gcheap.core.records cimport CAUSE_EXPLICIT
from gcheap.core.requests cimport cycle_running
from gcheap.core.space cimport resident_bytes
from gcheap.face import inspect, observers, reports
from gcheap.face.callbacks import callbacks_of
from gcheap.face.finalize import finalize
from gcheap.face.guardian import Guardian
from gcheap.face.mutator cimport attach
from gcheap.face.pagemap import page_map
from gcheap.face.shape cimport define_shape
from gcheap.face.snapshot import snapshot
from gcheap.face.state cimport HeapCore
from gcheap.face.weaktables import WeakKeyTable, WeakValueTable
from gcheap.late import tables
from gcheap.options import signature
from libc.stdint cimport uint32_t, uint64_t, uintptr_t

cdef extern from "<Python.h>":
    int PyErr_CheckSignals() except -1

cdef enum:
    SIGNAL_SLICE_NS = 50000000  # how often a waiting main thread looks for Ctrl-C


cdef class Heap:
    """A concurrent compacting heap.

    capacity     bytes of objects it may hold, headers included: an int, "512MiB", or "min"
    backend      "auto", "move" (UFFDIO_MOVE), "copy" (UFFDIO_COPY) or "stw" (inside a pause)
    faults       "sigbus": a thread that touches a page that has not arrived builds it itself;
                 "handler": it waits in the kernel, and a thread of the heap builds it
    unit_pages   pages claimed, assembled and placed as one, a power of two; 1: page by page
    batch_units  most units placed by one ioctl of the compactor; 0: chosen
    huge_pages   transparent huge pages for raw arrays of 8 MiB and more: "system", "always" (they
                 are asked for) or "never"
    policy       how far the heap grows before a cycle: a policy of gcheap.policy, or its text
    stall_warning_ms
                 an allocation stall that is longer is reported on standard error; 0: none is
    idle_ms      a heap in which nothing was allocated for so long is collected once; 0: never
    mark_threads
                 native threads that mark, the collector among them; 1: it marks alone
    fork         "continue": after fork() parent and child both have the heap, each as its own;
                 "none": the child has none of its memory, and every use there raises HeapClosed
    safepoint_warning_ms
                 a pause that waits longer for a mutator names it on standard error; 0: never
    pause_warning_ms
                 a pause that is longer is reported on standard error, unless cycles are verified;
                 0: none is
    log          what is logged, in the form of HotSpot's -Xlog, and where to
                 (docs/reference/log.md): "gc*", "gc*=debug:file=gc.log"; "off"
    trace        "1": one line a cycle on standard error; a path that ends in .json, .pftrace or
                 .perfetto-trace: from now until close, what each thread does
                 (docs/reference/trace.md); "off"
    verify       0 to 4: checks of each cycle (docs/reference/verification.md); a broken invariant
                 is written to standard error and aborts
    relocate     "worth": a cycle that would win less than a unit does not relocate; "always"
    collect_every
                 stress: a full cycle at every so many allocations of a mutator; with 1 each
                 allocation waits for its flip; 0: off
    delay_placements_us
                 stress: microseconds that every placement waits, so that mutators fault; 0: none

    What is not given comes from GCHEAP_* variables, then from defaults (`gcheap.options`).
    Raises OptionError for a value that is not accepted.  Every method may be called from any
    thread.  As a context manager it closes at the end.
    """

    cdef HeapCore core
    cdef object __weakref__

    __signature__ = signature()     # every option by name, for inspect and help()

    def __init__(self, capacity=None, **options):
        if self.core is not None:
            raise TypeError("this Heap has been made; make another one")
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
        """A full cycle: everything allocated before the call is compacted, and memory that the
        policy does not want goes back to the kernel at once.

        With `wait` it returns when such a cycle has ended, served by Ctrl-C meanwhile; without,
        it starts one, or joins the one that runs.
        """
        cdef HeapState* h = self.core.h
        cdef uint64_t ticket
        cdef uint32_t seen
        self.core.check_open()
        if not wait:
            if not cycle_running(h):
                request_shrinking(h, CAUSE_EXPLICIT)
            return
        ticket = request_shrinking(h, CAUSE_EXPLICIT)
        while True:
            seen = load32_seq(&h.progress)
            if load64_seq(&h.finished) >= ticket:
                return
            with nogil:
                futex_wait(&h.progress, seen, SIGNAL_SLICE_NS)
            PyErr_CheckSignals()
            self.core.check_open()
            if load64_seq(&h.requested) < ticket:       # a signal's handler forked: the child asks
                ticket = request_shrinking(h, CAUSE_EXPLICIT)       # for itself
            self.core.check_engine()

    # ---- what does not keep objects alive --------------------------------------------------

    def weak_key_table(self):
        """A new `WeakKeyTable`: ephemerons from objects, by identity, to values."""
        return WeakKeyTable(self.core)

    def weak_value_table(self):
        """A new `WeakValueTable`: str, bytes or int to weakly held objects, for interning."""
        self.core.check_open()
        return WeakValueTable(self.core)

    def guardian(self):
        """A new `Guardian`: hands registered objects back when nothing else reaches them."""
        return Guardian(self.core)

    def finalize(self, ref, fn, /, *args, **kwargs):
        """A `Finalizer` that calls fn(*args, **kwargs) once the object of `ref` has died.

        As `weakref.finalize`: it lives until then whether or not it is kept, must not refer to
        the object itself, and runs at the interpreter's exit if its `atexit` is true (the
        default).  `close()` is the death of every object, and runs what is left, newest first.
        Otherwise callbacks run on a daemon thread of the heap, not attached, after the cycle
        that found the object dead; exceptions go to sys.unraisablehook.
        """
        return finalize(self.core, ref, fn, args, kwargs)

    # ---- as the gc module has it -----------------------------------------------------------

    def enable(self):
        """Lets cycles start by themselves again (the default)."""
        self.core.check_open()
        store32_seq(&self.core.h.automatic_off, 0)

    def disable(self):
        """No cycle starts by itself any more: only collect() does one.

        A heap that is full still collects, while the allocation waits, before it gives up:
        HeapExhausted always means that no room could be made.
        """
        self.core.check_open()
        store32_seq(&self.core.h.automatic_off, 1)

    def isenabled(self):
        """Whether cycles start by themselves."""
        self.core.check_open()
        return not load32_relaxed(&self.core.h.automatic_off)

    def get_stats(self):
        """What cycles have done so far: a list of dicts, one for each cause of a cycle.

        kind ("goal", "idle", "stall", "explicit"), collections (cycles), collected (bytes made
        free, not objects), uncollectable (always 0), relocations (cycles that compacted), cycle_ns
        (their time, most of it concurrent).
        """
        return reports.cause_totals(self.core)

    @property
    def callbacks(self):
        """A list of callables, each called as callback(phase, info) when a cycle has started
        ("start") and when it has ended ("stop"): docs/reference/gc-manners.md has the keys of
        `info`.

        They are called in order, on a daemon thread of the heap that exists once this list was
        asked for: soon after the event, never within a pause.  An exception goes to
        sys.unraisablehook.
        """
        return callbacks_of(self.core)

    def freeze(self):
        """A full cycle; then everything reachable is frozen: alive, whatever becomes of its
        references, until unfreeze().

        What is frozen already stays so.  Frozen objects can be used and changed like others, and
        move like others; what they refer to lives as well.  One pause as long as it takes to
        look at every object.
        """
        self.collect()
        inspect.freeze(self.core)

    def unfreeze(self):
        """Ends what freeze() began: frozen objects are like all others again."""
        inspect.unfreeze(self.core)

    def get_freeze_count(self):
        """How many objects are frozen."""
        self.core.check_open()
        return load64_relaxed(&self.core.h.frozen_count)

    # ---- introspection ---------------------------------------------------------------------

    def census(self):
        """Everything reachable, by shape: a structured array, most bytes first.

        shape (its name), kind ("fixed", "slots", "raw"), objects, bytes.  Garbage is not counted.

        This and all that follows: any thread, attached or not; one pause (in pauses():
        "inspect") as long as it takes to look at every object.  Raises MemoryError when there is
        none to look with, RuntimeError for a native mutator that is running.
        """
        return tables.records(inspect.census(self.core))

    def referrers(self, ref):
        """What holds the object of `ref`: a list of pairs.

        (Ref, name of the field or index) for each slot of a reachable object; (Root, None) for
        each root.  `ref` itself is none, nor are Refs that introspection has made.
        """
        return inspect.referrers(self.core, ref)

    def retained(self, ref):
        """A `Retained`: objects and bytes that nothing would reach if the object of `ref` were
        gone; itself included."""
        return inspect.retained(self.core, ref)

    def why_alive(self, ref, longest=1000):
        """A shortest path from a root to the object of `ref`: a `Path`, which is a list of a
        `Root` and a `Step` for each object.  None when nothing holds it but `ref`, and Refs that
        introspection has made.

        Of more than `longest` steps the middle is left out.
        """
        return inspect.why_alive(self.core, ref, longest)

    def walk(self):
        """Iterates over Refs to all reachable objects, in the order in which they lie.

        The heap may change meanwhile.  What is reachable from the first step to the end comes
        exactly once; what becomes unreachable may be left out; what is allocated meanwhile mostly
        is.  About a sixteenth of the objects is held at a time, each part found in a pause.
        """
        return inspect.walk(self.core)

    def snapshot(self, path):
        """Writes everything reachable to a V8 .heapsnapshot file, for the memory panels of Chrome
        and Edge developer tools and of VS Code.

        The file is written whole or not at all.  It holds names of shapes, fields and mutators,
        sizes and references; no contents and no addresses.  Raises OSError when it cannot be
        written.
        """
        snapshot(self.core, path)

    # ---- reports ---------------------------------------------------------------------------

    def stats(self):
        """A `HeapStats`: counters since the heap was made.  Cheap; any thread."""
        return reports.heap_stats(self.core)

    def pauses(self):
        """The last pauses (at most 16,384), oldest first: a structured array.

        cycle (0: a pause of introspection, "inspect"), phase ("mark_start", "mark_end",
        "relocate_start", "verify", "full", "inspect", and "fork": around a fork(), after `cycle`),
        start_ns (`gcheap.clock_ns`), reach_ns (time to safepoint), work_ns (from the last mutator's
        stop on), cpu_ns (thread CPU time of the work), mutators.
        """
        return tables.records(reports.pause_records(self.core))

    def cycles(self):
        """The last cycles (at most 16,384), oldest first: a structured array of ns and bytes.

        relocate_ns runs from the flip until the last page is placed and the source released.
        dense_bytes moved whole, without assembly; wasted_bytes are the garbage and padding kept
        in them, at most 1/16 of the live bytes.  cause is "goal", "idle", "stall" or "explicit";
        used_before and used_after count as capacity does, collected_bytes is what the cycle made
        free.
        """
        return tables.records(reports.cycle_records(self.core))

    def histogram(self, name):
        """A `Histogram` (values_ns, counts, max_ns) of "fault", "stall" (waits of allocations for
        room) or "time_to_safepoint".

        Values are the upper edges of the non-empty buckets (3 significant digits).  A fault is
        timed in the fault path; with faults="handler" from the moment its message was read until
        its page was there, so that the ways into the kernel and back are not in it.
        """
        return tables.Histogram(*reports.histogram(self.core, name))

    def trace(self, path):
        """Begins a trace: what each thread does, written to the file `path` at the end of the
        returned context manager (or by its `stop()`, or when the heap closes).

        Chrome's JSON when the name ends in .json, Perfetto's protobuf when it ends in .pftrace or
        .perfetto-trace, for which the package `perfetto` must be there (pip install
        'gcheap[trace]'); both open in ui.perfetto.dev.  %p in it is the process, %h the heap's
        number.  A heap has one trace at a time.  Raises OptionError for another name or where it
        plainly cannot be written.  docs/reference/trace.md says what is in it.
        """
        self.core.check_open()
        return observers.start_trace(self.core, path)

    def resident_bytes(self):
        """Resident bytes of the heap's mappings and side tables now (mincore)."""
        # With the GIL: nobody can close the heap under the walk.
        self.core.check_open()
        return resident_bytes(self.core.h) + resident_stacks(self.core.h)

    def page_map(self):
        """What each unit holds now: a structured array, a row a unit, half by half in their order.

        unit (its index within its half), space (0: small objects, 1: large ones in runs of units,
        2: huge ones, whose unit is 2 MiB), half (0 or 1), current (whether mutators allocate in
        that half), state and by (codes: gcheap.pagemap has the names), live_bytes (what the last
        slide found live there; -1: not known).  What was never handed out has no row.

        Nothing is stopped: during a relocation the rows change while they are read.  Between two
        cycles the map shows the last slide: who placed each unit, and how full the old half was.
        docs/reference/page-map.md has the states.
        """
        return tables.records(page_map(self.core))

    def native(self):
        """The address of the native heap (`HeapState*` of gcheap/core/layout.pxd, `gc_heap *` of
        gcheap.h), for code that is not Python.  It lives as long as this object, or until it is
        closed."""
        self.core.check_open()
        return <uintptr_t>self.core.h

    # ---- properties ------------------------------------------------------------------------

    @property
    def capacity(self):
        """Bytes of objects the heap may hold."""
        return self.core.h.capacity

    @property
    def policy(self):
        """The policy of `gcheap.policy` that sets `stats().limit_bytes`."""
        return self.core.options["policy"]

    @property
    def backend(self):
        """The backend in use: "move", "copy" or "stw".  A forked child has its parent's until it
        starts its first cycle, and "stw" from then on when it gets no userfaultfd."""
        return reports.backend_name(self.core)

    @property
    def fault_mode(self):
        """Who serves faults: "sigbus" (each thread its own), "handler" (a thread of the heap), or
        "none" under stw."""
        return reports.fault_mode_name(self.core)

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


def core_of(Heap heap not None):
    """Its HeapCore, for gcheap.embed."""
    return heap.core
