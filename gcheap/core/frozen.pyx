"""Frozen objects: everything that was live when somebody froze the heap, alive until unfrozen.

A frozen object is a root, but not one of those that a pause visits: there may be millions.  The
set of their addresses belongs to the collector, which alone follows it from half to half, and
nothing that a mutator does depends on it.  So all of the work is concurrent:

    marking      begins with the frozen objects, right after Pause Mark Start.  That is late for
                 a root, and sound: until Mark End the barrier logs every reference that is
                 overwritten, in a frozen object as in any other
    the flip     does nothing
    relocation   ends with forwarding the set.  Forwarding is computed from the side tables,
                 which stay valid until the next cycle clears its marks

Between the flip and that last step the set holds from-space addresses beside to-space ones; who
reads it then forwards what he reads, which maps a to-space address to itself.  Before the flip
there is nothing to forward, and no valid forwarding either: the phase says which it is, and it
cannot change from one to the other while he holds `list_lock`.

`frozen_lock` guards the set's contents.  It is taken by who holds `list_lock` (in a pause of his
own, or to unfreeze) or by the collector while it forwards; the collector needs no other lock to
finish that.  Marking takes none: what is frozen meanwhile was reachable in a pause after Mark
Start, so it is black or gets marked anyway; what is unfrozen meanwhile stays for one cycle more.

gc.freeze of CPython moves objects to a permanent generation, which is not looked at again; here
they are still marked and moved, because they lie among the others.
"""
from gcheap.core.addresses cimport (
    set_add, set_clear, set_close, set_next, set_open, set_remove)
from gcheap.core.layout cimport (
    AddressSet, HeapState, PHASE_FINISH, PHASE_RELOCATE, WORD, word)
from gcheap.core.mark cimport Marker, mark_object
from gcheap.core.native cimport (
    load32_acquire, load64_acquire, mutex_lock, mutex_unlock, store64_release)
from gcheap.core.plan cimport forward
from gcheap.core.roots cimport ROOT_FROZEN, Root, RootReader
from libc.stdint cimport uint32_t, uint64_t


cdef int freeze_members(HeapState* h, AddressSet* members, uint64_t count) noexcept nogil:
    """Freezes `count` objects: all that is reachable, frozen objects among the roots, so that
    nothing is frozen beside them.  The caller has stopped the world.  Returns an errno."""
    cdef word at = members.low
    cdef int error = 0
    mutex_lock(&h.frozen_lock)
    if h.frozen.bits == NULL:
        error = set_open(&h.frozen, h)
    if error == 0:
        # Added, never replaced: the collector may be marking from the set.
        while True:
            at = set_next(members, at, members.low + members.span)
            if at == 0:
                break
            set_add(&h.frozen, at)
            at += WORD
        store64_release(&h.frozen_count, count)     # after the set is open
    mutex_unlock(&h.frozen_lock)
    return error


cdef void unfreeze_all(HeapState* h) noexcept nogil:
    """Frozen objects are roots no more.  The caller holds list_lock."""
    mutex_lock(&h.frozen_lock)
    if h.frozen.bits != NULL:
        store64_release(&h.frozen_count, 0)
        set_clear(&h.frozen)
    mutex_unlock(&h.frozen_lock)


cdef void mark_frozen(Marker* k) noexcept nogil:
    """Marks what is frozen; traces nothing.  The collector, after Pause Mark Start."""
    cdef HeapState* h = k.heap
    cdef word at
    if load64_acquire(&h.frozen_count) == 0:    # acquire: the set is open
        return
    at = h.frozen.low
    while True:
        at = set_next(&h.frozen, at, h.frozen.low + h.frozen.span)
        if at == 0:
            return
        mark_object(k, at)
        at += WORD


cdef void forward_frozen(HeapState* h) noexcept nogil:
    """Follows the frozen objects to where this cycle has moved them.  The collector."""
    cdef word at, to
    if load64_acquire(&h.frozen_count) == 0:
        return
    mutex_lock(&h.frozen_lock)
    at = h.frozen.low
    while True:
        at = set_next(&h.frozen, at, h.frozen.low + h.frozen.span)
        if at == 0:
            break
        to = forward(h, at)
        if to != at:
            # A new place may come up again in this walk; it is forwarded to itself.
            set_remove(&h.frozen, at)
            set_add(&h.frozen, to)
        at += WORD
    mutex_unlock(&h.frozen_lock)


cdef void read_frozen(HeapState* h, RootReader read, void* context) noexcept nogil:
    """Calls read(context, h, root, address) for every frozen object.  The caller has stopped
    the world.  One that is being moved may come twice."""
    cdef Root root
    cdef word at
    cdef uint32_t phase = load32_acquire(&h.phase)
    cdef bint flipped = phase == PHASE_RELOCATE or phase == PHASE_FINISH
    if load64_acquire(&h.frozen_count) == 0:
        return
    root.kind = ROOT_FROZEN
    root.handle = 0
    root.mutator = NULL
    root.position = 0
    at = h.frozen.low
    mutex_lock(&h.frozen_lock)
    while True:
        at = set_next(&h.frozen, at, h.frozen.low + h.frozen.span)
        if at == 0:
            break
        read(context, h, &root, forward(h, at) if flipped else at)
        at += WORD
    mutex_unlock(&h.frozen_lock)


cdef void drop_frozen(HeapState* h) noexcept nogil:
    """Unmaps the set, at the heap's end."""
    store64_release(&h.frozen_count, 0)
    set_close(&h.frozen)
