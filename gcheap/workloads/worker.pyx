"""What every native workload has in common, written once: `Worker`, one for each mutator.

    Python calls        what happens                                    a workload writes
    populate(m, rec)    enter, push a frame of `words` roots,           start_shared, start
                        worker 0: make what all share; all:     build_one
                        build `to_build` pieces of their own
    run()               enter, take over what worker 0 made,            operation (or loop)
                        operations until the run is over
    audit()             settle(), then enter and check each piece       check_one, check_all
    damage(what)        enter and break one thing (tests)               break_one, DAMAGES
    leave()             pop the frame                                   let_go
    counts(), sizes()   what joins the document                         the same

A workload is a subclass in a file of its own: `__cinit__(self, heap, part)` decides sizes from
`self.share`, sets `words` (and `shared`) and declares shapes; the rest is in the right column.
A failed allocation is told by returning False.  Failed checks go to `record_failure`.

Rules, for all that is called RUNNING: no Python, no lock, no long wait (I5); an address in a
local variable does not live across a safepoint (allocations and gc_poll), what must stands in
`self.frame`; one gc_poll an operation at least, and one every few thousand words of other work.
What must be in the heap is known outside it (a *model*: arrays of the worker's own), so that no
check relies on the memory that it checks.

The first `shared` roots of the frame name what worker 0 made for all (`start_shared`).  The others
wait for that, outside the heap, and take them over before they start: a worker that is running
delays every pause until its next safepoint, and until then the words in worker 0's frame are up to
date, whatever that thread does.  So `start` may fill its part of a shared table.
"""
from libc.stdint cimport uint64_t, uintptr_t

from gcheap._fastpath cimport gc_alloc_array, gc_enter, gc_leave, gc_poll, gc_pop, gc_push
from gcheap.core.layout cimport SHAPE_SLOT_ARRAY, word
from gcheap.core.native cimport clock_ns, load64_relaxed, store64_relaxed, unlikely
from gcheap.workloads._random cimport mix64
from gcheap.workloads._record cimport (
    FAILURES_BEFORE_STOP, Recording, record_operation, stop_wanted)

import threading

TICK_SECONDS = 0.02             # how often one that waits looks whether the run is over


