"""One collection cycle, phase by phase, on the collector thread.

    concurrent    pause             concurrent   pause         concurrent  pause       concurrent
    ----------  +----------------+  ----------  +-----------+  ---------  +----------+ -----------
    clear marks | Mark Start:    |  Mark:       | Mark End: |  Clear weak | Relocate | Relocate:
                | TLABs retired, |  trace, and  | the last  |  references;| Start,   | build every
                | TAMS, barrier  |  what the    | of the    |  plan: sums,| the flip:| unit; un-
                | on, roots      |  barrier logs| log       |  units; REG-| roots    | register
                +----------------+  ----------  +-----------+  -ISTER---  +----------+ -----------

Mark End never traces for long: when more is left than a fixed budget, mutators go on and so does
concurrent marking.  From Mark Start to the flip mutators allocate black, above TAMS, up to
alloc_limit, which changes only inside pauses: the range to register is known before the flip, and
no mutator can name an address in it before it is registered (I6).  Under stw all of it happens
inside one pause.
"""
from gcheap.core.abandon cimport abandon, held, trace_until_held
from gcheap.core.ahead cimport Ahead, end_ahead, forward_ahead, rewrite_roots
from gcheap.core.events cimport record_cycle, record_phase, record_start
from gcheap.core.failpoint cimport (
    FP_CYCLE_BEGIN, FP_CYCLE_EMPTIED, FP_CYCLE_STAY, FP_FLIP_AFTER, FP_FLIP_AHEAD,
    FP_FLIP_BEFORE, FP_MARK_BEFORE,
    FP_MARK_CONCURRENT, FP_MARK_END, FP_MARK_TRACED, FP_PLAN_BEGIN, FP_PLAN_DONE,
    FP_REGISTER_DONE, FP_REGISTER_MORE, FP_REGISTER_REFUSED, FP_RELOCATE_DONE, FP_UFFD_REGISTER,
    FP_UFFD_UNREGISTER, FP_UNREGISTER_BEFORE, FP_UNREGISTER_DONE, failpoint)
from gcheap.core.fault cimport ensure_handler
from gcheap.core.frozen cimport forward_frozen, mark_frozen
from gcheap.core.guardian cimport mark_held
from gcheap.core.handler cimport end_faults
from gcheap.core.large cimport (
    begin_large, bound_large, flip_large, plan_large, stay_large)
from gcheap.core.layout cimport (
    BACKEND_MOVE, BACKEND_STW, EVENT_FLIPPED, EVENT_MARKED, EVENT_RELOCATED, HeapState,
    LARGE_SPACES, MutatorState, PHASE_FINISH, PHASE_IDLE, PHASE_MARK, PHASE_PLAN, PHASE_RELOCATE,
    WORD, word)
from gcheap.core.listener cimport tell
from gcheap.core.mark cimport (
    Marker, begin_marking, clear_marks, end_marking, mark_logged, mark_roots, open_roots,
    record_roots, trace)
from gcheap.core.mark_team cimport gather_marks, trace_together
from gcheap.core.memory_wait cimport MemoryWait, await_memory, begin_wait, end_wait
from gcheap.core.native cimport (
    add64_relaxed, check_that, clock_ns, gcheap_fatal, load64_relaxed, store32_relaxed,
    store32_release, store64_relaxed, thread_cpu_ns)
from gcheap.core.nonstrong cimport (
    announce_cleared, block_weak_reads, forward_non_strong, process_non_strong)
from gcheap.core.pinned cimport sweep_pinned
from gcheap.core.pagemap cimport end_map
from gcheap.core.plan cimport plan
from gcheap.core.records cimport (
    CauseTotals, CycleRecord, PAUSE_FULL, PAUSE_MARK_END, PAUSE_MARK_START, PAUSE_RELOCATE_START,
    PAUSE_VERIFY, PHASE_CONCURRENT_MARK, PHASE_CONCURRENT_RELOCATE, PHASE_MARK_CONTINUE,
    PHASE_NON_STRONG, PHASE_REGISTER, PHASE_RESET, PHASE_SELECT, PauseRecord, PhaseRecord)
