"""Named points at which a test stops, delays or refuses a thread of the core.

Free when unused: one relaxed load of a process-wide word.  A build with GCHEAP_NO_FAILPOINTS=1
has not even that.
"""
from gcheap.core.native cimport load32_relaxed, unlikely
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "gcheap/native/failpoint_switch.h" nogil:
    bint FAILPOINTS_BUILT "GCHEAP_FAILPOINTS_BUILT"

# The one list of names: FP_FLIP_AFTER is "flip.after" everywhere but here.  What each is for, and
# which actions it takes, stands in gcheap/failpoint_table.py.
cpdef enum FailpointName:
    # the cycle
    FP_CYCLE_REQUESTED = 0
    FP_CYCLE_BUSY
    FP_CYCLE_BEGIN
    FP_MARK_BEFORE
    FP_MARK_CONCURRENT
    FP_MARKER_CLAIM
    FP_MARKER_GIVE
    FP_MARKER_TAKEN
    FP_MARKER_IDLE
    FP_MARKER_SLEEP
    FP_MARKER_STOP
    FP_MARKER_DONE
    FP_MARK_TRACED
    FP_MARK_END
    FP_WEAK_BEFORE
    FP_WEAK_CLEARED
    FP_WEAK_RESURRECTED
    FP_WEAK_DONE
    FP_PLAN_BEGIN
    FP_SWEEP_GAP
    FP_PLAN_DONE
    FP_CYCLE_STAY
    FP_REGISTER_MORE
    FP_REGISTER_REFUSED
    FP_REGISTER_DONE
    FP_FLIP_AHEAD
    FP_FLIP_BEFORE
    FP_FLIP_AFTER
    FP_RELOCATE_DONE
    FP_UNREGISTER_BEFORE
    FP_UNREGISTER_DONE
    FP_CYCLE_EMPTIED
    FP_CYCLE_END
    FP_CYCLE_ABANDONED
    FP_COLLECTOR_SLEEP
    FP_COLLECTOR_END
    # units and chunks
    FP_COMPACTOR_CLAIMED
    FP_COMPACTOR_ASSEMBLED
    FP_COMPACTOR_PLACING
    FP_COMPACTOR_ARRIVED
    FP_COMPACTOR_PLACED
    FP_MUTATOR_FAULT
    FP_MUTATOR_CLAIMED
    FP_MUTATOR_ASSEMBLED
    FP_MUTATOR_PLACING
    FP_MUTATOR_ARRIVED
    FP_MUTATOR_PLACED
    FP_MUTATOR_WAIT
    FP_UNIT_SLEEP
    FP_UNIT_PUBLISHED
    FP_RECYCLE_PUSH
    FP_RECYCLE_POP
    FP_HANDLER_POLL
    FP_HANDLER_READ
    FP_HANDLER_SERVED
    # mutators and pauses
    FP_MUTATOR_ATTACH
    FP_MUTATOR_DETACH
    FP_MUTATOR_DETACHED
    FP_MUTATOR_ENTER
    FP_MUTATOR_LEAVE
    FP_MUTATOR_PARK
    FP_MUTATOR_SLEEP
    FP_MUTATOR_RESUMED
    FP_MUTATOR_RUNNING          # only in a hook for tests: RUNNING, without a poll
    FP_SAFEPOINT_ASKED
    FP_SAFEPOINT_SLEEP
    FP_SAFEPOINT_REACHED
    FP_SAFEPOINT_RELEASED
    FP_INSPECT_STOPPED
    # allocation, logs, handles
    FP_TLAB_REFILL
    FP_TLAB_TAKEN
    FP_LARGE_CLAIMED
    FP_PINNED_CLAIMED
    FP_STALL_WAIT
    FP_STALL_SLEEP
    FP_LOG_PUSH
    FP_LOG_TAKE
    FP_HANDLE_DROP
    FP_WEAK_READ
    # fork and the end
    FP_FORK_PREPARE
    FP_FORK_HELD
    FP_FORK_STOPPED
    FP_FORK_PARENT
    FP_FORK_CHILD
    FP_FORK_START
    FP_CLOSE_BEGIN
    FP_CLOSE_ENDED
    # ioctls that place pages; the three of each kind stand in the order of place.pxd's Site
    FP_PLACE_MOVE
    FP_PLACE_COPY
    FP_PLACE_ZEROPAGE
    FP_PLACE_UNREPORTED
    FP_COMPACTOR_MOVE
    FP_MUTATOR_MOVE
    FP_LARGE_MOVE
    FP_COMPACTOR_COPY
    FP_MUTATOR_COPY
    FP_LARGE_COPY
    # other calls of the kernel
    FP_UFFD_OPEN
    FP_UFFD_API
    FP_UFFD_REGISTER
    FP_UFFD_UNREGISTER
    FP_UFFD_WAKE
    FP_UFFD_POLL
    FP_UFFD_READ
    FP_THREAD_COLLECTOR
    FP_THREAD_MARKER
    FP_THREAD_SERVER
    FP_THREAD_BELL
    FP_MEMORY_MAP
    FP_MEMORY_INSPECT
    FP_MEMORY_FORK
    FP_MEMORY_EMPTY
    FP_MEMORY_STRAY
    FP_MEMORY_PAGEMAP
    FP_MEMORY_RELEASE
    FP_MEMORY_POPULATE
    FP_MEMORY_PINNED
    FP_MEMORY_TABLES
    FP_VERIFY_CLOSE
    FP_VERIFY_OPEN
    FAILPOINTS

cdef enum FailpointAction:
    FP_OFF = 0
    FP_PAUSE = 1                # stop until released
    FP_DELAY = 2                # for `low` ns and up to `span` more
    FP_ERRNO = 3                # low: errno, where the table says so
    FP_SHORT = 4                # low: pages the kernel is asked for, at points that place pages

cdef struct Failpoint:
    uint32_t action             # FailpointAction, atomic
    uint32_t release            # futex word: FP_PAUSE waits until it changes
    uint32_t waiting            # threads stopped here now; futex word of the tester
    uint32_t times              # how often the action still applies
    uint64_t skip               # arrivals that pass before it does
    uint64_t low
    uint64_t span
    uint64_t seed               # of the choice between low and low + span
    uint64_t arrivals           # since it was armed
    uint64_t hits               # arrivals to which the action applied

cdef uint32_t armed             # failpoints that have an action, and 1 while schedules are explored
cdef int64_t fail_slow(uint32_t name) noexcept nogil
cdef void release_stopped(uint32_t name) noexcept nogil
cdef void forget_waiting() noexcept nogil        # in a forked child: those threads do not exist


cdef inline int64_t failpoint(uint32_t name) noexcept nogil:
    """0; or an errno to report (> 0); or minus the pages to ask for (< 0)."""
    if FAILPOINTS_BUILT and unlikely(load32_relaxed(&armed)):
        return fail_slow(name)
    return 0
