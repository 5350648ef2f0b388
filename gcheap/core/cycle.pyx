"""One collection cycle, phase by phase, on the collector thread.

    concurrent    pause             concurrent   pause         concurrent  pause       concurrent
    ----------  +----------------+  ----------  +-----------+  ---------  +----------+ -----------
    clear marks | Mark Start:    |  Mark:       | Mark End: |  Plan: sums,| Relocate | Relocate:
                | TLABs retired, |  trace, and  | the last  |  units,     | Start,   | build every
                | TAMS, barrier  |  what the    | of the    |  chunks;    | the flip:| unit; un-
                | on, roots      |  barrier logs| log       |  REGISTER   | roots    | register
                +----------------+  ----------  +-----------+  ---------  +----------+ -----------

Mark End never traces for long: when more is left than a fixed budget, mutators go on and so does
concurrent marking.  From Mark Start to the flip mutators allocate black, above TAMS, up to
alloc_limit, which changes only inside pauses: the range to register is known before the flip, and
no mutator can name an address in it before it is registered (I6).  Under stw all of it happens
inside one pause.
"""
from gcheap.core.abandon cimport abandon, held, trace_until_held
from gcheap.core.events cimport record_cycle, record_pause
from gcheap.core.failpoint cimport (
    FP_FLIP_AFTER, FP_FLIP_BEFORE, FP_MARK_BEFORE, FP_MARK_CONCURRENT, FP_PLAN_DONE,
    FP_REGISTER_DONE, FP_RELOCATE_DONE, FP_UNREGISTER_DONE, failpoint)
from gcheap.core.fault cimport ensure_handler
from gcheap.core.layout cimport (
    BACKEND_MOVE, BACKEND_STW, CycleRecord, HeapState, MutatorState, PAUSE_FULL,
    PAUSE_MARK_END, PAUSE_MARK_START, PAUSE_RELOCATE_START, PAUSE_VERIFY, PHASE_FINISH,
    PHASE_IDLE, PHASE_MARK, PHASE_PLAN, PHASE_RELOCATE, PauseRecord, WORD, word)
from gcheap.core.mark cimport (
    Marker, begin_marking, clear_marks, end_marking, mark_logged, mark_roots, trace)
from gcheap.core.native cimport (
    add64_relaxed, check_that, clock_ns, load64_relaxed, store32_relaxed, store32_release,
    store64_relaxed)
from gcheap.core.plan cimport forward, plan
from gcheap.core.relocate cimport compact
from gcheap.core.requests cimport announce_progress
from gcheap.core.roots cimport visit_roots
from gcheap.core.safepoint cimport resume_world, stop_world
from gcheap.core.satb cimport hand_over
from gcheap.core.space cimport empty_half, retire_tlab
from gcheap.core.uffd cimport uffd_register, uffd_unregister
from gcheap.core.units cimport release_evacuated
from gcheap.core.verify cimport verify_graph
from libc.stdint cimport uint64_t

cdef enum:
    PAUSE_BUDGET = 4096         # slots that Mark End traces at most
    NO_LIMIT = -1

cdef struct Cycle:
    CycleRecord record
    Marker marker
    PauseRecord pause
    uint64_t cleared            # bytes whose marks were cleared before the pause
    uint64_t used_at_tams
    uint64_t live_bytes


cdef void retire_all(HeapState* h) noexcept nogil:
    cdef MutatorState* m = h.mutators
    while m != NULL:
        retire_tlab(m)
        m = m.next


cdef void begin_pause(HeapState* h, Cycle* c, int kind) noexcept nogil:
    stop_world(h, &c.pause)
    c.pause.kind = kind
    c.pause.cycle = c.record.cycle


cdef void end_pause(HeapState* h, Cycle* c) noexcept nogil:
    resume_world(h, &c.pause)
    record_pause(h.events, &c.pause)


# ---- the phases --------------------------------------------------------------------------