from gcheap.core.relocate cimport compact, compact_large
from gcheap.core.requests cimport announce_progress, cause_of
from gcheap.core.safepoint cimport resume_world, stop_world
from gcheap.core.satb cimport hand_over
from gcheap.core.slow_pause cimport pause_ended
from gcheap.core.space cimport empty_half
from gcheap.core.tally cimport take_tally
from gcheap.core.tlab cimport retire_tlab
from gcheap.core.uffd cimport uffd_register, uffd_unregister
from gcheap.core.units cimport release_evacuated
from gcheap.core.verify cimport (
    verify_cycle_end, verify_mark_end, verify_mark_start, verify_planned, verify_relocated)
from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

cdef enum:
    PAUSE_BUDGET = 128          # slots that Mark End traces at most, the first time
    MOST_DOUBLINGS = 6          # ... and how often that is doubled when it was not enough
    SPACES = 1 + LARGE_SPACES
    NO_LIMIT = -1
    CLEAR_PASSES = 8
    PHASES_IN_PAUSE = 8

cdef struct Cycle:
    CycleRecord record
    Marker marker
    PauseRecord pause
    Ahead ahead                 # empty but around the flip of a concurrent cycle
    uint64_t cleared            # bytes of the half whose marks were cleared before the pause
    uint64_t used_at_tams
    uint64_t live_bytes
    bint stopped                # inside a pause
    uint32_t ended              # phases that ended in it
    PhaseRecord phase[PHASES_IN_PAUSE]


cdef void end_phase(HeapState* h, Cycle* c, uint32_t kind, uint64_t started) noexcept nogil:
    """Records a phase; when mutators stand still, only once they go on."""
    cdef PhaseRecord record
    record.cycle = c.record.cycle
    record.start_ns = started
    record.end_ns = clock_ns()
    record.kind = kind
    record.in_pause = c.stopped
    if not c.stopped:
        record_phase(h.events, &record)
    elif c.ended < PHASES_IN_PAUSE:
        c.phase[c.ended] = record
        c.ended += 1


cdef void retire_all(HeapState* h) noexcept nogil:
    cdef MutatorState* m = h.mutators
    while m != NULL:
        retire_tlab(m)
        m = m.next


cdef void clear_ahead(HeapState* h, Cycle* c) noexcept nogil:
    """Forgets the last cycle's marks, while mutators run, up to somewhat above the top, so that
    Mark Start finds next to nothing to clear.

    The first pass takes as long as the heap is large, and as much more is allocated meanwhile; the
    passes after it are short.  They end when the top stands still enough, or never would.
    """
    cdef uint64_t ahead = 16 * h.tlab_bytes, passes = 0, top
    c.cleared = 0
    while passes < CLEAR_PASSES:
        top = load64_relaxed(&h.top)
        if passes and top + ahead // 2 <= c.cleared:
            return
        top = min(top + ahead, h.half_bytes)
        clear_marks(h, c.cleared, top)
        c.cleared = top
        passes += 1


cdef void begin_pause(HeapState* h, Cycle* c, int kind) noexcept nogil:
    c.pause.kind = kind         # before the stop: a warning of a slow one names it
    c.pause.cycle = c.record.cycle
    stop_world(h, &c.pause)
    c.stopped = True
    c.ended = 0


cdef void end_pause(HeapState* h, Cycle* c) noexcept nogil:
    cdef uint32_t i
    resume_world(h, &c.pause)
    c.stopped = False
    for i in range(c.ended):
        record_phase(h.events, &c.phase[i])
    pause_ended(h, &c.pause)


# ---- the phases --------------------------------------------------------------------------

