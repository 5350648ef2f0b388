"""Guardians: objects that are handed back when nothing else reaches them.

After Dybvig, Bruggeman, Eby, "Guardians in a Generation-Based Garbage Collector" (PLDI 1993).

    FREE --guard, RUNNING--> HELD --find_due--> DUE --publish_due--> READY --guardian_poll--> FREE
                                    collector         collector              RUNNING

A HELD registration holds its object weakly and its agent, if it has one, strongly.  When a cycle
finds the object unreached, the registration is DUE: the object is marked with everything that it
reaches (or nothing is, when an agent is yielded in its place), and only when that is traced
does the registration go into the guardian's queue.  Until then no mutator can name what is being
traced, so this tracing needs no barrier.  All registrations are looked at before the first object
is marked: of two guarded objects that die together, one reaching the other, both are yielded.

The collector marks agents, and what READY registrations yield, at the beginning of concurrent
marking.  That is a snapshot all the same: such a word leaves its guardian only by
`guardian_poll`, which logs it while marking is on, and comes into it only from a mutator's hand,
where it is marked or black already (nonstrong.pyx).

The lock of a guardian is held for one entry by mutators, and for PIECE entries by the collector.
"""
from gcheap.core.layout cimport HeapState, MutatorState, word
from gcheap.core.lockfree cimport push_link
from gcheap.core.mark cimport Marker, mark_object, reached
from gcheap.core.native cimport (
    add32_seq, add64_relaxed, cas64, futex_wake_all, load32_acquire, load32_relaxed,
    load64_acquire, load64_relaxed, mutex_lock, mutex_unlock, store32_relaxed, store32_release,
    store64_release, sub64_relaxed)
from gcheap.core.plan cimport forward
from gcheap.core.satb cimport log_target
from gcheap.core.segments cimport free_segments, make_segment, segment_item
from gcheap.core.weakdata cimport (
    GUARD_DUE, GUARD_FREE, GUARD_HELD, GUARD_READY, GuardEntry, Guardian, WeakState, weak_state)
from gcheap.core.weaktable cimport ValueVisitor
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    PIECE = 256                 # entries that the collector looks at under one lock


cdef inline GuardEntry* entry_at(Guardian* g, uint64_t index) noexcept nogil:
    return <GuardEntry*>segment_item(g.entries, index, sizeof(GuardEntry))


cdef inline word yielded(GuardEntry* e) noexcept nogil:
    return e.agent if e.agent else e.object


# ---- the mutator's side ----------------------------------------------------------------------

cdef Guardian* new_guardian(HeapState* h) noexcept nogil:
    """A guardian without registrations; `drop_guardian` ends it."""
    cdef Guardian* g = <Guardian*>calloc(1, sizeof(Guardian))
    if g != NULL:
        push_link(&weak_state(h).guardians, g, <uint64_t*>&g.next)
    return g


cdef void drop_guardian(Guardian* g) noexcept nogil:
    """Nobody asks it any more: its registrations hold nothing, and a later cycle frees it."""
    store32_release(&g.dropped, 1)


cdef bint guard(MutatorState* m, Guardian* g, word obj, word agent) noexcept nogil:
    """Registers `obj`.  With an agent, that is yielded in its place, and `obj` itself dies."""
    cdef GuardEntry* e
    mutex_lock(&g.lock)
    e = g.free
    if e != NULL:
        g.free = e.next
    elif make_segment(g.entries, g.high, sizeof(GuardEntry)):
        e = entry_at(g, g.high)
        store64_release(&g.high, g.high + 1)
    if e != NULL:
        e.object = obj
        e.agent = agent
        store32_relaxed(&e.state, GUARD_HELD)   # mark_due reads it without the lock
        add64_relaxed(&g.held, 1)
        add64_relaxed(&weak_state(m.heap).guarded, 1)
    mutex_unlock(&g.lock)
    return e != NULL


cdef word guardian_poll(MutatorState* m, Guardian* g) noexcept nogil:
    """Takes the next object, or agent, out of the queue; 0: there is none."""
    cdef GuardEntry* e
    cdef word obj = 0
    if load64_relaxed(&g.ready) == 0:
        return 0
    mutex_lock(&g.lock)
    e = g.first
    if e != NULL:
        g.first = e.next
        if g.first == NULL:
            g.last = NULL
        obj = yielded(e)
        store32_relaxed(&e.state, GUARD_FREE)
        e.next = g.free
        g.free = e
        sub64_relaxed(&g.ready, 1)
    mutex_unlock(&g.lock)
    if obj and load32_relaxed(&m.heap.marking):
        log_target(m, obj)
    return obj


# ---- the collector's side ----------------------------------------------------------------------

cdef void mark_held(Marker* k) noexcept nogil:
    """Marks agents and what waits in queues; traces nothing.  Mutators may run."""
    cdef Guardian* g = <Guardian*>load64_acquire(&weak_state(k.heap).guardians)
    cdef GuardEntry* e
    cdef uint64_t i, high
    while g != NULL:
        high = 0 if load32_acquire(&g.dropped) else load64_acquire(&g.high)
        for i in range(high):
            if i % PIECE == 0:
                mutex_lock(&g.lock)
            e = entry_at(g, i)
            if e.state == GUARD_READY:
                mark_object(k, yielded(e))
            elif e.state == GUARD_HELD and e.agent:
                mark_object(k, e.agent)
            if i % PIECE == PIECE - 1 or i == high - 1:
                mutex_unlock(&g.lock)
        g = g.next


