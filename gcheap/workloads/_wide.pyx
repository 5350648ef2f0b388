"""`wide`: one array of 10 million slots, a third of which refer to objects of their own.

Live data: one slot array that all mutators share (shorter when the live bytes do not allow so
many slots).  The other two thirds of the slots hold tagged values.  Every slot belongs to one
mutator.  One operation checks and replaces what stands in 16 random slots of its own, and checks
one object of anybody's.  The array is one object: it is marked, moved and fixed piece by piece, and
stores go everywhere into it meanwhile.

The model, outside the heap: how often each slot was written.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free

from gcheap._fastpath cimport (
    gc_acquire_element, gc_alloc, gc_load_element, gc_poll, gc_publish_element, gc_store_element)
from gcheap.core.layout cimport word
from gcheap.core.native cimport unlikely
from gcheap.workloads._checks cimport below, is_object, raw_is, set_raw
from gcheap.workloads._random cimport mix64
from gcheap.workloads._record cimport BAD_ID, BAD_SLOT, own_lines, record_failure
from gcheap.workloads.worker cimport Worker

from gcheap.errors import OptionError
from gcheap.options import format_size

cdef enum:
    ID = 1                      # word of an Item
    SLOT_BYTES = 16             # of the array, and a third of an Item
    WRITES = 16                 # an operation

STANDARD_SLOTS = 10_000_000


cdef inline bint has_item(uint64_t slot) noexcept nogil:
    return mix64(slot) % 3 == 0


cdef inline uint64_t id_of(Wide w, uint64_t slot) noexcept nogil:
    """What the model says of a slot of one's own."""
    return slot << 32 | w.written[slot // w.mutators]


cdef void check_slot(Wide w, uint64_t slot) noexcept nogil:
    cdef word found = gc_load_element(w.frame[0], slot)
    if not has_item(slot):
        if unlikely(found != (id_of(w, slot) << 1 | 1)):
            record_failure(w.r, BAD_SLOT, slot, found, id_of(w, slot) << 1 | 1)
    elif is_object(w.r, found, w.item, slot) and raw_is(w.r, found, ID, id_of(w, slot), slot):
        raw_is(w.r, found, ID + 1, ~id_of(w, slot), slot)


cdef bint write_slot(Wide w, uint64_t slot) noexcept nogil:
    """False when the heap is exhausted."""
    cdef word item
    if not has_item(slot):
        w.written[slot // w.mutators] += 1
        gc_store_element(w.m, w.frame[0], slot, id_of(w, slot) << 1 | 1)
        return True
    item = gc_alloc(w.m, w.item)
    if unlikely(item == 0):
        return False
    w.written[slot // w.mutators] += 1
    set_raw(item, ID, id_of(w, slot))
    set_raw(item, ID + 1, ~id_of(w, slot))
    gc_publish_element(w.m, w.frame[0], slot, item)
    return True


cdef void read_any(Wide w) noexcept nogil:
    """An item of anybody's is of its slot, whatever its owner does."""
    cdef uint64_t slot = below(w, w.slots)
    cdef word item
    if has_item(slot):
        item = gc_acquire_element(w.frame[0], slot)
        if is_object(w.r, item, w.item, slot) and (<uint64_t*>item)[ID] >> 32 != slot:
            record_failure(w.r, BAD_ID, slot, (<uint64_t*>item)[ID], slot << 32)


cdef inline uint64_t own_slot(Wide w, uint64_t i) noexcept nogil:
    return i * w.mutators + w.index


cdef class Wide(Worker):
    """One mutator of `wide`."""
    cdef uint32_t* written
    cdef uint64_t slots
    cdef uint64_t own           # slots of this mutator
    cdef uint32_t item

    DAMAGES = ("value", "id", "lost")

    def __cinit__(self, heap, part):
        self.words = self.shared = 1
        self.slots = part.settings["slots"] or min(
            STANDARD_SLOTS, part.live * 15 // 16 // SLOT_BYTES)
        self.own = self.to_build = (self.slots - self.index + self.mutators - 1) // self.mutators
        self.item = heap.shape("wide.Item", raw=[("id", "u8"), ("check", "u8")]).id
        self.written = <uint32_t*>own_lines((self.own + 1) * 4, "the model of an array")

    def __dealloc__(self):
        free(self.written)

    cdef bint start_shared(self) noexcept nogil:
        return self.hold_slots(0, self.slots)

    cdef bint build_one(self, uint64_t i) noexcept nogil:
        return write_slot(self, own_slot(self, i))

    cdef bint operation(self) noexcept nogil:
        cdef uint64_t slot
        cdef int _i
        for _i in range(WRITES):
            slot = own_slot(self, below(self, self.own))
            check_slot(self, slot)
            if not write_slot(self, slot):
                return False
        read_any(self)
        gc_poll(self.m)
        return True

    cdef void check_one(self, uint64_t i) noexcept nogil:
        check_slot(self, own_slot(self, i))

    cdef void break_one(self, int what) noexcept nogil:
        cdef uint64_t i = 0
        while has_item(own_slot(self, i)) == (what == 0):
            i += 1
        if what == 1:
            set_raw(gc_load_element(self.frame[0], own_slot(self, i)), ID + 1, 0)
        else:
            gc_store_element(self.m, self.frame[0], own_slot(self, i), 0)

    def counts(self):
        return {"slots_written": WRITES * self.operations}

    def sizes(self):
        return {"slots": self.slots}


def check(config):
    """OptionError for more slots than there are live bytes for."""
    slots = config.settings["slots"]
    if slots is not None and slots * SLOT_BYTES > config.live:
        raise OptionError(
            f"slots {slots}: so many and what they refer to are {format_size(slots * SLOT_BYTES)}, "
            f"live is {format_size(config.live)}; more live bytes, or fewer slots")
