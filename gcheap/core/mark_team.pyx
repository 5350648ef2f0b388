"""Marking by several threads: option `mark_threads`.

The **team** is the collector and up to mark_threads - 1 threads "gcheap-mark", which are started
when a marking is first worth it, sleep between markings, and end when the heap does.  Each
**member** has a Marker of its own: a mark stack, a queue, and sums.  A member traces from its own
stack alone, as if there were no other.  Who has run out of entries is *wanted* to be given some: a
member that has two or more looks at that between two slices of its work, and gives the older half
of its stack away, in a **parcel**.  Older entries lead further.  So nothing is shared while
everybody is busy, and no step of the tracing itself costs more than that an object's mark is won
atomically (`win_live` of mark.pxd).

                    out of entries              takes a parcel
      TRACING ------------------------> WAITING ---------------> TRACING
         |  ^                              |
         |  | gives a parcel               |  everybody waits, no parcel is left: the collector
         +--+  (needs: wanted > 0)         +----> returns; the others stay, asleep

    waiting     members that wait.  The collector is not among them while it does anything else
                than to wait here: while it reads the log, in pauses, between cycles
    parcels     that were given and not taken.  At most `waiting`, so that as many places suffice
    wanted      waiting - parcels

Who owns what.  An entry is on the stack, or in the queue, of one member, or in one parcel.  The
transitions are critical sections of `lock`; each is made by the member itself.  Memory orders: the
lock's acquire and release hand over the entries of a parcel, the sums of a member, and every mark
that it has set.  Two words are read without it.  `wanted` (relaxed) says whether it is worth to
take the lock, and is looked at again under it.  `stop` (relaxed) is seen late at worst.

*Termination.*  (a) A member that counts as waiting has no entries: it counts itself only when its
stack and queue are empty, and what gives it entries ends its waiting in the same critical section.
(b) Only a member that does not wait makes a parcel.  Hence when waiting = members and parcels = 0
is seen under the lock, no entry exists anywhere, and none can come to exist but by the collector,
which alone reads roots and logs.  As every member has left its own last critical section before,
the collector also sees all that they have marked.  A thread that was only just created counts as a
member that does not wait, until it has come here.

*Nobody sleeps for good.*  A waiting member reads `event` under the lock, and sleeps while that is
what it was.  Whoever makes a parcel, or is the last to wait, changes it under the lock.  Then he
looks whether anybody sleeps, and wakes; a sleeper announces himself before the kernel compares,
and both accesses are sequentially consistent, so one of them sees the other.  A parcel wakes one
sleeper, who may find that it was taken by somebody who had not slept yet.  That nobody but its
giver may be awake does no harm: he takes it back when he runs out.

*Ends early.*  When a fork waits, the first member that sees it between two slices says stop.
Everybody drops his entries then, those of a parcel that he takes as well, and comes to wait: the
collector returns when all have.  A slice is bounded, large slot arrays being traced by the grain,
so this is prompt.

*Who may wait for whom.*  The threads are RUNNING in no heap and need no GIL; the lock is held for
one parcel.  They take a weak table's shard lock for a chain, as the collector does.  No pause
waits for them: during Pause Mark End, and whenever the collector traces alone, they sleep.  A fork
finds them waiting, perhaps with the lock in their hands; the child has no such threads, and
forgets all of it.

*Without a thread or memory* for its stack, marking goes on with those there are.  A stack has
address space for as many entries as there can be objects, as the collector's has, so none can
overflow: an object is pushed by the one that won it, and is on one stack at a time.

Sources: work lists that are private but for what others ask for, Acar, Charguéraud, Rainey:
"Scheduling Parallel Programs by Work Stealing with Private Deques" (PPoPP 2013); splitting of
large arrays and marks set by compare-and-swap, Flood, Detlefs, Shavit, Zhang: "Parallel Garbage
Collection for Shared Memory Multiprocessors" (JVM 2001).
"""
from gcheap.core.failpoint cimport (
    FP_MARKER_DONE, FP_MARKER_GIVE, FP_MARKER_IDLE, FP_MARKER_SLEEP, FP_MARKER_STOP,
    FP_MARKER_TAKEN, FP_THREAD_MARKER, failpoint)
