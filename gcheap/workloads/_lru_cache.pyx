"""`lru-cache`: strings in a table, the least recently used of which makes room for a new one.

Live data of each mutator: a hash table (a slot array of buckets) of entries, each with a string
(a byte array of 16 to 143 bytes, drawn by its key), chained by bucket and in the order of their
last use.  One operation makes a string of a key, which is garbage afterwards, and looks it up: by
the hit ratio a key that is there, drawn at random, or one that never was.

* a hit: the entry is found by walking its bucket; key, time of last use and string are checked;
  it becomes the most recently used
* a miss: the least recently used entry is taken out, which must be the one that the model says;
  a new entry with a new string takes its place

The model, outside the heap: which keys there are, and when each was used last.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free

from gcheap._fastpath cimport (
    gc_alloc, gc_alloc_array, gc_elements, gc_length, gc_load, gc_load_element, gc_poll, gc_store,
    gc_store_element)
from gcheap.core.layout cimport SHAPE_BYTES, word
from gcheap.core.native cimport unlikely
from gcheap.workloads._checks cimport below, is_object, raw_is, set_raw
from gcheap.workloads._random cimport mix64
from gcheap.workloads._record cimport (
    BAD_BYTES, BAD_COUNT, BAD_LINK, BAD_ORDER, own_lines, record_failure)
from gcheap.workloads.worker cimport Worker

cdef enum:                      # words of the frame
    AT_TABLE = 0
    AT_NEWEST = 1               # the ends of the order of use
    AT_OLDEST = 2
    AT_ENTRY = 3                # in hand
    AT_STRING = 4
    AT_ASKED = 5                # the key that is looked up, as a string
    FRAME = 6

cdef enum:                      # slots of an Entry
    NEWER = 0
    OLDER = 1
    NEXT = 2                    # in its bucket
    STRING = 3

cdef enum:                      # words of an Entry
    KEY = 5
    PLACE = 6                   # its number in the model
    USED = 7

cdef enum:
    ENTRY_BYTES = 176           # entry, string, bucket: the mean, and some room
    LEAST_STRING = 16
    ASKED_BYTES = 24

cdef struct Known:              # the model of one entry
    uint64_t key
    uint64_t used


cdef inline uint64_t bucket_of(LruCache c, uint64_t key) noexcept nogil:
    return (mix64(key) >> 32) * c.buckets >> 32


cdef inline uint64_t string_length(uint64_t key) noexcept nogil:
    return LEAST_STRING + mix64(key) % 128


cdef void fill_string(word string, uint64_t key) noexcept nogil:
    cdef uint64_t i, seed = mix64(key)
    for i in range(gc_length(string)):
        gc_elements(string)[i] = (seed >> (i % 8 * 8)) + i


cdef void check_string(LruCache c, word string, uint64_t key) noexcept nogil:
    cdef uint64_t i, seed = mix64(key)
    if not is_object(c.r, string, SHAPE_BYTES, key):
        return
    if gc_length(string) != string_length(key):
        record_failure(c.r, BAD_BYTES, key, gc_length(string), string_length(key))
        return
    for i in range(gc_length(string)):
        if gc_elements(string)[i] != ((seed >> (i % 8 * 8)) + i) % 256:
            record_failure(c.r, BAD_BYTES, key, i, gc_length(string))
            return


cdef word find(LruCache c, uint64_t key) noexcept nogil:
    """The entry of that key, or 0.  Holds no safepoint."""
    cdef word at = gc_load_element(c.frame[AT_TABLE], bucket_of(c, key))
    cdef uint64_t steps = 0
    while at:
        if not is_object(c.r, at, c.entry, key):
            return 0
        if (<uint64_t*>at)[KEY] == key:
            return at
        at = gc_load(at, NEXT)
        steps += 1
        if unlikely(steps > c.count):
            record_failure(c.r, BAD_LINK, key, steps, c.count)
            return 0
    return 0


cdef void unlink(LruCache c, word entry) noexcept nogil:
    """Out of the order of use."""
    cdef word newer = gc_load(entry, NEWER), older = gc_load(entry, OLDER)
    if newer:
        gc_store(c.m, newer, OLDER, older)
    else:
        c.frame[AT_NEWEST] = older
    if older:
        gc_store(c.m, older, NEWER, newer)
    else:
        c.frame[AT_OLDEST] = newer


cdef void use(LruCache c, word entry) noexcept nogil:
    """It becomes the newest in the order of use."""
    cdef word newest = c.frame[AT_NEWEST]
    c.clock += 1
    set_raw(entry, USED, c.clock)
    c.known[(<uint64_t*>entry)[PLACE]].used = c.clock
    gc_store(c.m, entry, NEWER, 0)
    gc_store(c.m, entry, OLDER, newest)
    if newest:
        gc_store(c.m, newest, NEWER, entry)
    else:
        c.frame[AT_OLDEST] = entry
    c.frame[AT_NEWEST] = entry


cdef void forget_oldest(LruCache c, uint64_t place) noexcept nogil:
    """Takes the oldest entry, which must be the one of `place`, out of everything."""
    cdef word oldest = c.frame[AT_OLDEST], at, next
    cdef uint64_t bucket, key = c.known[place].key
    if not (is_object(c.r, oldest, c.entry, place) and raw_is(c.r, oldest, KEY, key, place)):
        return
    if (<uint64_t*>oldest)[USED] != c.known[place].used:
        record_failure(c.r, BAD_ORDER, place, (<uint64_t*>oldest)[USED], c.known[place].used)
    check_string(c, gc_load(oldest, STRING), key)
    unlink(c, oldest)
    bucket = bucket_of(c, key)
    at = gc_load_element(c.frame[AT_TABLE], bucket)
    if at == oldest:
        gc_store_element(c.m, c.frame[AT_TABLE], bucket, gc_load(oldest, NEXT))
        return
    while at:
        next = gc_load(at, NEXT)
        if next == oldest:
            gc_store(c.m, at, NEXT, gc_load(oldest, NEXT))
            return
        at = next
    record_failure(c.r, BAD_LINK, place, 0, key)


cdef bint insert(LruCache c, uint64_t place, uint64_t key) noexcept nogil:
    """A new entry; false when the heap is exhausted."""
    cdef uint64_t bucket = bucket_of(c, key)
    cdef word entry, string = gc_alloc_array(c.m, SHAPE_BYTES, string_length(key))
    if unlikely(string == 0):
        return False
    fill_string(string, key)
    c.frame[AT_STRING] = string
    entry = gc_alloc(c.m, c.entry)
    if unlikely(entry == 0):
        return False
    set_raw(entry, KEY, key)
    set_raw(entry, PLACE, place)
    gc_store(c.m, entry, STRING, c.frame[AT_STRING])
    gc_store(c.m, entry, NEXT, gc_load_element(c.frame[AT_TABLE], bucket))
    gc_store_element(c.m, c.frame[AT_TABLE], bucket, entry)
    c.known[place].key = key
    use(c, entry)
    c.frame[AT_STRING] = 0
    return True


cdef bint ask(LruCache c, uint64_t key) noexcept nogil:
    """Makes the string of a key; false when the heap is exhausted."""
    cdef word asked = gc_alloc_array(c.m, SHAPE_BYTES, ASKED_BYTES)
    if unlikely(asked == 0):
        return False
    (<uint64_t*>gc_elements(asked))[0] = key
    (<uint64_t*>gc_elements(asked))[1] = ~key
    (<uint64_t*>gc_elements(asked))[2] = key + 1
    c.frame[AT_ASKED] = asked
    return True


cdef word answer(LruCache c) noexcept nogil:
    """The entry of the key that was asked for, or 0.  Holds no safepoint."""
    cdef const uint64_t* asked = <const uint64_t*>gc_elements(c.frame[AT_ASKED])
    if unlikely(asked[1] != ~asked[0] or asked[2] != asked[0] + 1):
        record_failure(c.r, BAD_BYTES, asked[0], asked[1], ~asked[0])
    return find(c, asked[0])


cdef bint hit(LruCache c) noexcept nogil:
    """False when the heap is exhausted."""
    cdef uint64_t place = below(c, c.count)
    cdef uint64_t key = c.known[place].key
    cdef word entry
    if not ask(c, key):
        return False
    gc_poll(c.m)                # so that a cycle may come between asking and looking
    entry = answer(c)
    if unlikely(entry == 0):
        record_failure(c.r, BAD_LINK, place, 0, key)
        return True
    if not raw_is(c.r, entry, PLACE, place, place):
        return True
    raw_is(c.r, entry, USED, c.known[place].used, place)
    check_string(c, gc_load(entry, STRING), key)
    unlink(c, entry)
    use(c, entry)
    c.hits += 1
    return True


cdef uint64_t oldest_place(LruCache c) noexcept nogil:
    """What the oldest entry says; forget_oldest compares it with the model."""
    cdef word oldest = c.frame[AT_OLDEST]
    if not is_object(c.r, oldest, c.entry, 0):
        return c.count
    return (<uint64_t*>oldest)[PLACE]


cdef bint miss(LruCache c) noexcept nogil:
    """False when the heap is exhausted."""
    cdef uint64_t place, _i, key = c.last_key + 1
    c.misses += 1
    if not ask(c, key):
        return False
    if unlikely(answer(c)):
        record_failure(c.r, BAD_LINK, key, 1, 0)
    place = oldest_place(c)
    if unlikely(place >= c.count):
        record_failure(c.r, BAD_LINK, key, place, c.count)
        return True
    # That no entry was used before it, by the model: a sample.
    for _i in range(4):
        if c.known[below(c, c.count)].used < c.known[place].used:
            record_failure(c.r, BAD_ORDER, place, c.known[place].used, 0)
    forget_oldest(c, place)
    c.last_key = key
    return insert(c, place, key)


cdef class LruCache(Worker):
    """One mutator of `lru-cache`."""
    cdef Known* known
    cdef uint64_t count         # of entries
    cdef uint64_t buckets
    cdef uint64_t clock
    cdef uint64_t last_key
    cdef uint64_t hits
    cdef uint64_t misses
    cdef uint64_t ratio         # percent
    cdef uint32_t entry

    DAMAGES = ("string", "key", "order", "lost")

    def __cinit__(self, heap, part):
        self.words = FRAME
        self.ratio = part.settings["hit_ratio"]
        self.count = self.to_build = self.share // ENTRY_BYTES
        self.buckets = self.count
        self.entry = heap.shape("lru-cache.Entry", refs=("newer", "older", "next", "string"),
                                raw=[("key", "u8"), ("place", "u8"), ("used", "u8")]).id
        self.known = <Known*>own_lines(self.count * sizeof(Known), "the model of a cache")

    def __dealloc__(self):
        free(self.known)

    cdef bint start(self) noexcept nogil:
        return self.hold_slots(AT_TABLE, self.buckets) and self.build_all()

    cdef bint build_one(self, uint64_t i) noexcept nogil:
        self.last_key = i
        return insert(self, i, i)

    cdef bint operation(self) noexcept nogil:
        if not (hit(self) if below(self, 100) < self.ratio else miss(self)):
            return False
        gc_poll(self.m)
        return True

    cdef void check_all(self) noexcept nogil:
        """From the newest to the oldest: each once, each later than the next, each findable."""
        cdef uint64_t seen = 0, place, used = <uint64_t>-1
        self.frame[AT_ENTRY] = self.frame[AT_NEWEST]
        while self.frame[AT_ENTRY] and seen <= self.count and not self.hopeless():
            if not is_object(self.r, self.frame[AT_ENTRY], self.entry, seen):
                break
            place = (<uint64_t*>self.frame[AT_ENTRY])[PLACE]
            if place >= self.count or not raw_is(self.r, self.frame[AT_ENTRY], KEY,
                                                 self.known[place].key, place):
                record_failure(self.r, BAD_LINK, seen, place, self.count)
                break
            raw_is(self.r, self.frame[AT_ENTRY], USED, self.known[place].used, place)
            if self.known[place].used >= used:
                record_failure(self.r, BAD_ORDER, place, self.known[place].used, used)
            used = self.known[place].used
            check_string(self, gc_load(self.frame[AT_ENTRY], STRING), self.known[place].key)
            if find(self, self.known[place].key) != self.frame[AT_ENTRY]:
                record_failure(self.r, BAD_LINK, place, 0, self.known[place].key)
            self.frame[AT_ENTRY] = gc_load(self.frame[AT_ENTRY], OLDER)
            seen += 1
            gc_poll(self.m)
        self.frame[AT_ENTRY] = 0
        if seen != self.count:
            record_failure(self.r, BAD_COUNT, 0, seen, self.count)

    cdef void break_one(self, int what) noexcept nogil:
        cdef word entry = self.frame[AT_NEWEST]
        if what == 0:
            gc_elements(gc_load(entry, STRING))[3] ^= 1
        elif what == 1:
            set_raw(entry, KEY, (<uint64_t*>entry)[KEY] + 1)
        elif what == 2:
            set_raw(entry, USED, 0)
        else:
            gc_store_element(self.m, self.frame[AT_TABLE],
                             bucket_of(self, (<uint64_t*>entry)[KEY]), 0)

    def counts(self):
        return {"hits": self.hits, "misses": self.misses}

    def sizes(self):
        return {"entries_a_mutator": self.count}