cdef class Worker:
    """One mutator of a workload; `part` is a `gcheap.workloads.session.Part`."""

    DAMAGES = ()                # names of what `damage` can break

    def __cinit__(self, heap, part):
        self.index = part.index
        self.mutators = part.mutators
        self.share = part.share
        self.random = mix64((<uint64_t>part.seed << 8) + self.index)
        self.to_build = 1
        self.shared_made = threading.Event() if self.index == 0 else None

    # ---- what a workload writes ----------------------------------------------------------

    cdef bint start_shared(self) noexcept nogil:
        return True

    cdef bint start(self) noexcept nogil:
        return self.build_all()

    cdef bint build_one(self, uint64_t i) noexcept nogil:
        return True

    cdef bint operation(self) noexcept nogil:
        return False

    cdef void loop(self) noexcept nogil:
        while True:
            if unlikely(not self.operation()):
                self.r.exhausted = 1
                return
            self.operations += 1
            if unlikely(self.r.failures > FAILURES_BEFORE_STOP):
                return
            if unlikely(not record_operation(self.r)):
                return

    cdef void check_all(self) noexcept nogil:
        cdef uint64_t i
        for i in range(self.to_build):
            self.check_one(i)
            gc_poll(self.m)
            if self.hopeless():
                return

    cdef void check_one(self, uint64_t i) noexcept nogil:
        pass

    cdef void break_one(self, int what) noexcept nogil:
        pass

    cdef void let_go(self) noexcept nogil:
        pass

    def ready(self, mutator):
        """Before `start`, with the GIL: shapes that only a mutator can name."""

    def settle(self, heap):
        """Before the audit, with the GIL and outside the heap: a cycle, where it needs one."""

    def counts(self):
        """{name: number} for the document, added up over the mutators."""
        return {}

    def sizes(self):
        """{name: value} for the document, the same for every mutator."""
        return {}

    # ---- what it may use -----------------------------------------------------------------

    cdef bint build_all(self) noexcept nogil:
        cdef uint64_t i
        for i in range(self.to_build):
            if self.stopping():
                return True
            if not self.build_one(i):
                return False
            self.one_built()
            gc_poll(self.m)
        return True

    cdef bint hold_slots(self, int at, uint64_t length) noexcept nogil:
        cdef word made = gc_alloc_array(self.m, SHAPE_SLOT_ARRAY, length)
        self.frame[at] = made
        return made != 0

    cdef void one_built(self) noexcept nogil:
        self.set_built(self.built + 1)

    cdef void set_built(self, uint64_t built) noexcept nogil:
        store64_relaxed(&self.built, built)                 # relaxed: for the display only

    cdef bint stopping(self) noexcept nogil:
        return stop_wanted(self.r)

    cdef bint hopeless(self) noexcept nogil:
        return self.r.failures > FAILURES_BEFORE_STOP

    # ---- what a session calls, in this order ---------------------------------------------

    def meet(self, workers):
        """All workers of the run, in the order of their index; before any thread runs."""
        self.first = workers[0]
        self.first_frame = &self.first.frame

    @property
    def populated(self):
        """The share of the live data built so far, 0 to 1; from any thread."""
        return min(1.0, load64_relaxed(&self.built) / self.to_build)        # display only

    def populate(self, mutator, Recording recording not None):
        """Builds the live data; a failed allocation sets recording.exhausted."""
        cdef bint held
        self.mutator = mutator
        self.recording = recording
        self.m = <MutatorState*><uintptr_t>mutator.native()
        self.r = recording.r
        self.ready(mutator)
        with nogil:
            gc_enter(self.m)
            self.frame = gc_push(self.m, self.words)
            held = self.frame != NULL and (self.index != 0 or self.start_shared())
            gc_leave(self.m)
        if self.index == 0:
            self.unshared = not held
            self.shared_made.set()
        else:
            while not self.first.shared_made.wait(TICK_SECONDS) and not stop_wanted(self.r):
                pass
        # When the shared part is missing, worker 0 says so for all.
        if held and not stop_wanted(self.r) and not self.first.unshared:
            with nogil:
                gc_enter(self.m)
                self.take_over()
                held = self.start()
                gc_leave(self.m)
        if not held:
            self.r.exhausted = 1
        store64_relaxed(&self.r.ops, 0)     # what population recorded was no operation of the run

    cdef void take_over(self) noexcept nogil:
        cdef int i
        if self.index != 0:
            for i in range(self.shared):
                # Relaxed: written before these threads met, and then by pauses only.
                self.frame[i] = load64_relaxed(&self.first_frame[0][i])

    def run(self):
        """Operations until the run is stopped, the heap exhausted, or too much failed."""
        with nogil:
            gc_enter(self.m)
            self.take_over()
            self.r.last_ns = clock_ns()
            self.loop()
            gc_leave(self.m)

    def audit(self, heap):
        """Checks everything that this mutator worked on; failures go to its recording."""
        self.settle(heap)
        with nogil:
            gc_enter(self.m)
            self.take_over()
            self.check_all()
            gc_leave(self.m)

    def damage(self, str what):
        """Breaks one thing of this mutator's part, named in DAMAGES, for tests of the checks.

        Called between two other calls; ValueError for another name.
        """
        cdef int kind = type(self).DAMAGES.index(what)
        with nogil:
            gc_enter(self.m)
            self.take_over()
            self.break_one(kind)
            gc_leave(self.m)

    def leave(self):
        """Gives the mutator's roots back.  Nothing of the run is left in the heap."""
        if self.frame != NULL:
            with nogil:
                gc_enter(self.m)        # a pause reads the shadow stacks of those outside
                self.let_go()
                gc_pop(self.m, self.words)
                gc_leave(self.m)
            self.frame = NULL
        self.first = None           # of worker 0: itself