cdef void free_dropped(WeakState* w) noexcept nogil:
    cdef Guardian* g = <Guardian*>load64_acquire(&w.guardians)
    cdef Guardian* before
    cdef Guardian* following
    mutex_lock(&w.guardian_lock)
    while g != NULL:
        following = g.next
        if load32_acquire(&g.dropped):
            if not cas64(&w.guardians, <uint64_t>g, <uint64_t>following):
                before = <Guardian*>load64_acquire(&w.guardians)
                while before.next != g:
                    before = before.next
                before.next = following
            sub64_relaxed(&w.guarded, g.held)
            free_segments(g.entries)
            free(g)
        g = following
    mutex_unlock(&w.guardian_lock)


cdef void read_guarded(HeapState* h, ValueVisitor visit, void* context) noexcept nogil:
    """Visits what guardians keep alive: agents, and what poll() would return.  The caller has
    stopped the world; the collector may be publishing what is due, so entries are looked at
    under their guardian's lock.  A DUE object nobody can name yet; its agent was alive all along,
    and is marked."""
    cdef WeakState* w = weak_state(h)
    cdef Guardian* g
    cdef GuardEntry* e
    cdef uint64_t i
    mutex_lock(&w.guardian_lock)
    g = <Guardian*>load64_acquire(&w.guardians)
    while g != NULL:
        mutex_lock(&g.lock)
        if not load32_acquire(&g.dropped):
            for i in range(g.high):
                e = entry_at(g, i)
                if e.state == GUARD_READY:
                    visit(context, yielded(e))
                elif e.state != GUARD_FREE and e.agent:
                    visit(context, e.agent)
        mutex_unlock(&g.lock)
        g = g.next
    mutex_unlock(&w.guardian_lock)


cdef void find_due(HeapState* h) noexcept nogil:
    """Which registrations' objects marking did not reach.  Mutators may run: they register only
    objects that it did."""
    cdef WeakState* w = weak_state(h)
    cdef Guardian* g
    cdef GuardEntry* e
    cdef uint64_t i, high
    free_dropped(w)
    g = <Guardian*>load64_acquire(&w.guardians)
    while g != NULL:
        high = load64_acquire(&g.high)
        for i in range(high):
            if i % PIECE == 0:
                mutex_lock(&g.lock)
            e = entry_at(g, i)
            if e.state == GUARD_HELD and not reached(h, e.object):
                e.state = GUARD_DUE
            if i % PIECE == PIECE - 1 or i == high - 1:
                mutex_unlock(&g.lock)
        g = g.next


cdef void mark_due(Marker* k) noexcept nogil:
    """Marks what DUE registrations yield; traces nothing.  Needs no lock: nobody else touches a
    DUE entry, and only the collector makes one."""
    cdef Guardian* g = <Guardian*>load64_acquire(&weak_state(k.heap).guardians)
    cdef GuardEntry* e
    cdef uint64_t i
    while g != NULL:
        for i in range(load64_acquire(&g.high)):
            e = entry_at(g, i)
            if load32_relaxed(&e.state) == GUARD_DUE and e.agent == 0:
                mark_object(k, e.object)
        g = g.next


cdef void publish_due(HeapState* h) noexcept nogil:
    """Puts DUE registrations into the queues: what they yield is marked, and traced, by now."""
    cdef WeakState* w = weak_state(h)
    cdef Guardian* g = <Guardian*>load64_acquire(&w.guardians)
    cdef GuardEntry* e
    cdef uint64_t i, high, found
    while g != NULL:
        high = load64_acquire(&g.high)
        found = 0
        for i in range(high):
            if i % PIECE == 0:
                mutex_lock(&g.lock)
            e = entry_at(g, i)
            if e.state == GUARD_DUE:
                e.state = GUARD_READY
                e.next = NULL
                if g.last == NULL:
                    g.first = e
                else:
                    g.last.next = e
                g.last = e
                if e.agent:
                    e.object = 0        # dead; nobody may forward or mark it
                add64_relaxed(&g.ready, 1)
                sub64_relaxed(&g.held, 1)
                found += 1
            if i % PIECE == PIECE - 1 or i == high - 1:
                mutex_unlock(&g.lock)
        if found:
            add64_relaxed(&w.resurrected, found)
            sub64_relaxed(&w.guarded, found)
            add32_seq(&g.event, 1)
            futex_wake_all(&g.event)
        g = g.next


cdef void forward_guardians(HeapState* h, bint rehearse) noexcept nogil:
    """Inside a pause: rewrites every registration through forwarding.  One linear pass."""
    cdef Guardian* g = <Guardian*>load64_acquire(&weak_state(h).guardians)
    cdef GuardEntry* e
    cdef uint64_t i
    while g != NULL:
        if not load32_acquire(&g.dropped) and not rehearse:
            for i in range(g.high):
                e = entry_at(g, i)
                if e.state == GUARD_FREE:
                    continue
                if e.object:
                    e.object = forward(h, e.object)
                if e.agent:
                    e.agent = forward(h, e.agent)
        g = g.next