from gcheap.core.layout cimport HeapState, MAX_SHAPES, ShapeTotal, WORD, word
from gcheap.core.mapping cimport map_memory, unmap_memory
from gcheap.core.mark cimport Marker, empty_queue, give_back_stack, trace, trace_slice
from gcheap.core.native cimport (
    add32_seq, add64_relaxed, check_that, cpu_relax, futex_wait, futex_wake_all, futex_wake_one,
    load32_acquire, load32_relaxed, load32_seq, load64_relaxed, mutex_lock, mutex_unlock,
    store32_relaxed, store64_relaxed, sub32_seq)
from gcheap.core.space cimport resident_in
from gcheap.core.threads cimport join_thread, start_thread
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from posix.mman cimport MADV_DONTNEED, madvise

cdef enum:
    ALONE = 4096                # slots that the collector traces before it asks anybody else
    SLICE = 1024                # slots between two looks at who waits
    SPINS = 200                 # looks at `event` before a sleep: a few microseconds
    KEEP_STACK = 1 << 16        # bytes of each other stack that stay resident


cdef inline MarkTeam* team_of(HeapState* h) noexcept nogil:
    return <MarkTeam*>h.team


# ---- under the lock ------------------------------------------------------------------------

cdef inline void count_wanted(MarkTeam* t) noexcept nogil:
    store32_relaxed(&t.wanted, t.waiting - t.parcels)


cdef inline bint at_rest(MarkTeam* t) noexcept nogil:
    return t.waiting == t.members and t.parcels == 0


cdef void take(MarkTeam* t, Marker* k) noexcept nogil:
    """Moves the entries of a parcel to the empty stack of a member, which waits no more."""
    cdef Parcel* parcel
    t.parcels -= 1
    parcel = &t.parcel[t.parcels]
    memcpy(k.stack, parcel.entry, parcel.count * sizeof(word))
    k.sp = k.stack + parcel.count
    t.waiting -= 1
    count_wanted(t)


# ---- a member at work ------------------------------------------------------------------------

cdef void wake(MarkTeam* t, bint all_of_them) noexcept nogil:
    """`event` was changed.  Sequentially consistent, as in sleep_on: a thread that is not seen here
    has yet to compare it."""
    if load32_seq(&t.sleepers):
        if all_of_them:
            futex_wake_all(&t.event)
        else:
            futex_wake_one(&t.event)


cdef void sleep_on(MarkTeam* t, uint32_t seen) noexcept nogil:
    """Until `event` is not `seen` any more; may return early."""
    cdef int spins = SPINS
    while spins:
        if load32_acquire(&t.event) != seen:
            return
        cpu_relax()
        spins -= 1
    add32_seq(&t.sleepers, 1)
    if failpoint(FP_MARKER_SLEEP) == 0:
        futex_wait(&t.event, seen, 0)
    sub32_seq(&t.sleepers, 1)


