"""Hooks for tests: parts of the core on made-up input.  Not part of the public interface."""
from gcheap._fastpath cimport gc_alloc, gc_enter, gc_leave, gc_load, gc_pop, gc_push
from gcheap.core.events cimport hist_record, hist_upper, new_histogram
from gcheap.core.failpoint cimport FP_MUTATOR_RUNNING, failpoint, release_stopped
from gcheap.core.fork cimport fork_waiting
from gcheap.core.layout cimport (
    BLOCK_BYTES, Block, HANDLE_DROPPED, HeapState, MutatorState, NO_START, PLACING, POLICY_FACTOR,
    POLICY_FIXED, POLICY_MEMBALANCER, Pacing, RUNNING, SHAPE_FIXED, ShapeInfo, UnitPlan, WORD, word)
from gcheap.core.mark cimport set_live
from gcheap.core.native cimport (
    add32_seq, check_that, load32_seq, load64_relaxed, load64_seq, sleep_ns, store32_seq)
from gcheap.core.objects cimport header_of_shape, shape_of_header
from gcheap.core.pacing cimport next_goal, next_limit, policy_limit
from gcheap.core.plan cimport forward, plan
from gcheap.core.queries cimport freeze_reachable
from gcheap.core.records cimport CAUSE_EXPLICIT, HISTOGRAM_SLOTS, Histogram
from gcheap.core.requests cimport request_cycle
from gcheap.core.roots cimport handle_link, handle_value
from gcheap.core.safepoint cimport enter_running, leave_running, set_name
from gcheap.face.ref cimport Ref
from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from posix.unistd cimport _exit, fork


def read_words(uintptr_t mutator, index, uint64_t count):
    """The first `count` words of an object (header first), read without the GIL.

    mutator   Mutator.native() of the calling thread
    index     `Ref` of the object

    A failpoint may stop the thread inside the fault that this read takes, and the interpreter
    goes on meanwhile.
    """
    cdef MutatorState* m = <MutatorState*>mutator
    cdef uint32_t handle = (<Ref>index).handle
    cdef word* copy = <word*>calloc(count, WORD)
    cdef word* source
    cdef uint64_t i
    with nogil:
        enter_running(m)
        source = <word*>handle_value(m.heap, handle)[0]
        for i in range(count):
            copy[i] = source[i]
        leave_running(m)
    words = [copy[i] for i in range(count)]
    free(copy)
    return words


def named(bytes name):
    """The name that a mutator attached natively as `name` has in reports."""
    cdef MutatorState m
    memset(&m, 0, sizeof(m))
    set_name(&m, name)
    return m.name


def stay_running(uintptr_t mutator):
    """Passes the failpoint "mutator.running" while RUNNING, as code does that never polls.

    mutator   Mutator.native() of the calling thread
    """
    cdef MutatorState* m = <MutatorState*>mutator
    with nogil:
        enter_running(m)
        failpoint(FP_MUTATOR_RUNNING)
        leave_running(m)


def slow_safepoints(uintptr_t mutator):
    """Heap.stats().slow_safepoints of a mutator's heap, also while a pause waits for somebody."""
    return load64_relaxed(&(<MutatorState*>mutator).heap.slow_safepoints)


def cycle_due(uintptr_t mutator):
    """Whether a cycle of a mutator's heap was asked for and has not ended."""
    cdef HeapState* h = (<MutatorState*>mutator).heap
    return load64_seq(&h.requested) > load64_seq(&h.finished)


def enter_slowly(uintptr_t mutator, uint64_t times, uint64_t ns):
    """Enters the heap and leaves it, as a thread does that loses its processor for `ns` whenever it
    has said RUNNING and not looked yet whether a pause is on, and again when it has left.

    mutator   Mutator.native() of the calling thread
    """
    cdef MutatorState* m = <MutatorState*>mutator
    cdef uint64_t i
    with nogil:
        for i in range(times):
            store32_seq(&m.run, RUNNING)
            sleep_ns(ns)
            enter_running(m)
            leave_running(m)
            sleep_ns(ns)


