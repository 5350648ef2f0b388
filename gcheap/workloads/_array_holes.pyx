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
from gcheap.core.records cimport CAUSE_EXPLICIT
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from gcheap._fastpath cimport (
    gc_acquire_element, gc_alloc, gc_elements, gc_length, gc_load,
    gc_load_element, gc_poll, gc_publish_element, gc_store, gc_store_element)
from gcheap.core.layout cimport SHAPE_BYTES, SHAPE_SLOT_ARRAY, word
from gcheap.core.native cimport unlikely
from gcheap.core.requests cimport cycle_running, request_cycle
from gcheap.workloads._arrays cimport (
    AT_ARRAY, AT_CROSS, AT_TABLE, CROSS_BYTES, ELEMENT_EVERY, Entry, FRAME, GROUP, Holes,
    KIND_BYTES, KIND_SLOTS, KIND_WORDS, LEAST_BYTES, LINK_BYTES, MOST_BYTES, Part, audit_array,
    bytes_of, check_sample, check_words, drop_next, entry_of, fill_hole, header_holds, is_hub,
    item_of, key_of, kind_of, link_slot, place_of, words_of)
from gcheap.workloads._random cimport random64, scaled
from gcheap.workloads._record cimport BAD_ID, record_failure

import math

from gcheap.errors import OptionError
from gcheap.options import format_size


# ---- reading with checks -----------------------------------------------------------------

cdef void check_survivor(Holes c) noexcept nogil:
    """A random array of the part that is no hole: a cycle is likely to have moved it."""
    cdef uint64_t place = c.part.low + scaled(random64(&c.part.random), c.part.count)
    while not entry_of(c, place).present:
        place = c.part.low + (place + 1 - c.part.low) % c.part.count
    check_sample(c, place)


# ---- the shared table --------------------------------------------------------------------

cdef void read_cross(Holes c) noexcept nogil:
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


cdef bint write_cross(Holes c, uint64_t place) noexcept nogil:
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

cdef inline bint operate(Holes c) noexcept nogil:
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


# ---- damage, for tests of the audit ------------------------------------------------------

cdef uint64_t first_of(Holes c, int kind) noexcept nogil:
    """The first place of the part that holds a `kind` of some size and is no hub, nor a hole."""
    cdef uint64_t place = c.part.low
    while place + 1 < c.part.low + c.part.count and (
            is_hub(place) or kind_of(place) != kind or not entry_of(c, place).present
            or entry_of(c, place).length < ELEMENT_EVERY):
        place += 1
    return place


cdef void break_one(Holes c, int kind) noexcept nogil:
    """See DAMAGES.  Holds no safepoint."""
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

def largest(share):
    """Bytes of the largest array of a mutator with so many live bytes."""
    return min(MOST_BYTES, share // 16)


def place_count(share):
    """Places of a mutator with so many live bytes: whole groups."""
    top = largest(share)
    mean = (top - LEAST_BYTES) / math.log(top / LEAST_BYTES) + 8
    return int(share / mean) // GROUP * GROUP


cdef class ArrayHoles(Holes):
    """One mutator of `array-holes`.

    DAMAGES: the last element of a raw array of bytes or words, a tagged value of a slot array, the
    id of an Element, a hub's link, an array that is lost, a hole that refers to an array.
    """

    DAMAGES = ("bytes", "words", "slot", "element", "link", "lost", "hole")

    def __cinit__(self, heap, part):
        cdef uint64_t count = place_count(self.share)
        self.words = FRAME
        self.shared = AT_ARRAY                  # the two tables
        self.world.mutators = self.mutators
        self.world.places = count * self.mutators
        # Links and what they keep alive take a sixteenth of the live bytes at most.
        self.world.cross = max(
            4, min(1024, self.share // 16 // (CROSS_BYTES + LINK_BYTES))) * self.mutators
        self.world.shapes[KIND_BYTES] = SHAPE_BYTES
        self.world.shapes[KIND_SLOTS] = SHAPE_SLOT_ARRAY
        self.world.element = heap.shape("array-holes.Element", refs=("array",),
                                        raw=[("id", "u8")]).id
        self.world.link = heap.shape("array-holes.Link", refs=("array",), raw=[
            ("place", "u8"), ("generation", "u8"), ("length", "u8")]).id
        self.to_build = count
        self.part = &self.own
        self.own.low = count * self.index
        self.own.count = count
        self.own.top = largest(self.share)
        self.own.budget = self.share * 15 // 16
        self.own.random = self.random
        self.own.entries = <Entry*>calloc(count, sizeof(Entry))
        if self.own.entries == NULL:
            raise MemoryError("no memory for what the workload's arrays must be")

    def __dealloc__(self):
        free(self.own.entries)

    def ready(self, mutator):
        self.world.shapes[KIND_WORDS] = mutator.new_array("u8", 0).shape.id

    cdef bint start_shared(self) noexcept nogil:
        return (self.hold_slots(AT_TABLE, self.world.places)
                and self.hold_slots(AT_CROSS, self.world.cross))

    cdef bint start(self) noexcept nogil:
        """Fills every place, then drops the first holes."""
        cdef uint64_t _i
        if not self.build_all():
            return False
        if not self.stopping():
            for _i in range(self.part.count // 4):
                drop_next(self)
        return True

    cdef bint build_one(self, uint64_t i) noexcept nogil:
        return fill_hole(self, self.part.low + i)

    cdef bint operation(self) noexcept nogil:
        return operate(self)

    cdef void check_one(self, uint64_t i) noexcept nogil:
        audit_array(self, self.part.low + i)

    cdef void check_all(self) noexcept nogil:
        cdef uint64_t _i
        Holes.check_all(self)
        for _i in range(self.world.cross):
            read_cross(self)

    cdef void break_one(self, int what) noexcept nogil:
        break_one(self, what)

    def counts(self):
        return {"arrays_replaced": self.own.filled, "shared_links_read": self.cross_reads}

    def sizes(self):
        return {"arrays": self.world.places, "largest_bytes": self.own.top}


def check(config):
    """OptionError for more live bytes than the places can be numbered in."""
    if config.live // config.mutators > 1 << 44:
        raise OptionError(
            f"live {format_size(config.live)}: array-holes numbers its arrays with 32 bits, "
            f"which is {format_size(1 << 44)} a mutator at most"
        )
