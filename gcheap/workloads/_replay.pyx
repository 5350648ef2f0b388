"""`replay`: the allocations, links and deaths of a real program, from a trace.

Each mutator replays the whole trace on its own, again and again; `traces.py` has read and checked
it.  One event is an operation.  An object without slots becomes a byte array of its size, one with
slots a slot array, the rest of which is tagged values; both are filled with words that follow from
the object's number and the round.  An object is held by a table until its death; after that it
lives as long as others refer to it.

Checked are: each object when it dies, each slot before it is overwritten, and in the audit
everything that is alive, slot by slot.
"""
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memset

from gcheap._fastpath cimport (
    gc_alloc_array, gc_elements, gc_length, gc_load_element, gc_poll, gc_store_element)
from gcheap.core.layout cimport SHAPE_BYTES, SHAPE_SLOT_ARRAY, word
from gcheap.core.native cimport store64_relaxed, unlikely
from gcheap.workloads._checks cimport is_object
from gcheap.workloads._random cimport mix64
from gcheap.workloads._record cimport (
    BAD_BYTES, BAD_LINK, BAD_SHAPE, BAD_SLOT, own_lines, record_failure)
from gcheap.workloads.worker cimport Worker

from gcheap.workloads import traces

cdef enum:                      # Event.op, as in traces.py
    ALLOCATE = 0
    LINK = 1
    DIE = 2

cdef enum:
    SAMPLE_WORDS = 64           # of a large object, checked at either end
    CHUNK_WORDS = 4096          # filled between two polls

cdef packed struct Event:       # traces.EVENT
    uint32_t op
    uint32_t object
    uint32_t slot
    uint32_t target

cdef packed struct Traced:      # traces.OBJECT
    uint64_t bytes
    uint32_t slots
    uint32_t place
    uint64_t links


