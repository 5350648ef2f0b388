"""What does not keep objects alive, and the phase that clears it.

Weak references (weak.pyx), weak tables (weaktable.pyx) and guardians (guardian.pyx) stand outside
the heap.  Like handles they are rewritten inside the flip; unlike handles they are no roots.
Between Mark End and planning comes the phase *Concurrent Process Non-Strong References*:

     marking on            reads blocked                                     everything as ever
  |----------------|-------------------------------------------------|--------------------------
   Mark    Mark End  clear cells and    which guarded    mark and   publish  plan, flip
   Start    (pause)  entries whose      objects are      trace      what is  (rewrites all
                     target is unmarked unmarked?        those      due      of it)
                    ^                  ^                          ^        ^
                weak.before       weak.cleared          weak.resurrected  weak.done   (failpoints)

Under `stw` the same steps run inside the one pause.

*What a mutator can name.*  While marking is on, whatever a mutator has in hand, or can load from
an object that it has in hand, will be marked: it was reachable at the snapshot, or it was
allocated since then (black), or it came out of a weak cell, a table or a guardian, and was logged
on the way.  A logged object counts as part of the snapshot: since Mark Start the barrier has
logged every slot of it that was overwritten.  Hence after Mark End everything that a mutator can
name is reached, and the unmarked objects below TAMS can be named only by weak reads.

*Reads.*  From Mark End until the clearing has ended, a weak read of an unmarked object gives
null (`blocked`, which is set inside Mark End's pause).  So the answer "dead" never changes back,
and is the same in all threads from one moment on, although the collector comes to the cells one
after the other, while mutators run.  An object below TAMS gets a mark during this phase only by
resurrection, which begins when every weak cell and entry that leads to it is cleared; a fence
lies between the two, and a reader that finds a mark looks at the cell once more.  (Table reads
are under the shard's or table's lock, under which the entry is taken out.)

*Writes need no barrier.*  A new cell, entry or registration holds what a mutator has in hand: in
this cycle that is marked anyhow.  The value of an entry that is overwritten or removed unread
needs no mark, because nobody has got it from there; one that was read was logged.  An entry that
the marker misses, because its key was visited before, was inserted since then: its value came
from a hand.  So every entry whose key is reached at Mark End has a value that is.

*Ephemerons* are part of marking, not of this phase: the marker takes the values of a key's entries
for slots of the key (weaktable.pyx).  A weak read is therefore right at any moment of the
cycle, and Mark End traces within its budget, whatever the tables.

*Resurrection* marks with the barrier off and needs none: a mutator cannot name what is being
traced until it is published; what that reaches and a mutator can name is marked and traced
already.  It ends before planning, which therefore sees the final marks.  Entries whose key is
resurrected were cleared: weak references to an object are gone before a guardian yields it.

*A cycle that ends early*, because a fork waits, does so before Mark End, when nothing here has
changed at all, or when it has planned: never between Mark End and the end of this phase.

*Costs.*  This phase and the flip look at each cell, entry and registration once; only the flip
does so in a pause.  The tables do not shrink before they are dropped.  Who waits for a guardian
or for callbacks is woken, by a futex, after the phase or the cycle; the collector runs no code
of anybody's.
"""
from gcheap.core.failpoint cimport (
    FP_WEAK_BEFORE, FP_WEAK_CLEARED, FP_WEAK_DONE, FP_WEAK_RESURRECTED, failpoint)
from gcheap.core.guardian cimport find_due, forward_guardians, mark_due, publish_due
from gcheap.core.layout cimport HeapState
from gcheap.core.mark cimport Marker, trace
from gcheap.core.native cimport (
    add32_seq, fence_seq, futex_wake_all, store32_relaxed, store32_release)
from gcheap.core.weak cimport clear_cells, forward_cells
from gcheap.core.weakdata cimport WeakState, weak_state
from gcheap.core.weaktable cimport clear_tables, forward_tables
from gcheap.core.weakverify cimport verify_cleared
from libc.stdint cimport uint64_t

cdef enum:
    NO_LIMIT = -1


cdef void block_weak_reads(HeapState* h) noexcept nogil:
    """Inside the pause of Mark End: from now on what is unmarked counts as dead."""
    store32_relaxed(&weak_state(h).blocked, 1)      # relaxed: the pause's end publishes it


cdef void process_non_strong(Marker* k) noexcept nogil:
    """The phase.  On the collector thread, after Mark End; adds what it resurrects to k's marks."""
    cdef HeapState* h = k.heap
    failpoint(FP_WEAK_BEFORE)
    clear_cells(h)
    clear_tables(h)
    fence_seq()                 # the cleared cells before the first mark; pairs with weak_load's
    failpoint(FP_WEAK_CLEARED)
    if h.verify >= 3:
        verify_cleared(h)
    find_due(h)
    mark_due(k)
    trace(k, <uint64_t>NO_LIMIT)
    failpoint(FP_WEAK_RESURRECTED)
    publish_due(h)
    # Release: who reads 0 here sees the cells cleared.
    store32_release(&weak_state(h).blocked, 0)
    failpoint(FP_WEAK_DONE)


cdef void forward_non_strong(HeapState* h, bint rehearse) noexcept nogil:
    """Inside the flip: everything that is left leads to live objects; rewrites it (I1).

    With `rehearse`, before the pause and while mutators run: goes the same way and changes
    nothing.  Since its last flip the cycle has read the whole heap, so that code, pointers and
    lists are in no cache and no TLB any more; in a heap of 4 GiB to fetch them was a quarter of
    the pause (2 of 8 us).
    """
    forward_cells(h, rehearse)
    forward_tables(h, rehearse)
    forward_guardians(h, rehearse)


cdef void announce_cleared(HeapState* h) noexcept nogil:
    """After a cycle, outside any pause: wakes who runs callbacks for cleared weak references."""
    cdef WeakState* w = weak_state(h)
    if w.notices:
        w.notices = 0
        add32_seq(&w.notice_event, 1)
        futex_wake_all(&w.notice_event)
