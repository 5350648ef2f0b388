"""`Worker`, the frame of every native workload, to be cimported.  See worker.pyx.

Beside it, for plug-ins: `record_failure` and the kinds of failures.
"""
from gcheap.core.layout cimport MutatorState, word
from gcheap.workloads._record cimport (
    BAD_BYTES, BAD_COUNT, BAD_FILLER, BAD_ID, BAD_LINK, BAD_ORDER, BAD_SHAPE, BAD_SLOT, BAD_SUM,
    BAD_WEAK, Recorder, Recording, record_failure)
from libc.stdint cimport uint64_t

cdef class Worker:
    """One mutator of a workload.  Every field is its own thread's, but where it says otherwise."""
    cdef uint64_t[16] apart         # unused: no two workers have fields on one cache line
    cdef MutatorState* m
    cdef Recorder* r
    cdef word* frame                # `words` roots on the shadow stack, from `populate` on
    cdef word** first_frame         # where worker 0 keeps its own
    cdef uint64_t random            # state of random64, seeded by --seed and index
    cdef uint64_t operations        # ever begun and ended
    cdef uint64_t built             # of `to_build`; any thread reads it, for the display
    cdef uint64_t to_build
    cdef readonly uint64_t index
    cdef readonly uint64_t mutators     # workers of the run
    cdef readonly uint64_t share    # live bytes of this one
    cdef int words                  # set by __cinit__ of the workload: roots in the frame,
    cdef int shared                 # ... the first of which worker 0 makes for all
    cdef Worker first
    cdef object shared_made         # worker 0's: an Event,
    cdef bint unshared              # ... and, from then on, whether what all share is missing
    cdef object mutator
    cdef Recording recording

    # What a workload writes.  All are called on the mutator's thread, RUNNING, with `frame` made.
    cdef bint start_shared(self) noexcept nogil         # worker 0, before all.  False: full
    cdef bint start(self) noexcept nogil                # the live data: build_all().  False: full
    cdef bint build_one(self, uint64_t i) noexcept nogil    # ... piece i of `to_build`
    cdef bint operation(self) noexcept nogil            # False: the heap is full
    cdef void loop(self) noexcept nogil                 # operations until the run is over
    cdef void check_all(self) noexcept nogil            # the audit: check_one() of all pieces
    cdef void check_one(self, uint64_t i) noexcept nogil
    cdef void break_one(self, int what) noexcept nogil  # breaks DAMAGES[what]
    cdef void let_go(self) noexcept nogil               # gives back what is no root of the frame

    # What it may use.
    cdef void take_over(self) noexcept nogil            # the shared roots, from worker 0
    cdef bint build_all(self) noexcept nogil
    cdef bint hold_slots(self, int at, uint64_t length) noexcept nogil  # in frame[at].  False: full
    cdef void one_built(self) noexcept nogil
    cdef void set_built(self, uint64_t built) noexcept nogil
    cdef bint stopping(self) noexcept nogil             # the run is over: for long populations
    cdef bint hopeless(self) noexcept nogil             # too many checks failed to go on