cdef inline uint64_t length_of(const Traced* t) noexcept nogil:
    """Elements: bytes, or slots with the number in front."""
    return max(t.bytes // 8, <uint64_t>t.slots + 1) if t.slots else t.bytes


cdef inline uint64_t words_of(const Traced* t) noexcept nogil:
    """Whole words of the elements."""
    return length_of(t) if t.slots else t.bytes // 8


cdef inline uint64_t value_at(Replay p, uint64_t number, uint64_t round, uint64_t i) noexcept nogil:
    """Word `i` of an object's elements, where it is no link."""
    cdef uint64_t value = mix64(round << 32 | number) + i
    return value | 1 if p.objects[number].slots else value


cdef inline bint is_link(const Traced* t, uint64_t i) noexcept nogil:
    return t.slots and 1 <= i <= t.slots


cdef bint check_object(Replay p, word obj, uint64_t number, bint whole) noexcept nogil:
    """Shape, length and contents, but for links; whether it is that object, whatever its
    contents.  Holds no safepoint."""
    cdef const Traced* t = &p.objects[number]
    cdef uint64_t words = words_of(t), i, found, wanted
    if not is_object(p.r, obj, SHAPE_SLOT_ARRAY if t.slots else SHAPE_BYTES, number):
        return False
    if unlikely(gc_length(obj) != length_of(t)):
        record_failure(p.r, BAD_SHAPE, number, gc_length(obj), length_of(t))
        return False
    for i in range(words):
        if i >= SAMPLE_WORDS and i + SAMPLE_WORDS < words and not whole:
            continue
        found, wanted = (<uint64_t*>gc_elements(obj))[i], value_at(p, number, p.rounds, i)
        if not is_link(t, i) and unlikely(found != wanted):
            record_failure(p.r, BAD_SLOT if t.slots else BAD_BYTES, number, found, wanted)
            break
    return True


cdef void check_link(Replay p, word obj, uint64_t number, uint64_t slot) noexcept nogil:
    """That a slot refers to what the model says, dead or alive.  Holds no safepoint."""
    cdef uint32_t target = p.links[p.objects[number].links + slot]
    cdef word found = gc_load_element(obj, slot + 1)
    if target == 0:
        if unlikely(found):
            record_failure(p.r, BAD_LINK, number, found, 0)
    else:
        check_object(p, found, target - 1, False)


cdef bint fill(Replay p, uint64_t number) noexcept nogil:
    """Fills the new object at its place, a chunk between two safepoints."""
    cdef const Traced* t = &p.objects[number]
    cdef uint64_t words = words_of(t), i
    cdef uint64_t* at = <uint64_t*>gc_elements(gc_load_element(p.frame[0], t.place))
    for i in range(words):
        if i % CHUNK_WORDS == CHUNK_WORDS - 1:
            gc_poll(p.m)
            at = <uint64_t*>gc_elements(gc_load_element(p.frame[0], t.place))
        if not is_link(t, i):
            # Relaxed: the marker may be reading it.  What was there is null: no barrier.
            store64_relaxed(at + i, value_at(p, number, p.rounds, i))
    return True


cdef bint allocate(Replay p, uint64_t number) noexcept nogil:
    """False when the heap is exhausted."""
    cdef const Traced* t = &p.objects[number]
    cdef word obj = gc_alloc_array(p.m, SHAPE_SLOT_ARRAY if t.slots else SHAPE_BYTES, length_of(t))
    if unlikely(obj == 0):
        return False
    gc_store_element(p.m, p.frame[0], t.place, obj)
    p.current[t.place] = <uint32_t>number + 1
    memset(&p.links[t.links], 0, t.slots * sizeof(uint32_t))
    return fill(p, number)


cdef void link(Replay p, uint64_t number, uint64_t slot, uint32_t target) noexcept nogil:
    cdef word obj = gc_load_element(p.frame[0], p.objects[number].place), to = 0
    if not is_object(p.r, obj, SHAPE_SLOT_ARRAY, number):
        return
    check_link(p, obj, number, slot)
    if target:
        to = gc_load_element(p.frame[0], p.objects[target - 1].place)
    gc_store_element(p.m, obj, slot + 1, to)
    p.links[p.objects[number].links + slot] = target


cdef void die(Replay p, uint64_t number) noexcept nogil:
    cdef uint64_t place = p.objects[number].place
    check_object(p, gc_load_element(p.frame[0], place), number, False)
    gc_store_element(p.m, p.frame[0], place, 0)
    p.current[place] = 0


cdef class Replay(Worker):
    """One mutator of `replay`."""
    cdef object trace           # keeps both arrays; no typed views: their modules can be unpickled
    cdef const Event* events
    cdef const Traced* objects
    cdef uint32_t* links        # the model: where each slot leads, an object's number plus 1,
    cdef uint32_t* current      # ... and which object each place of the table holds
    cdef uint64_t places
    cdef uint64_t count         # of events
    cdef uint64_t at
    cdef uint64_t rounds
    cdef uint64_t peak

    DAMAGES = ("bytes", "slot", "lost")

    def __cinit__(self, heap, part):
        path = part.settings["file"]
        trace = traces.drawn(part.seed, self.share) if path is None else traces.read(path)
        self.words = 1
        if (trace.events.itemsize != sizeof(Event) or trace.objects.itemsize != sizeof(Traced)
                or not (trace.events.flags.c_contiguous and trace.objects.flags.c_contiguous)):
            raise TypeError("a trace's arrays are laid out otherwise than what replays them")
        self.trace = trace
        self.events = <const Event*><uintptr_t>trace.events.ctypes.data
        self.objects = <const Traced*><uintptr_t>trace.objects.ctypes.data
        self.count, self.places, self.peak = len(trace.events), trace.places, trace.peak_bytes
        self.to_build = self.places
        self.links = <uint32_t*>own_lines(trace.slots * 4 + 4, "the model of a trace")
        self.current = <uint32_t*>own_lines(trace.places * 4, "the model of a trace")

    def __dealloc__(self):
        free(self.links)
        free(self.current)

    cdef bint start(self) noexcept nogil:
        self.set_built(self.to_build)       # what there is to build is the trace's
        return self.hold_slots(0, self.places)

    cdef bint operation(self) noexcept nogil:
        cdef const Event* e = &self.events[self.at]
        if e.op == ALLOCATE:
            if not allocate(self, e.object):
                return False
        elif e.op == LINK:
            link(self, e.object, e.slot, e.target)
        else:
            die(self, e.object)
        self.at += 1
        if self.at == self.count:
            self.at = 0
            self.rounds += 1
        gc_poll(self.m)
        return True

    cdef void check_one(self, uint64_t place) noexcept nogil:
        cdef word obj = gc_load_element(self.frame[0], place)
        cdef uint64_t number, slot
        if self.current[place] == 0:
            if obj:
                record_failure(self.r, BAD_SLOT, place, obj, 0)
            return
        number = self.current[place] - 1
        if check_object(self, obj, number, True):
            for slot in range(self.objects[number].slots):
                check_link(self, obj, number, slot)

    cdef uint64_t living(self, bint slots) noexcept nogil:
        """A place whose object has slots, or none and some bytes; `places` when there is none."""
        cdef uint64_t place
        cdef const Traced* t
        for place in range(self.places):
            if self.current[place]:
                t = &self.objects[self.current[place] - 1]
                if (t.slots > 0) == slots and t.bytes >= 16:
                    return place
        return self.places

    cdef void break_one(self, int what) noexcept nogil:
        cdef uint64_t place = self.living(what == 1)
        cdef word obj
        if place < self.places:
            obj = gc_load_element(self.frame[0], place)
            if what == 0:
                (<uint64_t*>gc_elements(obj))[0] ^= 1
            elif what == 1:
                gc_store_element(self.m, obj, 1, gc_load_element(obj, 1) or obj)
                gc_store_element(self.m, obj, 0, 9)
            else:
                gc_store_element(self.m, self.frame[0], place, 0)

    def counts(self):
        return {"events": self.operations, "rounds": self.rounds}

    def sizes(self):
        return {"trace_events": self.count, "trace_objects": len(self.trace.objects),
                "trace_peak_bytes": self.peak}


def check(config):
    """OptionError for a trace that cannot be read, or has more alive than the live bytes."""
    if config.settings["file"] is not None:
        traces.check_fits(traces.read(config.settings["file"]), config)