cdef uint64_t room_for_black(HeapState* h, Cycle* c) noexcept nogil:
    """Bytes that may be allocated black so that to-space still holds the slide beside them."""
    # Waste in and before dense runs is at most a sixteenth of what is live.
    cdef uint64_t slid = min(c.used_at_tams + c.used_at_tams // 16, h.r.tams_bytes) + h.unit_bytes
    cdef uint64_t reserve = 16 * h.tlab_bytes       # to allocate from after the flip
    cdef uint64_t room = h.half_bytes - min(h.half_bytes, slid + reserve)
    return min(room // h.unit_bytes * h.unit_bytes, h.half_bytes - h.r.tams_bytes)


cdef void mark_start(HeapState* h, Cycle* c) noexcept nogil:
    """Inside a pause: the snapshot.  What is reachable now, and what is allocated from now on,
    will be live."""
    failpoint(FP_MARK_BEFORE)
    retire_all(h)
    if h.verify:
        verify_mark_start(h)
    h.r.from_base = h.base[h.current]
    h.r.to_base = h.base[1 - h.current]
    h.r.backend = h.backend
    h.r.tams_bytes = load64_relaxed(&h.top)
    if h.r.tams_bytes > c.cleared:
        clear_marks(h, c.cleared, h.r.tams_bytes)       # allocated while we cleared
    c.used_at_tams = load64_relaxed(&h.used)
    store64_relaxed(&h.alloc_limit, h.r.tams_bytes + room_for_black(h, c))
    begin_large(h)
    begin_marking(&c.marker, h)
    record_roots(&c.marker)
    store32_relaxed(&h.marking, 1)


cdef bint mark_end(HeapState* h, Cycle* c, uint64_t tries) noexcept nogil:
    """Inside a pause: takes the rest of the log.  False: too much is left for a pause."""
    cdef MutatorState* m = h.mutators
    cdef uint64_t budget = h.capacity // 16 + 16 * h.tlab_bytes
    while m != NULL:
        hand_over(m)
        m = m.next
    failpoint(FP_MARK_END)
    mark_logged(&c.marker)
    if not trace(&c.marker, <uint64_t>PAUSE_BUDGET << min(tries, <uint64_t>MOST_DOUBLINGS)):
        return False
    store32_relaxed(&h.marking, 0)
    block_weak_reads(h)
    # Planning takes milliseconds; who runs into this limit waits for the flip.
    store64_relaxed(&h.alloc_limit, min(
        h.alloc_limit, load64_relaxed(&h.top) + budget // h.unit_bytes * h.unit_bytes))
    bound_large(h)
    if h.verify:
        verify_mark_end(h)
    c.record.used_mark_end = load64_relaxed(&h.used)
    tell(h, EVENT_MARKED, &c.pause)
    return True


cdef bint mark_concurrently(HeapState* h, Cycle* c) noexcept nogil:
    """Concurrent Mark and Pause Mark End, as often as it takes.  False: a fork waits."""
    cdef bint done = False
    cdef uint64_t tries = 0, started = clock_ns()
    mark_roots(&c.marker)
    mark_held(&c.marker)
    while not done:
        if not trace_until_held(&c.marker):
            return False
        failpoint(FP_MARK_TRACED)
        end_phase(h, c, PHASE_MARK_CONTINUE if tries else PHASE_CONCURRENT_MARK, started)
        begin_pause(h, c, PAUSE_MARK_END)
        done = mark_end(h, c, tries)
        end_pause(h, c)
        started = clock_ns()
        tries += 1
    return True


cdef void weak_phase(HeapState* h, Cycle* c) noexcept nogil:
    """Concurrent Process Non-Strong References.  What is live is final after it."""
    cdef uint64_t started = clock_ns()
    process_non_strong(&c.marker)
    gather_marks(&c.marker)
    end_marking(&c.marker)
    c.live_bytes = c.marker.live_words * WORD + c.marker.large_bytes
    c.record.weak_ns = clock_ns() - started
    end_phase(h, c, PHASE_NON_STRONG, started)


cdef void plan_phase(HeapState* h, Cycle* c, bint full) noexcept nogil:
    cdef uint64_t started = clock_ns()
    store32_release(&h.phase, PHASE_PLAN)
    failpoint(FP_PLAN_BEGIN)
    sweep_pinned(h)
    plan(h, full)
    plan_large(h)
    check_that(h.r.slid_words - h.r.wasted_words == c.marker.live_words,
               b"plan and mark disagree (words, words)", h.r.slid_words, c.marker.live_words)
    check_that(h.r.registered_bytes <= h.half_bytes, b"the slide does not fit (bytes, half)",
               h.r.registered_bytes, h.half_bytes)
    c.record.plan_ns = clock_ns() - started
    end_phase(h, c, PHASE_SELECT, started)
    failpoint(FP_PLAN_DONE)
    if h.verify:
        verify_planned(h)


cdef int register_range(HeapState* h, word at, uint64_t nbytes) noexcept nogil:
    cdef int error = <int>failpoint(FP_UFFD_REGISTER)
    return error if error else uffd_register(h.fd, at, nbytes)


cdef int unregister_range(HeapState* h, word at, uint64_t nbytes) noexcept nogil:
    """Returns 0 or dies: every unit is PLACED, but a range that stays registered would have its
    next pages fault for good.  A want of memory passes."""
    cdef MemoryWait memory
    cdef int error
    begin_wait(&memory)
    while True:
        error = <int>failpoint(FP_UFFD_UNREGISTER)
        if error == 0:
            error = uffd_unregister(h.fd, at, nbytes)
        if error == ENOMEM:
            await_memory(h, &memory)
            continue
        if error:
            gcheap_fatal(b"the kernel refused to unregister to-space (address, errno)", at,
                         <uint64_t>error)
        end_wait(h, &memory)
        return 0


cdef int each_range(HeapState* h, bint register, int count) noexcept nogil:
    """Registers or unregisters the planned ranges of the first `count` spaces, the halves of small
    objects first; returns how many it did until the kernel refused to register one."""
    cdef word at = h.r.to_base
    cdef uint64_t nbytes = h.r.registered_bytes
    cdef int i, error
    for i in range(count):
        if i:
            at = h.large[i - 1].to_base
            nbytes = h.large[i - 1].registered << h.large[i - 1].shift
            if register and failpoint(FP_REGISTER_MORE) > 0:
                return i
        if nbytes:
            error = (register_range(h, at, nbytes) if register
                     else unregister_range(h, at, nbytes))
            if error:
                return i
    return count


cdef bint empty_halves(HeapState* h, int which, bint registered) noexcept nogil:
    """Drops every page of one half of each space.  False: not all that is `registered`."""
    cdef bint done = empty_half(h.base, which, h.half_bytes, registered)
    cdef int i
    for i in range(LARGE_SPACES):
        if not empty_half(h.large[i].base, which, h.large[i].half_bytes, registered):
            done = False
    return done


cdef void register_phase(HeapState* h) noexcept nogil:
    """Registers the planned ranges, and empties them: a stray read installed a page that MOVE would
    refuse to replace, and on which no mutator would fault.  After REGISTER, no new one can come.

    Where the kernel refuses either (ENOMEM: the process has vm.max_map_count mappings and the
    range would split one), this cycle relocates inside the coming pause, which needs no mapping.
    """
    cdef int done
    ensure_handler(h)
    done = each_range(h, True, SPACES)
    if done == SPACES and empty_halves(h, 1 - h.current, True):
        failpoint(FP_REGISTER_DONE)
        return
    failpoint(FP_REGISTER_REFUSED)
    each_range(h, False, done)
    h.r.backend = BACKEND_STW
    add64_relaxed(&h.register_refusals, 1)


cdef void flip(HeapState* h, Cycle* c) noexcept nogil:
    """Inside a pause: from here on nobody but a unit's owner knows a from-space address (I1)."""
    cdef uint64_t top = load64_relaxed(&h.top)
    cdef uint64_t black = load64_relaxed(&h.used) - c.used_at_tams
    failpoint(FP_FLIP_BEFORE)
    retire_all(h)
    c.record.used_relocate_start = load64_relaxed(&h.used)
    h.r.from_bytes = top
    h.r.units = h.r.slid_units + ((top - h.r.tams_bytes) >> h.unit_shift)
    flip_large(h)
    rewrite_roots(h, &c.ahead)
    forward_non_strong(h, False)
    store32_relaxed(&h.current, 1 - h.current)
    store32_relaxed(&h.flips, h.flips + 1)
    # Allocation goes on above everything registered; the gap is only virtual.
    store64_relaxed(&h.top, h.r.registered_bytes)
    store64_relaxed(&h.alloc_limit, h.half_bytes)
    store64_relaxed(&h.used, c.live_bytes + black)
    store64_relaxed(&h.live_bytes, c.live_bytes)
    c.record.black_bytes = black
    c.record.dense_bytes = h.r.dense_units << h.unit_shift
    c.record.wasted_bytes = h.r.wasted_words * WORD
    store64_relaxed(&h.wasted_bytes, c.record.wasted_bytes)
    c.record.collected_bytes = c.used_at_tams - min(c.used_at_tams, c.live_bytes)
    # Release: the fault path reads the phase before `r`.
    store32_release(&h.phase, PHASE_RELOCATE)
    end_map(h)
    tell(h, EVENT_FLIPPED, &c.pause)


cdef void relocate_phase(HeapState* h, Cycle* c) noexcept nogil:
    cdef uint64_t started = clock_ns()
    compact_large(h)
    compact(h)
    failpoint(FP_RELOCATE_DONE)
    if h.verify:
        verify_relocated(h)
    # Before unregistering: a hole's reader that is too late must see that the phase is over.
    store32_release(&h.phase, PHASE_FINISH)
    if h.r.backend != BACKEND_STW:
        failpoint(FP_UNREGISTER_BEFORE)
        each_range(h, False, SPACES)
    if h.backend != BACKEND_STW:
        # Also when REGISTER was refused: some of it was registered for a moment.
        end_faults(h)
    failpoint(FP_UNREGISTER_DONE)
    if h.r.backend != BACKEND_MOVE:
        release_evacuated(h, True)
    empty_halves(h, 1 - h.current, False)
    store64_relaxed(&h.pool_bytes, 0)
    forward_frozen(h)
    failpoint(FP_CYCLE_EMPTIED)
    end_phase(h, c, PHASE_CONCURRENT_RELOCATE, started)
    tell(h, EVENT_RELOCATED, &c.pause)


# ---- the cycle ---------------------------------------------------------------------------

cdef bint worth_relocating(HeapState* h, Cycle* c, bint full) noexcept nogil:
    """A cycle that would win less than a unit does not relocate, unless addresses run short; an
    explicit one always compacts."""
    cdef int i
    if (full or h.stress.always_relocate
            or c.used_at_tams >= c.live_bytes + h.unit_bytes):
        return True
    for i in range(LARGE_SPACES):
        if h.large[i].tams - h.large[i].slid > h.large[i].half_grains // 4:
            return True
    return h.r.tams_bytes - WORD * h.r.slid_words > h.half_bytes // 4


cdef void stay(HeapState* h, Cycle* c) noexcept nogil:
    """Nothing to win: the objects stay where they are.  No flip, so no pause either."""
    failpoint(FP_CYCLE_STAY)
    c.record.used_relocate_start = load64_relaxed(&h.used)
    store64_relaxed(&h.live_bytes, c.live_bytes)
    store64_relaxed(&h.alloc_limit, h.half_bytes)
    store64_relaxed(&h.pool_bytes, 0)
    stay_large(h)


cdef void verify_pause(HeapState* h, Cycle* c, bint relocated) noexcept nogil:
    if h.verify:
        begin_pause(h, c, PAUSE_VERIFY)
        verify_cycle_end(h, relocated)
        end_pause(h, c)


cdef void run_stw(HeapState* h, Cycle* c, bint full) noexcept nogil:
    cdef uint64_t started
    cdef int i
    begin_pause(h, c, PAUSE_FULL)
    store32_release(&h.phase, PHASE_MARK)
    started = clock_ns()
    mark_start(h, c)
    mark_roots(&c.marker)
    mark_held(&c.marker)
    mark_frozen(&c.marker)
    if h.team != NULL:
        trace_together(&c.marker, False)
    trace(&c.marker, <uint64_t>NO_LIMIT)
    mark_end(h, c, 0)
    c.record.mark_ns = clock_ns() - started
    end_phase(h, c, PHASE_CONCURRENT_MARK, started)
    weak_phase(h, c)
    # Nothing is allocated black.  Relaxed: stalled mutators, whom no pause stops, look for room.
    store64_relaxed(&h.alloc_limit, h.r.tams_bytes)
    for i in range(LARGE_SPACES):
        store64_relaxed(&h.large[i].limit, h.large[i].tams)
    plan_phase(h, c, full)
    started = clock_ns()
    flip(h, c)
    failpoint(FP_FLIP_AFTER)
    relocate_phase(h, c)
    c.record.relocate_ns = clock_ns() - started
    c.record.relocated = 1
    add64_relaxed(&h.relocations, 1)
    store32_release(&h.phase, PHASE_IDLE)
    if h.verify:
        verify_cycle_end(h, True)
    end_pause(h, c)
    announce_progress(h)


cdef bint run_concurrent(HeapState* h, Cycle* c, bint full) noexcept nogil:
    """False: abandoned."""
    cdef uint64_t started = clock_ns(), registering
    open_roots(&c.marker, h)
    begin_pause(h, c, PAUSE_MARK_START)
    store32_release(&h.phase, PHASE_MARK)
    mark_start(h, c)
    end_pause(h, c)
    failpoint(FP_MARK_CONCURRENT)
    mark_frozen(&c.marker)
    if not mark_concurrently(h, c):
        abandon(h, &c.marker, &c.pause)
        return False
    c.record.mark_ns = clock_ns() - started
    weak_phase(h, c)
    plan_phase(h, c, full)
    if held(h):                 # from here on a fork waits until everything is relocated
        abandon(h, &c.marker, &c.pause)
        return False
    if not worth_relocating(h, c, full):
        stay(h, c)
        store32_release(&h.phase, PHASE_IDLE)
        announce_progress(h)
        verify_pause(h, c, False)
        return True
    registering = clock_ns()
    register_phase(h)
    forward_ahead(h, &c.ahead)
    end_phase(h, c, PHASE_REGISTER, registering)
    forward_non_strong(h, True)         # a rehearsal
    failpoint(FP_FLIP_AHEAD)
    begin_pause(h, c, PAUSE_RELOCATE_START)
    flip(h, c)
    started = clock_ns()
    if h.r.backend == BACKEND_STW:
        relocate_phase(h, c)
    end_pause(h, c)
    announce_progress(h)
    end_ahead(&c.ahead)
    failpoint(FP_FLIP_AFTER)
    if h.r.backend != BACKEND_STW:
        relocate_phase(h, c)
    c.record.relocate_ns = clock_ns() - started
    c.record.relocated = 1
    add64_relaxed(&h.relocations, 1)
    store32_release(&h.phase, PHASE_IDLE)
    verify_pause(h, c, True)
    return True


cdef void add_totals(CauseTotals* totals, const CycleRecord* record) noexcept nogil:
    add64_relaxed(&totals.cycles, 1)
    add64_relaxed(&totals.relocations, record.relocated)
    add64_relaxed(&totals.collected_bytes, record.collected_bytes)
    add64_relaxed(&totals.cycle_ns, record.cycle_ns)


cdef bint run_cycle(HeapState* h, bint full) noexcept nogil:
    """A whole cycle.  Runs on the collector thread, without the GIL.  False: it was abandoned,
    without effect, because a fork waits."""
    cdef bint done = True
    cdef Cycle c
    memset(&c.record, 0, sizeof(CycleRecord))
    c.stopped = False
    c.record.cpu_ns = thread_cpu_ns()
    c.record.cycle = load64_relaxed(&h.started)
    c.record.start_ns = clock_ns()
    c.record.used_before = load64_relaxed(&h.used)
    c.record.limit_bytes = load64_relaxed(&h.pacing.limit)
    c.record.live_bytes = load64_relaxed(&h.live_bytes)
    c.record.cause = cause_of(h, c.record.cycle)
    c.ahead.old = c.ahead.new = NULL
    c.ahead.count = 0
    c.marker.roots = NULL
    c.marker.root_count = c.marker.root_room = 0
    record_start(h.events, &c.record)
    announce_progress(h)
    failpoint(FP_CYCLE_BEGIN)
    clear_ahead(h, &c)
    end_phase(h, &c, PHASE_RESET, c.record.start_ns)
    if h.backend == BACKEND_STW:
        run_stw(h, &c, full)
    else:
        done = run_concurrent(h, &c, full)
    announce_cleared(h)
    if not done:
        return False
    c.record.live_bytes = c.live_bytes
    c.record.used_after = load64_relaxed(&h.used)
    take_tally(h, &c.record.tally)
    c.record.cpu_ns = thread_cpu_ns() - c.record.cpu_ns
    c.record.cycle_ns = clock_ns() - c.record.start_ns
    c.record.cause = cause_of(h, c.record.cycle)
    add_totals(&h.totals[c.record.cause], &c.record)
    record_cycle(h.events, &c.record)
    return True