def corrupt(uintptr_t mutator, str what):
    """Plants one wrong thing in the state of a mutator's heap, for a check to find.

    mutator   Mutator.native() of any thread; the collector is held at a failpoint, after which
              the thing is not computed anew
    what      "live", "moved", "handle"               at any point after the flip
              "reader", "sum", "unit", "range"        after planning
              "state", "straddle"                     after relocation
              "mark"                                  during marking
    """
    cdef HeapState* h = (<MutatorState*>mutator).heap
    cdef uint32_t chain = (<MutatorState*>mutator).handle_free
    cdef uint64_t i = 0
    if what == "live":
        h.live_bytes = h.used + WORD
    elif what == "moved":
        h.moved_bytes += h.page
    elif what == "handle":
        handle_link(h, chain)[0] = HANDLE_DROPPED | chain
    elif what == "reader":
        while h.readers[i] == 0:
            i += 1
        h.readers[i] += 1
    elif what == "sum":
        h.blocks[1].before += 1
    elif what == "unit":
        h.plan[0].first += 1
    elif what == "range":
        h.r.registered_bytes += h.unit_bytes
    elif what == "state":
        h.states[0] = PLACING
    elif what == "straddle":
        h.plan[0].straddle.words = h.unit_words + 1
    elif what == "mark":
        # The last word below TAMS: what a retired TLAB did not use.
        h.blocks[h.r.tams_bytes // BLOCK_BYTES - 1].live |= <uint64_t>1 << 63
    else:
        raise ValueError(what)


def push_root(uintptr_t mutator, index):
    """Makes the object of a Ref a root of the calling thread's shadow stack as well."""
    cdef MutatorState* m = <MutatorState*>mutator
    cdef uint32_t handle = (<Ref>index).handle
    cdef word* frame
    enter_running(m)
    frame = gc_push(m, 1)
    frame[0] = handle_value(m.heap, handle)[0]
    leave_running(m)


def pop_root(uintptr_t mutator):
    """Undoes the last push_root of the calling thread."""
    cdef MutatorState* m = <MutatorState*>mutator
    enter_running(m)
    gc_pop(m, 1)
    leave_running(m)


def while_running(uintptr_t mutator, function):
    """Calls `function` in the middle of a running stretch, against the rules."""
    cdef MutatorState* m = <MutatorState*>mutator
    enter_running(m)
    try:
        return function()
    finally:
        leave_running(m)


def freeze_now(index):
    """Freezes what is reachable in the heap of a Ref, without collecting first; how many."""
    cdef HeapState* h = (<Ref>index).core.h
    cdef uint64_t count = 0
    cdef int error
    with nogil:
        error = freeze_reachable(h, &count)
    assert error == 0
    return count


cdef uint32_t forks_awaited = 0


cdef void await_fork() noexcept nogil:
    add32_seq(&forks_awaited, 1)
    while not fork_waiting():
        sleep_ns(100000)


def awaited_forks():
    """How many calls have ever waited for a fork here: one more, and that thread needs no GIL."""
    return load32_seq(&forks_awaited)


def release_while_forking(indexes):
    """Waits, without the GIL, until a fork has barred new cycles; then releases failpoints.

    The thread that forks holds the GIL until the world stands still, so that no Python thread
    could release what it waits for.
    """
    cdef uint32_t names[8]
    cdef int i, n = len(indexes)
    for i in range(n):
        names[i] = indexes[i]
    with nogil:
        await_fork()
        for i in range(n):
            release_stopped(names[i])


def request_while_forking(uintptr_t mutator):
    """Waits, without the GIL, until a fork has barred new cycles; then asks for one."""
    cdef MutatorState* m = <MutatorState*>mutator
    with nogil:
        await_fork()
        request_cycle(m.heap, CAUSE_EXPLICIT)


def fork_running(uintptr_t mutator, Ref head, uint64_t nodes, uint64_t cycles):
    """C's fork() by a RUNNING mutator, whose only root of a list is on its shadow stack.

    head     first of `nodes` objects linked by their first slot
    cycles   how many the child waits for, allocating, before it walks the list again

    Returns the child's id.  The child exits with 0 when both walks counted `nodes`; the parent
    aborts when its own did not.
    """
    cdef MutatorState* m = <MutatorState*>mutator
    cdef uint32_t handle = head.handle, shape
    cdef uint64_t until
    cdef word* frame
    cdef int child
    with nogil:
        gc_enter(m)
        frame = gc_push(m, 1)
        frame[0] = handle_value(m.heap, handle)[0]
        child = fork()
        check_that(count_list(frame[0]) == nodes, b"a list is not whole after fork (pid)", child, 0)
        if child == 0:
            shape = shape_of_header((<word*>frame[0])[0])
            until = load64_seq(&m.heap.finished) + cycles
            while load64_seq(&m.heap.finished) < until:
                check_that(gc_alloc(m, shape) != 0, b"a forked child has no room", 0, 0)
            check_that(count_list(frame[0]) == nodes, b"a list is not whole in the child", 0, 0)
            _exit(0)
        gc_pop(m, 1)
        gc_leave(m)
    return child


cdef uint64_t count_list(word node) noexcept nogil:
    cdef uint64_t n = 0
    while node:
        n += 1
        node = gc_load(node, 0)
    return n


def histogram(values):
    """[(upper edge, count), …] of the non-empty buckets after recording `values`."""
    cdef Histogram* h = new_histogram()
    cdef uint64_t i
    for value in values:
        hist_record(h, value)
    rows = [(hist_upper(i), h.counts[i]) for i in range(HISTOGRAM_SLOTS) if h.counts[i]]
    assert h.count == len(values) and h.total == sum(values) and h.max == max(values, default=0)
    free(h)
    return rows


def plan_bitmap(starts, sizes, uint64_t unit_words, slots=None):
    """Lays out live objects in a synthetic from-space and plans its slide.

    starts, sizes   word offset and words (at least 2) of each object, ascending, disjoint
    unit_words      words of a unit, a power of two, at least 64
    slots           slots of each object (default 0), less than its size

    Returns {"forward": to-space word of each object, "units": [(first, straddle words, skip,
    slots)], "readers": count per chunk, "slid_words": n}.
    """
    cdef HeapState* h = <HeapState*>calloc(1, sizeof(HeapState))
    cdef uint64_t n = len(starts), i, words, units, blocks
    cdef word* space
    cdef ShapeInfo* s
    slots = [0] * len(starts) if slots is None else slots
    words = max([0] + [a + b for a, b in zip(starts, sizes)])
    words = max(1, (words + unit_words - 1) // unit_words) * unit_words
    units = words // unit_words
    blocks = words // 64 + 1
    space = <word*>calloc(words, WORD)
    h.unit_words = unit_words
    h.unit_bytes = unit_words * WORD
    h.unit_shift = h.unit_bytes.bit_length() - 1
    h.blocks = <Block*>calloc(blocks, sizeof(Block))
    h.plan = <UnitPlan*>calloc(units + 1, sizeof(UnitPlan))
    h.states = <uint8_t*>calloc(units + 1, 1)
    h.placed_by = <uint8_t*>calloc(units + 1, 1)
    h.chunk_states = <uint8_t*>calloc(units + 1, 1)
    h.readers = <uint32_t*>calloc(units + 1, sizeof(uint32_t))
    h.shapes = <ShapeInfo*>calloc(n + 1, sizeof(ShapeInfo))
    try:
        for i in range(blocks):
            h.blocks[i].first_start = NO_START
        for i in range(n):
            s = &h.shapes[i + 1]
            s.kind = SHAPE_FIXED
            s.bytes = <uint64_t>sizes[i] * WORD
            s.refs = slots[i]
            space[<uint64_t>starts[i]] = header_of_shape(i + 1)
            set_live(h.blocks, starts[i], sizes[i])
        h.r.from_base = <word>space
        h.r.from_bytes = h.r.tams_bytes = h.alloc_limit = words * WORD
        plan(h, True)
        return {
            "forward": [(forward(h, <word>(space + <uint64_t>start)) - h.r.to_base) // WORD
                        for start in starts],
            "units": [(h.plan[i].first, h.plan[i].straddle.words, h.plan[i].straddle.skip,
                       h.plan[i].straddle.slots) for i in range(h.r.slid_units)],
            "readers": [h.readers[i] for i in range(h.r.chunks)],
            "slid_words": h.r.slid_words,
        }
    finally:
        free(space)
        free(h.blocks)
        free(h.plan)
        free(h.states)
        free(h.placed_by)
        free(h.chunk_states)
        free(h.readers)
        free(h.shapes)
        free(h)


def limit_of(policy, uint64_t live, uint64_t capacity, double allocation=0, double collection=0):
    """The limit that a policy of gcheap.policy wants, for measured speeds in bytes a second."""
    cdef Pacing p
    memset(&p, 0, sizeof(p))
    p.policy = {"fixed": POLICY_FIXED, "factor": POLICY_FACTOR,
                "membalancer": POLICY_MEMBALANCER}[policy.name]
    p.factor = getattr(policy, "factor", 0.0)
    p.c = getattr(policy, "c", 0.0)
    p.minimum = getattr(policy, "minimum", 0)
    p.allocated_bytes, p.allocated_seconds = allocation * 3, 3
    p.marked_bytes, p.marked_seconds = collection * 2, 2
    return policy_limit(&p, live, capacity)


def following_limit(uint64_t limit, uint64_t wanted, bint at_once):
    """The limit after `limit` when the policy wants `wanted`."""
    return next_limit(limit, wanted, at_once)


def goal_of(uint64_t live, uint64_t used, uint64_t limit, uint64_t capacity, uint64_t need):
    """The used bytes at which a cycle starts."""
    return next_goal(live, used, limit, capacity, need)
