"""Named points at which a test stops, delays or refuses a thread of the core.

Free when unused: one relaxed load of a process-wide word.
"""
from gcheap.core.native cimport load32_relaxed, unlikely
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum FailpointName:        # names in failpoint.pyx, in this order
    FP_MARK_BEFORE
    FP_MARK_CONCURRENT
    FP_MARK_TRACED
    FP_WEAK_BEFORE
    FP_WEAK_CLEARED
    FP_WEAK_RESURRECTED
    FP_WEAK_DONE
    FP_SWEEP_GAP
    FP_PLAN_DONE
    FP_REGISTER_MORE
    FP_REGISTER_REFUSED
    FP_REGISTER_DONE
    FP_FLIP_BEFORE
    FP_FLIP_AFTER
    FP_COMPACTOR_CLAIMED
    FP_COMPACTOR_ASSEMBLED
    FP_COMPACTOR_PLACED
    FP_MUTATOR_FAULT
    FP_MUTATOR_CLAIMED
    FP_MUTATOR_ASSEMBLED
    FP_MUTATOR_PLACED
    FP_MUTATOR_WAIT
    FP_PLACE_MOVE
    FP_PLACE_COPY
    FP_PLACE_ZEROPAGE
    FP_RELOCATE_DONE
    FP_UNREGISTER_DONE
    FP_CYCLE_END
    FP_MUTATOR_RUNNING          # only in a hook for tests: RUNNING, without a poll
    FP_HANDLER_POLL
    FP_HANDLER_READ
    FP_STALL_WAIT
    FP_INSPECT_STOPPED
    FP_CYCLE_ABANDONED
    FP_FORK_PREPARE
    FP_FORK_HELD
    FP_FORK_STOPPED
    FP_FORK_PARENT
    FP_FORK_CHILD
    FP_FORK_START
    FAILPOINTS

cdef enum FailpointAction:
    FP_OFF = 0
    FP_PAUSE = 1                # stop until released
    FP_DELAY = 2                # argument: ns
    FP_ERRNO = 3                # argument: errno (at the place.* points)
    FP_SHORT = 4                # argument: pages the kernel is asked for (at place.move)

cdef struct Failpoint:
    uint32_t action             # FailpointAction, atomic
    uint32_t release            # futex word: FP_PAUSE waits until it changes
    uint32_t waiting            # threads stopped here now; futex word of the tester
    uint32_t times              # how often the action still applies
    uint64_t argument
    uint64_t hits

cdef uint32_t* armed            # how many failpoints have an action
cdef int64_t fail_slow(uint32_t name) noexcept nogil
cdef void release_stopped(uint32_t name) noexcept nogil
cdef void forget_waiting() noexcept nogil        # in a forked child: those threads do not exist


cdef inline int64_t failpoint(uint32_t name) noexcept nogil:
    """0; or an errno to report (> 0); or minus the pages to ask for (< 0)."""
    if unlikely(load32_relaxed(armed)):
        return fail_slow(name)
    return 0
