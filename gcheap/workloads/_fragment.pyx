"""`fragment`: survivors of growing sizes, left thinly everywhere.

What defeats a heap that cannot move objects (J. Robson, "Bounds for some functions concerning
dynamic storage allocation", 1974): objects of one size fill the room, most of them die, and the
survivors leave holes that are too small for the next, larger size.  Here objects are byte arrays
whose size doubles round by round, from 24 bytes to a 64th of the mutator's live bytes, at most
32 KiB, and then starts anew.  All go into a queue of the recent; one in eight also goes into a
queue of survivors, which is twice as long in bytes.  So an eighth of every stretch of the heap
survives for long, and no stretch is ever dense.

One operation allocates one object; every object that leaves a queue is checked, word by word,
and so is all that is left in the audit.
"""
from libc.stdint cimport uint64_t
from libc.stdlib cimport free

from gcheap._fastpath cimport (
    gc_alloc_array, gc_elements, gc_length, gc_load_element, gc_poll, gc_store_element)
from gcheap.core.layout cimport SHAPE_BYTES, word
from gcheap.core.native cimport unlikely
from gcheap.workloads._checks cimport is_object
from gcheap.workloads._random cimport mix64
from gcheap.workloads._record cimport BAD_BYTES, BAD_SHAPE, own_lines, record_failure
from gcheap.workloads.worker cimport Worker

cdef enum:                      # the two queues, and their words of the frame
    RECENT = 0
    KEPT = 1
    QUEUES = 2

cdef enum:
    LEAST = 8                   # bytes of elements
    OVERHEAD = 24               # header, length, and the slot of the queue
    SURVIVES = 8                # one in so many

cdef struct Made:               # the model of one object
    uint64_t id
    uint64_t words

cdef struct Ring:
    Made* made
    uint64_t room               # places
    uint64_t first              # objects ever taken out,
    uint64_t next               # ... and put in
    uint64_t bytes
    uint64_t budget


cdef void check_made(Fragment f, int queue, uint64_t at) noexcept nogil:
    """The object of that number in a queue, whole.  Holds no safepoint."""
    cdef Ring* ring = &f.rings[queue]
    cdef Made* made = &ring.made[at % ring.room]
    cdef word found = gc_load_element(f.frame[queue], at % ring.room)
    cdef uint64_t i, seed = mix64(made.id)
    if not is_object(f.r, found, SHAPE_BYTES, made.id):
        return
    if gc_length(found) != made.words * 8:
        record_failure(f.r, BAD_SHAPE, made.id, gc_length(found), made.words * 8)
        return
    for i in range(made.words):
        if (<uint64_t*>gc_elements(found))[i] != seed + i:
            record_failure(f.r, BAD_BYTES, made.id, (<uint64_t*>gc_elements(found))[i], seed + i)
            return


cdef void put(Fragment f, int queue, word obj, uint64_t words) noexcept nogil:
    """Puts a new object in and takes as many out as its room needs.  Holds no safepoint."""
    cdef Ring* ring = &f.rings[queue]
    cdef uint64_t cost = words * 8 + OVERHEAD, at
    while ring.first < ring.next and (ring.bytes + cost > ring.budget
                                      or ring.next - ring.first == ring.room):
        at = ring.first % ring.room
        check_made(f, queue, ring.first)
        gc_store_element(f.m, f.frame[queue], at, 0)
        ring.bytes -= ring.made[at].words * 8 + OVERHEAD
        ring.first += 1
    at = ring.next % ring.room
    ring.made[at] = Made(f.last_id, words)
    gc_store_element(f.m, f.frame[queue], at, obj)
    ring.bytes += cost
    ring.next += 1


cdef bint make_one(Fragment f) noexcept nogil:
    """False when the heap is exhausted."""
    cdef uint64_t words = f.size // 8, i, seed
    cdef word obj = gc_alloc_array(f.m, SHAPE_BYTES, f.size)
    if unlikely(obj == 0):
        return False
    f.last_id += 1
    seed = mix64(f.last_id)
    for i in range(words):
        (<uint64_t*>gc_elements(obj))[i] = seed + i
    put(f, RECENT, obj, words)
    if f.last_id % SURVIVES == 0:
        put(f, KEPT, obj, words)
    f.in_round += words * 8 + OVERHEAD
    if f.in_round > f.share:
        f.in_round = 0
        f.size = f.size * 2 if f.size < f.largest else <uint64_t>LEAST
        f.rounds += 1
    return True


cdef class Fragment(Worker):
    """One mutator of `fragment`."""
    cdef Ring rings[2]
    cdef uint64_t last_id
    cdef uint64_t size          # of this round
    cdef uint64_t largest
    cdef uint64_t in_round      # bytes allocated in it
    cdef uint64_t rounds

    DAMAGES = ("recent", "survivor", "lost")

    def __cinit__(self, heap, part):
        cdef int queue
        self.words = QUEUES
        self.size = LEAST
        self.largest = LEAST
        while self.largest * 2 <= min(32768, self.share // 64):
            self.largest *= 2
        # With the slot arrays, a quarter of the budgets, nine tenths of the live bytes.
        self.rings[RECENT].budget = self.share // 4
        self.rings[KEPT].budget = self.share // 2
        for queue in range(QUEUES):
            self.rings[queue].room = self.rings[queue].budget // (LEAST + OVERHEAD)
            self.rings[queue].made = <Made*>own_lines(
                self.rings[queue].room * sizeof(Made), "the model of the survivors")
        self.to_build = self.rings[KEPT].budget

    def __dealloc__(self):
        cdef int queue
        for queue in range(QUEUES):
            free(self.rings[queue].made)

    cdef bint start(self) noexcept nogil:
        """The first rounds, of the smallest sizes."""
        cdef int queue
        for queue in range(QUEUES):
            if not self.hold_slots(queue, self.rings[queue].room):
                return False
        while self.rounds < SURVIVES // 2 and not self.stopping():
            if not make_one(self):
                return False
            self.set_built(self.rings[KEPT].bytes)
        return True

    cdef bint operation(self) noexcept nogil:
        if not make_one(self):
            return False
        gc_poll(self.m)
        return True

    cdef void check_all(self) noexcept nogil:
        cdef int queue
        cdef uint64_t at
        for queue in range(QUEUES):
            for at in range(self.rings[queue].first, self.rings[queue].next):
                check_made(self, queue, at)
                gc_poll(self.m)
                if self.hopeless():
                    return

    cdef void break_one(self, int what) noexcept nogil:
        cdef int queue = RECENT if what == 0 else KEPT
        cdef uint64_t at = (self.rings[queue].next - 1) % self.rings[queue].room
        cdef word obj = gc_load_element(self.frame[queue], at)
        if what < 2:
            gc_elements(obj)[gc_length(obj) - 1] ^= 1
        else:
            gc_store_element(self.m, self.frame[queue], at, 0)

    def counts(self):
        return {"objects": self.last_id, "survivors": self.rings[KEPT].next,
                "rounds": self.rounds}

    def sizes(self):
        return {"largest_bytes": self.largest}
