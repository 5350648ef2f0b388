"""`array-holes`: arrays from 16 bytes to 4 MiB, every second one dropped, compacted, refilled.

Live data: raw arrays and slot arrays whose sizes are log-uniform between 16 bytes and a
sixteenth of the mutator's share, at most 4 MiB (`_arrays.pxd` says what they hold).  The table
is walked in rounds of every second place.  Dropping runs a quarter of the table ahead of
filling, so that between the two every second place is a hole when a cycle comes; one is asked
for twice a round.  One operation replaces one array:

1. drop the next one, after its turn; its hub's slot is cleared
2. draw a size that the budget allows for the oldest hole, allocate, fill and link an array there
3. check an array that survived: header, length, both ends, links, two pages of the inside
4. check one entry of the shared table, whoever wrote it, and perhaps write one

The audit checks every word of every array, each Element and link, and that holes are holes.

Mutators work on disjoint parts of one table.  The shared table holds Links to small arrays:
each is written by one mutator and read by all, and it keeps what was dropped meanwhile alive.

Safepoints: allocations, every 32 KiB of filling and checking, and each operation.  A local
address never lives across one; what must is in the mutator's shadow-stack frame (AT_...).
"""
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free

from gcheap._fastpath cimport (
    gc_acquire_element, gc_alloc, gc_alloc_array, gc_elements, gc_enter, gc_leave, gc_length,
    gc_load, gc_load_element, gc_poll, gc_pop, gc_publish_element, gc_push, gc_store,
    gc_store_element)
from gcheap.core.layout cimport CAUSE_EXPLICIT, MutatorState, SHAPE_BYTES, SHAPE_SLOT_ARRAY, word
from gcheap.core.native cimport (
    clock_ns, load64_relaxed, store64_relaxed, unlikely)
from gcheap.core.requests cimport cycle_running, request_cycle
from gcheap.workloads._arrays cimport (
    AT_CROSS, AT_TABLE, Arrays, CROSS_BYTES, ELEMENT_EVERY, Entry, FRAME, GROUP, Holes,
    KIND_BYTES, KIND_SLOTS, KIND_WORDS, LEAST_BYTES, LINK_BYTES, MOST_BYTES, Part, audit_array,
    bytes_of, check_sample, check_words, drop_next, entry_of, fill_hole, header_holds, is_hub,
    item_of, key_of, kind_of, link_slot, place_of, words_of)
from gcheap.workloads._random cimport mix64, random64, scaled
from gcheap.workloads._record cimport (
    BAD_ID, FAILURES_BEFORE_STOP, Recording, own_lines, record_failure, record_operation,
    stop_wanted, whole_lines)

import math


# ---- reading with checks -----------------------------------------------------------------

cdef void check_survivor(Holes* c) noexcept nogil:
    """A random array of the part that is no hole: a cycle is likely to have moved it."""
    cdef uint64_t place = c.part.low + scaled(random64(&c.part.random), c.part.count)
    while not entry_of(c, place).present:
        place = c.part.low + (place + 1 - c.part.low) % c.part.count
    check_sample(c, place)


# ---- the shared table --------------------------------------------------------------------

cdef void read_cross(Holes* c) noexcept nogil:
    """Checks a small array to which any mutator linked, whatever became of its place."""
    cdef uint64_t i = scaled(random64(&c.part.random), c.world.cross)
    cdef word link = gc_acquire_element(c.frame[AT_CROSS], i), array
    cdef uint64_t place
    if link == 0:
        return
    c.cross_reads += 1
    place = (<uint64_t*>link)[2]
    array = gc_load(link, 0)
    if place >= c.world.places or kind_of(place) == KIND_SLOTS:
        record_failure(c.r, BAD_ID, i, place, c.world.places)
    elif header_holds(c, array, place, (<uint64_t*>link)[4]):
        check_words(c, array, place, key_of(place, <uint32_t>(<uint64_t*>link)[3]), 0,
                    words_of(kind_of(place), gc_length(array)))


cdef bint write_cross(Holes* c, uint64_t place) noexcept nogil:
    """Links to the array at `place`, when it is small and raw, from an entry of this mutator's
    own.  False when the heap is exhausted."""
    cdef Entry* e = entry_of(c, place)
    cdef uint64_t mine = c.world.cross // c.world.mutators
    cdef uint64_t at = scaled(random64(&c.part.random), mine) * c.world.mutators + c.index
    cdef word link
    if kind_of(place) == KIND_SLOTS or bytes_of(place, e.length) > CROSS_BYTES:
        return True
    link = gc_alloc(c.m, c.world.link)
    if unlikely(link == 0):
        return False
    gc_store(c.m, link, 0, gc_load_element(c.frame[AT_TABLE], place))
    (<uint64_t*>link)[2] = place
    (<uint64_t*>link)[3] = e.generation
    (<uint64_t*>link)[4] = e.length
    gc_publish_element(c.m, c.frame[AT_CROSS], at, link)       # Link and array come before it
    return True


# ---- one operation -----------------------------------------------------------------------

