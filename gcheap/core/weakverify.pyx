"""Verification, level 3, of what does not keep objects alive.

The graph walk of verify.pyx does not pass through any of it.  Here each cell, entry and
registration is checked to be null or to lead to an object; an unreachable one is whole until the
flip after the cycle that finds it dead, and by then nothing leads to it.
"""
from gcheap.core.layout cimport HeapState, WORD, word
from gcheap.core.mark cimport reached
from gcheap.core.native cimport (
    check_that, load32_acquire, load32_relaxed, load64_acquire, load64_relaxed, mutex_lock,
    mutex_unlock)
from gcheap.core.objects cimport is_reference, object_bytes, shape_of_header
from gcheap.core.segments cimport segment_item
from gcheap.core.weak cimport weak_cell
from gcheap.core.weakdata cimport (
    GUARD_FREE, GUARD_READY, GuardEntry, Guardian, WeakEntry, WeakTable, weak_state)
from libc.stdint cimport uint64_t


cdef void check_target(HeapState* h, word obj) noexcept nogil:
    cdef uint64_t offset = obj - h.base[h.current]
    cdef word header
    check_that(obj % WORD == 0 and obj - h.reservation < h.reservation_bytes,
               b"verify: a weak word leads outside the heap (word, reservation)",
               obj, h.reservation)
    check_that(offset >= h.half_bytes or offset < load64_relaxed(&h.top),
               b"verify: a weak word leads past the objects (word, top)", obj, h.top)
    header = load64_relaxed(<word*>obj)
    check_that(header & 1 and shape_of_header(header) < load32_acquire(&h.shape_count),
               b"verify: a weak word leads to no object (word, header)", obj, header)
    if offset < h.half_bytes:
        check_that(object_bytes(&h.shapes[shape_of_header(header)], obj) <= h.top - offset,
                   b"verify: a weak word leads to an object that runs past the top (word, top)",
                   obj, h.top)


cdef void check_entry(HeapState* h, WeakEntry* e, bint marked) noexcept nogil:
    cdef bint refers = is_reference(h.tag_mask, h.tag_bits, e.value)
    check_target(h, e.key)
    if refers:
        check_target(h, e.value & ~h.tag_mask)
    if marked and refers and reached(h, e.key):
        check_that(reached(h, e.value & ~h.tag_mask),
                   b"verify: marking missed the value of a live key (key, value)", e.key, e.value)


cdef void check_registration(HeapState* h, GuardEntry* e, bint marked) noexcept nogil:
    if e.state == GUARD_FREE:
        return
    if e.object:
        check_target(h, e.object)
    if e.agent:
        check_target(h, e.agent)
    if marked and e.agent:
        check_that(reached(h, e.agent), b"verify: marking missed an agent (object, agent)",
                   e.object, e.agent)
    elif marked and e.state == GUARD_READY:
        check_that(reached(h, e.object),
                   b"verify: marking missed what a guardian has ready (object, state)",
                   e.object, e.state)


cdef void verify_weak(HeapState* h, bint marked) noexcept nogil:
    """Inside a pause: aborts with what broke.  `marked`: marking has just ended, and must have
    reached the value of each reached key, each agent, and what waits in a guardian's queue."""
    cdef WeakTable* t = <WeakTable*>load64_acquire(&weak_state(h).tables)
    cdef Guardian* g = <Guardian*>load64_acquire(&weak_state(h).guardians)
    cdef WeakEntry* e
    cdef word target
    cdef uint64_t i
    for i in range(1, weak_state(h).cell_high):
        target = weak_cell(h, i).target
        # A drop during the pause leaves an address that is stale from the next flip on.
        if target and load32_acquire(&weak_cell(h, i).link) == 0:
            check_target(h, target)
    while t != NULL:
        for i in range(t.high if not load32_acquire(&t.dropped) else 0):
            e = <WeakEntry*>segment_item(t.entries, i, sizeof(WeakEntry))
            if e.key:
                check_entry(h, e, marked)
        t = t.next
    while g != NULL:
        for i in range(g.high if not load32_acquire(&g.dropped) else 0):
            check_registration(
                h, <GuardEntry*>segment_item(g.entries, i, sizeof(GuardEntry)), marked)
        g = g.next


cdef void verify_cleared(HeapState* h) noexcept nogil:
    """After the clearing, mutators running: no cell and no key leads to an unmarked object."""
    cdef WeakTable* t = <WeakTable*>load64_acquire(&weak_state(h).tables)
    cdef WeakEntry* e
    cdef word target
    cdef uint64_t i
    for i in range(1, load64_acquire(&weak_state(h).cell_high)):
        if load32_acquire(&weak_cell(h, i).link) == 0:
            target = load64_relaxed(&weak_cell(h, i).target)
            check_that(target == 0 or reached(h, target)
                       or load32_relaxed(&weak_cell(h, i).link) != 0,
                       b"verify: a weak reference to a dead object was left (index, word)",
                       i, target)
    while t != NULL:
        if not load32_acquire(&t.dropped):
            mutex_lock(&t.lock)
            for i in range(t.high):
                e = <WeakEntry*>segment_item(t.entries, i, sizeof(WeakEntry))
                target = load64_acquire(&e.key)
                check_that(target == 0 or reached(h, target),
                           b"verify: an entry of a dead key was left (index, key)", i, target)
            mutex_unlock(&t.lock)
        t = t.next