cdef uint64_t room_for_black(HeapState* h, Cycle* c) noexcept nogil:
    """Bytes that may be allocated black so that to-space still holds the slide beside them."""
    cdef uint64_t slid = min(c.used_at_tams, h.r.tams_bytes) + h.unit_bytes
    cdef uint64_t reserve = 16 * h.tlab_bytes       # to allocate from after the flip
    cdef uint64_t room = h.half_bytes - min(h.half_bytes, slid + reserve)
    return min(room // h.unit_bytes * h.unit_bytes, h.half_bytes - h.r.tams_bytes)


cdef void mark_start(HeapState* h, Cycle* c) noexcept nogil:
    """Inside a pause: the snapshot.  What is reachable now, and what is allocated from now on,
    will be live."""
    failpoint(FP_MARK_BEFORE)
    retire_all(h)
    if h.verify >= 3:
        verify_graph(h, False)
    h.r.from_base = h.base[h.current]
    h.r.to_base = h.base[1 - h.current]
    h.r.backend = h.backend
    h.r.tams_bytes = load64_relaxed(&h.top)
    if h.r.tams_bytes > c.cleared:
        clear_marks(h, c.cleared, h.r.tams_bytes)       # allocated while we cleared
    c.used_at_tams = load64_relaxed(&h.used)
    store64_relaxed(&h.alloc_limit, h.r.tams_bytes + room_for_black(h, c))
    begin_marking(&c.marker, h)
    mark_roots(&c.marker)
    store32_relaxed(&h.marking, 1)


cdef bint mark_end(HeapState* h, Cycle* c) noexcept nogil:
    """Inside a pause: takes the rest of the log.  False: too much is left for a pause."""
    cdef MutatorState* m = h.mutators
    cdef uint64_t budget = h.capacity // 16 + 16 * h.tlab_bytes
    while m != NULL:
        hand_over(m)
        m = m.next
    mark_logged(&c.marker)
    if not trace(&c.marker, PAUSE_BUDGET):
        return False
    store32_relaxed(&h.marking, 0)
    c.live_bytes = c.marker.live_words * WORD
    # Planning takes milliseconds; who runs into this limit waits for the flip.
    store64_relaxed(&h.alloc_limit, min(
        h.alloc_limit, load64_relaxed(&h.top) + budget // h.unit_bytes * h.unit_bytes))
    if h.verify >= 3:
        verify_graph(h, True)
    return True


cdef bint mark_concurrently(HeapState* h, Cycle* c) noexcept nogil:
    """Concurrent Mark and Pause Mark End, as often as it takes.  False: a fork waits."""
    cdef bint done = False
    while not done:
        if not trace_until_held(&c.marker):
            return False
        begin_pause(h, c, PAUSE_MARK_END)
        done = mark_end(h, c)
        end_pause(h, c)
    end_marking(&c.marker)
    return True


cdef void plan_phase(HeapState* h, Cycle* c) noexcept nogil:
    cdef uint64_t started = clock_ns()
    store32_release(&h.phase, PHASE_PLAN)
    plan(h)
    check_that(h.r.slid_words * WORD == c.live_bytes, b"plan and mark disagree (words, bytes)",
               h.r.slid_words, c.live_bytes)
    check_that(h.r.registered_bytes <= h.half_bytes, b"the slide does not fit (bytes, half)",
               h.r.registered_bytes, h.half_bytes)
    c.record.plan_ns = clock_ns() - started
    failpoint(FP_PLAN_DONE)


cdef void register_phase(HeapState* h) noexcept nogil:
    """Registers the planned range.  Where the kernel refuses (ENOMEM: the process has
    vm.max_map_count mappings and the range would split one), this cycle relocates inside the
    coming pause, which needs no mapping."""
    if h.r.registered_bytes == 0:
        return
    ensure_handler(h)
    if uffd_register(h.fd, h.r.to_base, h.r.registered_bytes) != 0:
        h.r.backend = BACKEND_STW
        add64_relaxed(&h.register_refusals, 1)
        return
    # A stray read of the empty half installed a page that MOVE would refuse to replace.
    # After REGISTER, no new one can come.
    empty_half(h, h.r.to_base)
    failpoint(FP_REGISTER_DONE)


cdef word forward_root(void* context, HeapState* h, word value) noexcept nogil:
    return forward(h, value)


cdef void flip(HeapState* h, Cycle* c) noexcept nogil:
    """Inside a pause: from here on nobody but a unit's owner knows a from-space address (I1)."""
    cdef uint64_t top = load64_relaxed(&h.top)
    cdef uint64_t black = load64_relaxed(&h.used) - c.used_at_tams
    failpoint(FP_FLIP_BEFORE)
    retire_all(h)
    h.r.from_bytes = top
    h.r.units = h.r.slid_units + ((top - h.r.tams_bytes) >> h.unit_shift)
    visit_roots(h, forward_root, NULL)
    h.current = 1 - h.current
    # Allocation goes on above everything registered; the gap is only virtual.
    store64_relaxed(&h.top, h.r.registered_bytes)
    store64_relaxed(&h.alloc_limit, h.half_bytes)
    store64_relaxed(&h.used, c.live_bytes + black)
    store64_relaxed(&h.live_bytes, c.live_bytes)
    c.record.black_bytes = black
    # Release: the fault path reads the phase before `r`.
    store32_release(&h.phase, PHASE_RELOCATE)


cdef void relocate_phase(HeapState* h, Cycle* c) noexcept nogil:
    compact(h)
    failpoint(FP_RELOCATE_DONE)
    # Before unregistering: a hole's reader that is too late must see that the phase is over.
    store32_release(&h.phase, PHASE_FINISH)
    if h.r.backend != BACKEND_STW and h.r.registered_bytes:
        check_that(uffd_unregister(h.fd, h.r.to_base, h.r.registered_bytes) == 0,
                   b"to-space cannot be unregistered", h.r.to_base, h.r.registered_bytes)
    failpoint(FP_UNREGISTER_DONE)
    if h.r.backend != BACKEND_MOVE:
        release_evacuated(h, True)
    empty_half(h, h.r.from_base)


# ---- the cycle ---------------------------------------------------------------------------

cdef bint worth_relocating(HeapState* h, bint full) noexcept nogil:
    """A cycle that would win nothing does not relocate; an explicit one always compacts."""
    return full or h.r.slid_units < h.r.tams_bytes >> h.unit_shift


cdef void stay(HeapState* h, Cycle* c) noexcept nogil:
    """Nothing to win: the objects stay where they are.  No flip, so no pause either."""
    store64_relaxed(&h.live_bytes, c.live_bytes)
    store64_relaxed(&h.alloc_limit, h.half_bytes)


cdef void run_stw(HeapState* h, Cycle* c) noexcept nogil:
    cdef uint64_t started
    begin_pause(h, c, PAUSE_FULL)
    store32_release(&h.phase, PHASE_MARK)
    started = clock_ns()
    mark_start(h, c)
    trace(&c.marker, <uint64_t>NO_LIMIT)
    mark_end(h, c)
    end_marking(&c.marker)
    c.record.mark_ns = clock_ns() - started
    h.alloc_limit = h.r.tams_bytes
    plan_phase(h, c)
    started = clock_ns()
    flip(h, c)
    failpoint(FP_FLIP_AFTER)
    relocate_phase(h, c)
    c.record.relocate_ns = clock_ns() - started
    c.record.relocated = 1
    add64_relaxed(&h.relocations, 1)
    store32_release(&h.phase, PHASE_IDLE)
    if h.verify >= 3:
        verify_graph(h, False)
    end_pause(h, c)
    announce_progress(h)


cdef bint run_concurrent(HeapState* h, Cycle* c, bint full) noexcept nogil:
    """False: abandoned."""
    cdef uint64_t started = clock_ns()
    begin_pause(h, c, PAUSE_MARK_START)
    store32_release(&h.phase, PHASE_MARK)
    mark_start(h, c)
    end_pause(h, c)
    failpoint(FP_MARK_CONCURRENT)
    if not mark_concurrently(h, c):
        abandon(h, &c.marker, &c.pause)
        return False
    c.record.mark_ns = clock_ns() - started
    plan_phase(h, c)
    if held(h):                 # from here on a fork waits until everything is relocated
        abandon(h, &c.marker, &c.pause)
        return False
    if not worth_relocating(h, full):
        stay(h, c)
        store32_release(&h.phase, PHASE_IDLE)
        announce_progress(h)
        return True
    register_phase(h)
    begin_pause(h, c, PAUSE_RELOCATE_START)
    flip(h, c)
    started = clock_ns()
    if h.r.backend == BACKEND_STW:
        relocate_phase(h, c)
    end_pause(h, c)
    announce_progress(h)
    failpoint(FP_FLIP_AFTER)
    if h.r.backend != BACKEND_STW:
        relocate_phase(h, c)
    c.record.relocate_ns = clock_ns() - started
    c.record.relocated = 1
    add64_relaxed(&h.relocations, 1)
    store32_release(&h.phase, PHASE_IDLE)
    if h.verify >= 3:
        begin_pause(h, c, PAUSE_VERIFY)
        verify_graph(h, False)
        end_pause(h, c)
    return True


cdef bint run_cycle(HeapState* h, bint full) noexcept nogil:
    """A whole cycle.  Runs on the collector thread, without the GIL.  False: it was abandoned,
    without effect, because a fork waits."""
    cdef Cycle c
    c.record.cycle = load64_relaxed(&h.started)
    c.record.start_ns = clock_ns()
    c.record.used_before = load64_relaxed(&h.used)
    c.record.relocate_ns = c.record.relocated = c.record.black_bytes = 0
    c.cleared = load64_relaxed(&h.top)
    clear_marks(h, 0, c.cleared)
    if h.backend == BACKEND_STW:
        run_stw(h, &c)
    elif not run_concurrent(h, &c, full):
        return False
    c.record.live_bytes = c.live_bytes
    c.record.cycle_ns = clock_ns() - c.record.start_ns
    record_cycle(h.events, &c.record)
    return True