cdef void give(MarkTeam* t, Marker* k) noexcept nogil:
    """Gives the older half of a member's entries to one that has none."""
    cdef uint64_t count = min(<uint64_t>(k.sp - k.stack) // 2, <uint64_t>PARCEL)
    cdef Parcel* parcel
    cdef bint given = False
    failpoint(FP_MARKER_GIVE)
    mutex_lock(&t.lock)
    if t.waiting > t.parcels:
        parcel = &t.parcel[t.parcels]
        parcel.count = count
        memcpy(parcel.entry, k.stack, count * sizeof(word))
        k.sp -= count
        memcpy(k.stack, k.sp, count * sizeof(word))     # the youngest fill the gap
        t.parcels += 1
        count_wanted(t)
        add32_seq(&t.event, 1)
        given = True
    mutex_unlock(&t.lock)
    if given:
        wake(t, False)


cdef void call_off(MarkTeam* t, Marker* k) noexcept nogil:
    """A fork waits: a member drops its entries, and has the others do the same."""
    failpoint(FP_MARKER_STOP)
    store32_relaxed(&t.stop, 1)
    k.sp = k.stack
    k.tail = k.head


cdef inline bint fork_waits(HeapState* h) noexcept nogil:
    return load32_relaxed(&h.hold) != 0


cdef void trace_own(MarkTeam* t, Marker* k) noexcept nogil:
    """Traces until the member has no entries."""
    while True:
        if load32_relaxed(&t.stop) or (t.yields and fork_waits(k.heap)):
            call_off(t, k)
            return
        if load32_relaxed(&t.wanted):
            empty_queue(k)      # where long lists go from node to node
            if k.sp - k.stack >= 2:
                give(t, k)
        if trace_slice(k, SLICE):
            return


cdef bint await_parcel(MarkTeam* t, Marker* k, bint collector) noexcept nogil:
    """Waits, without entries, until there are some.  False: for the collector, that nobody has any;
    for others, that the thread is to end."""
    cdef uint32_t seen
    cdef bint last
    failpoint(FP_MARKER_IDLE)
    mutex_lock(&t.lock)
    t.waiting += 1
    count_wanted(t)
    last = at_rest(t)
    if last:
        add32_seq(&t.event, 1)
    while True:
        if t.parcels:
            take(t, k)
            mutex_unlock(&t.lock)
            failpoint(FP_MARKER_TAKEN)
            return True
        if collector and at_rest(t):
            t.waiting -= 1
            count_wanted(t)
            mutex_unlock(&t.lock)
            failpoint(FP_MARKER_DONE)
            return False
        if t.end and not collector:
            mutex_unlock(&t.lock)
            return False
        seen = t.event
        mutex_unlock(&t.lock)
        if last:
            wake(t, True)       # the collector, among others
            last = False
        sleep_on(t, seen)
        mutex_lock(&t.lock)


cdef void* member_main(void* argument) noexcept nogil:
    cdef Member* m = <Member*>argument
    while await_parcel(m.team, &m.marker, False):
        trace_own(m.team, &m.marker)
    return NULL


# ---- the collector ---------------------------------------------------------------------------

cdef inline uint64_t stack_bytes(HeapState* h) noexcept nogil:
    return h.half_bytes // 2    # as HeapState.mark_stack, whole pages


cdef inline uint64_t member_bytes(HeapState* h) noexcept nogil:
    return stack_bytes(h) + MAX_SHAPES * sizeof(ShapeTotal)


cdef void brief(Member* m, Marker* k) noexcept nogil:
    """Readies a member for the marking that `k` has begun.  It waits, or does not run."""
    cdef HeapState* h = k.heap
    m.marker.heap = h
    m.marker.base = k.base
    m.marker.limit = k.limit
    m.marker.shared = True
    m.marker.stack = m.marker.sp = m.marker.deepest = <word*>m.memory
    m.marker.live_words = m.marker.large_bytes = m.marker.head = m.marker.tail = 0
    # All zero, by gather_marks.
    m.marker.count = NULL if k.count == NULL else <ShapeTotal*>(m.memory + stack_bytes(h))


cdef bint add_member(MarkTeam* t, Marker* k) noexcept nogil:
    """Starts one more thread.  False: there is no memory or thread to be had now."""
    cdef Member* m = &t.member[t.members - 1]
    cdef int error
    if m.memory == 0:
        store64_relaxed(&m.memory, map_memory(member_bytes(t.heap), True))
        if m.memory == 0:
            return False
    m.team = t
    brief(m, k)
    mutex_lock(&t.lock)
    store32_relaxed(&t.members, t.members + 1)      # before it runs: it does not wait yet
    mutex_unlock(&t.lock)
    error = <int>failpoint(FP_THREAD_MARKER)
    if error == 0:
        error = start_thread(&m.thread, b"gcheap-mark", member_main, m)
    if error:
        mutex_lock(&t.lock)
        store32_relaxed(&t.members, t.members - 1)
        mutex_unlock(&t.lock)
    return error == 0


cdef void open_team(MarkTeam* t, Marker* k) noexcept nogil:
    """From now on, until it ends, this marking is everybody's."""
    cdef uint32_t i
    mutex_lock(&t.lock)
    check_that(t.waiting == t.members - 1 and t.parcels == 0,
               b"a marking begins while threads are still at another (waiting, members)",
               t.waiting, t.members)
    for i in range(t.members - 1):
        brief(&t.member[i], k)
    mutex_unlock(&t.lock)
    k.shared = True
    while t.members < t.most and add_member(t, k):
        pass


cdef bint trace_together(Marker* k, bint yields) noexcept nogil:
    """Traces all that there is to trace.  Collector thread; with one thread, or a little to trace,
    it does so alone.  False: a fork waits (with `yields`), and the marking is to be abandoned."""
    cdef MarkTeam* t = team_of(k.heap)
    if not k.shared:
        if trace(k, ALONE):
            return True
        open_team(t, k)
    mutex_lock(&t.lock)
    t.yields = yields
    store32_relaxed(&t.stop, 0)
    mutex_unlock(&t.lock)
    trace_own(t, k)
    while await_parcel(t, k, True):
        trace_own(t, k)
    return load32_relaxed(&t.stop) == 0     # who stored it has come to wait since, by the lock


cdef void gather_marks(Marker* k) noexcept nogil:
    """Marking ends: adds what others have marked to the collector's sums."""
    cdef HeapState* h = k.heap
    cdef MarkTeam* t = team_of(h)
    cdef Marker* other
    cdef uint32_t i, shape, shapes = load32_acquire(&h.shape_count)
    if not k.shared:
        return
    for i in range(t.members - 1):
        other = &t.member[i].marker
        k.live_words += other.live_words
        k.large_bytes += other.large_bytes
        add64_relaxed(&t.marked_bytes, other.live_words * WORD + other.large_bytes)
        if other.count != NULL:
            for shape in range(shapes):
                k.count[shape].bytes += other.count[shape].bytes
                k.count[shape].objects += other.count[shape].objects
            # Zero for the next survey.  Locked memory (mlockall) cannot be dropped.
            if madvise(other.count, MAX_SHAPES * sizeof(ShapeTotal), MADV_DONTNEED) != 0:
                memset(other.count, 0, shapes * sizeof(ShapeTotal))
        give_back_stack(other, KEEP_STACK)


# ---- the team's life ---------------------------------------------------------------------------

cdef bint new_team(HeapState* h, uint32_t threads) noexcept nogil:
    """A team of the collector alone, which may grow to `threads`; release_heap frees it."""
    cdef uint64_t members = sizeof(Member) * (threads - 1)
    cdef MarkTeam* t = <MarkTeam*>calloc(1, sizeof(MarkTeam) + members + sizeof(Parcel) * threads)
    if t == NULL:
        return False
    t.heap = h
    t.most = threads
    t.members = 1
    t.member = <Member*>(t + 1)
    t.parcel = <Parcel*>(<word>t.member + members)
    h.team = t
    return True


cdef void stop_team(HeapState* h) noexcept nogil:
    """Ends the threads, and joins them.  The collector has ended."""
    cdef MarkTeam* t = team_of(h)
    cdef uint32_t i
    if t == NULL:
        return
    mutex_lock(&t.lock)
    t.end = 1
    add32_seq(&t.event, 1)
    mutex_unlock(&t.lock)
    wake(t, True)
    for i in range(t.members - 1):
        join_thread(&t.member[i].thread)
    forget_team(h)


cdef void forget_team(HeapState* h) noexcept nogil:
    """Lets go of threads that have ended, or that a forked child does not have."""
    cdef MarkTeam* t = team_of(h)
    cdef uint32_t i
    if t == NULL:
        return
    for i in range(t.most - 1):
        t.member[i].thread = 0
        if t.member[i].memory:
            unmap_memory(t.member[i].memory, member_bytes(h))
            store64_relaxed(&t.member[i].memory, 0)
    store32_relaxed(&t.members, 1)
    t.lock = t.waiting = t.parcels = t.wanted = t.sleepers = t.stop = t.end = 0


cdef uint64_t resident_stacks(HeapState* h) noexcept nogil:
    """Resident bytes of the stacks of all but the collector (mincore)."""
    cdef MarkTeam* t = team_of(h)
    cdef unsigned char* vec
    cdef uint64_t total = 0
    cdef uint32_t i
    cdef word at
    if t == NULL:
        return 0
    vec = <unsigned char*>malloc(64 << 10)
    for i in range(t.most - 1):
        at = load64_relaxed(&t.member[i].memory)
        if vec != NULL and at:
            total += resident_in(at, member_bytes(h), h.page, vec)
    free(vec)
    return total