cdef inline bint operation(Holes* c) noexcept nogil:
    """False when the heap is exhausted."""
    cdef Part* p = c.part
    cdef uint64_t place = place_of(p, p.filled)
    drop_next(c)
    if not fill_hole(c, place) or not write_cross(c, place):
        return False
    p.filled += 1
    check_survivor(c)
    read_cross(c)
    # Twice a round, unless one is under way: when the stretch of holes has moved on by itself.
    if p.filled % (p.count // 4) == 0 and not cycle_running(c.m.heap):
        request_cycle(c.m.heap, CAUSE_EXPLICIT)
    gc_poll(c.m)
    return True


cdef void run_loop(Holes* c) noexcept nogil:
    c.r.last_ns = clock_ns()
    while True:
        if unlikely(not operation(c)):
            c.r.exhausted = 1
            return
        if unlikely(c.r.failures > FAILURES_BEFORE_STOP):
            return
        if unlikely(not record_operation(c.r)):
            return


# ---- population --------------------------------------------------------------------------

cdef bint populate_part(Holes* c) noexcept nogil:
    """Fills every place, then drops the first holes; false when the heap is exhausted."""
    cdef Part* p = c.part
    cdef uint64_t i, _i
    for i in range(p.low, p.low + p.count):
        if stop_wanted(c.r):
            return True
        if not fill_hole(c, i):
            return False
        store64_relaxed(&c.world.built, c.world.built + 1)      # relaxed: for the display only
    for _i in range(p.count // 4):
        drop_next(c)
    return True


cdef bint make_tables(Holes* c) noexcept nogil:
    cdef word made = gc_alloc_array(c.m, SHAPE_SLOT_ARRAY, c.world.places)
    if made == 0:
        return False
    c.frame[AT_TABLE] = made
    made = gc_alloc_array(c.m, SHAPE_SLOT_ARRAY, c.world.cross)
    if made == 0:
        return False
    c.frame[AT_CROSS] = made
    c.world.owner_frame = c.frame
    return True


cdef void adopt(Holes* c) noexcept nogil:
    """Takes the tables over from the mutator that made them.

    This thread is running, so no pause is under way until its next safepoint: the words in
    the other mutator's frame are up to date and stay so, whatever that thread does.
    """
    if c.world.owner_frame != c.frame:
        # Relaxed: written before these threads met, and then by pauses only.
        c.frame[AT_TABLE] = load64_relaxed(&c.world.owner_frame[AT_TABLE])
        c.frame[AT_CROSS] = load64_relaxed(&c.world.owner_frame[AT_CROSS])


# ---- the audit ---------------------------------------------------------------------------

cdef void audit_all(Holes* c) noexcept nogil:
    cdef uint64_t i, _i
    for i in range(c.part.low, c.part.low + c.part.count):
        audit_array(c, i)
        gc_poll(c.m)
        if c.r.failures > FAILURES_BEFORE_STOP:
            return
    for _i in range(c.world.cross):
        read_cross(c)


cdef uint64_t first_of(Holes* c, int kind) noexcept nogil:
    """The first place of the part that holds a `kind` of some size and is no hub, nor a hole."""
    cdef uint64_t place = c.part.low
    while place + 1 < c.part.low + c.part.count and (
            is_hub(place) or kind_of(place) != kind or not entry_of(c, place).present
            or entry_of(c, place).length < ELEMENT_EVERY):
        place += 1
    return place


cdef void break_one(Holes* c, int kind) noexcept nogil:
    """See ArrayHolesSession.damage.  Holds no safepoint."""
    cdef uint64_t place = c.part.low + GROUP
    cdef word table = c.frame[AT_TABLE]
    cdef word array, element
    if kind <= 1:
        place = first_of(c, KIND_WORDS if kind else KIND_BYTES)
        array = gc_load_element(table, place)
        gc_elements(array)[entry_of(c, place).length * item_of(kind_of(place)) - 1] ^= 1
    elif kind <= 3:
        place = first_of(c, KIND_SLOTS)
        array = gc_load_element(table, place)
        if kind == 2:
            gc_store_element(c.m, array, 1, gc_load_element(array, 1) ^ 8)
        else:
            element = gc_load_element(array, ELEMENT_EVERY - 1)
            (<uint64_t*>element)[2] ^= 1
    elif kind == 4:
        while not (entry_of(c, place).present and entry_of(c, place + 2).present):
            place += GROUP
        array = gc_load_element(table, place)
        gc_store_element(c.m, array, link_slot(gc_length(array), 2), 0)
    elif kind == 5:
        gc_store_element(c.m, table, first_of(c, KIND_BYTES), 0)
    else:
        place = place_of(c.part, c.part.filled)         # the oldest hole
        gc_store_element(c.m, table, place, gc_load_element(table, first_of(c, KIND_BYTES)))


# ---- the Python side ---------------------------------------------------------------------

DAMAGES = ("bytes", "words", "slot", "element", "link", "lost", "hole")


def largest(share):
    """Bytes of the largest array of a mutator with so many live bytes."""
    return min(MOST_BYTES, share // 16)


def place_count(share):
    """Places of a mutator with so many live bytes: whole groups."""
    top = largest(share)
    mean = (top - LEAST_BYTES) / math.log(top / LEAST_BYTES) + 8
    return int(share / mean) // GROUP * GROUP


cdef class ArrayHolesSession:
    """`array-holes` on one heap; the calls are those of `ChurnSession`, and in the same order."""
    cdef Arrays world
    cdef Holes* all
    cdef int mutators
    cdef uint64_t each

    def __cinit__(self, heap, *, int mutators, live, seed, **_other):
        cdef uint64_t i, count = place_count(live // mutators)
        cdef Holes* c
        self.mutators = mutators
        self.world.mutators = mutators
        self.world.places = count * mutators
        # Links and what they keep alive take a sixteenth of the live bytes at most.
        self.world.cross = max(4, min(1024, live // mutators // 16 // (CROSS_BYTES + LINK_BYTES))
                               ) * mutators
        self.world.shapes[KIND_BYTES] = SHAPE_BYTES
        self.world.shapes[KIND_SLOTS] = SHAPE_SLOT_ARRAY
        self.world.element = heap.shape("array-holes.Element", refs=("array",),
                                        raw=[("id", "u8")]).id
        self.world.link = heap.shape("array-holes.Link", refs=("array",), raw=[
            ("place", "u8"), ("generation", "u8"), ("length", "u8")]).id
        self.each = whole_lines(sizeof(Holes))
        self.all = <Holes*>own_lines(self.each * mutators, "the workload's mutators")
        for i in range(<uint64_t>mutators):
            c = self.mine(i)
            c.world = &self.world
            c.part = &c.own
            c.index = i
            c.own.low = count * i
            c.own.count = count
            c.own.top = largest(live // mutators)
            c.own.budget = live // mutators * 15 // 16
            c.own.random = mix64((<uint64_t>seed << 8) + i)
            c.own.entries = <Entry*>calloc(count, sizeof(Entry))
            if c.own.entries == NULL:
                raise MemoryError("no memory for what the workload's arrays must be")

    def __dealloc__(self):
        cdef int i
        if self.all != NULL:
            for i in range(self.mutators):
                free(self.mine(i).own.entries)
            free(self.all)

    cdef Holes* mine(self, uint64_t index) noexcept:
        return <Holes*>(<uintptr_t>self.all + index * self.each)

    @property
    def populated(self):
        """The share of the arrays built so far, 0 to 1; from any thread."""
        return load64_relaxed(&self.world.built) / self.world.places        # display only

    def populate(self, mutator, uint64_t index, Recording recording not None):
        """Mutator 0 builds the arrays of all."""
        cdef Holes* c = self.mine(index)
        cdef bint held
        cdef int i
        c.m = <MutatorState*><uintptr_t>mutator.native()
        c.r = recording.r
        if index == 0:
            self.world.shapes[KIND_WORDS] = mutator.new_array("u8", 0).shape.id
        with nogil:
            gc_enter(c.m)
            c.frame = gc_push(c.m, FRAME)
            held = c.frame != NULL and (index != 0 or make_tables(c))
            gc_leave(c.m)
        if index == 0 and held:
            for i in range(self.mutators):
                c.part = &self.mine(i).own
                with nogil:
                    gc_enter(c.m)
                    held = held and populate_part(c)
                    gc_leave(c.m)
            c.part = &c.own
        if not held:
            c.r.exhausted = 1

    def run(self, uint64_t index):
        """Operations until the run is stopped, the heap exhausted, or too much failed."""
        cdef Holes* c = self.mine(index)
        with nogil:
            gc_enter(c.m)
            adopt(c)
            run_loop(c)
            gc_leave(c.m)

    def audit(self, uint64_t index):
        """Checks everything that this mutator worked on; failures go to its recording."""
        cdef Holes* c = self.mine(index)
        with nogil:
            gc_enter(c.m)
            audit_all(c)
            gc_leave(c.m)

    def damage(self, uint64_t index, str what):
        """Breaks one thing of a mutator's part, for tests of the checks.

        `what`: "bytes" or "words" (the last element of a raw array), "slot" (a tagged value),
        "element" (the id of an Element), "link" (a hub's), "lost" (an array), "hole" (it refers
        to an array).  Called between two other calls.
        """
        cdef Holes* c = self.mine(index)
        cdef int kind = DAMAGES.index(what)
        with nogil:
            gc_enter(c.m)
            break_one(c, kind)
            gc_leave(c.m)

    def leave(self, uint64_t index):
        """Gives the mutator's shadow-stack frame back.  Nothing of the run is left."""
        cdef Holes* c = self.mine(index)
        if c.frame != NULL:
            with nogil:
                gc_enter(c.m)       # a pause reads the shadow stacks of those outside
                gc_pop(c.m, FRAME)
                gc_leave(c.m)
            c.frame = NULL

    def facts(self):
        """What the workload adds to the document: counts, all with the warm-up."""
        cdef int i
        replaced = reads = 0
        for i in range(self.mutators):
            replaced += self.mine(i).own.filled
            reads += self.mine(i).cross_reads
        return {"arrays": self.world.places, "largest_bytes": self.mine(0).own.top,
                "arrays_replaced": replaced, "shared_links_read": reads}
