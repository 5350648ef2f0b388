"""`queue`: first in, first out, through the heap, from a producer to a consumer mutator.

Mutators work in pairs: the even one produces for the odd one after it; a last one without a
partner does both.  A batch is a slot array whose slot 0 refers to the next batch and whose other
slots refer to items, which know their number.  The queue is long: everything lives equally long
and dies in order, which is the opposite of what generations are made for, and every new object is
made reachable from an old one.

A producer's operation makes a batch and publishes it, a consumer's takes one, checks every item
and lets it go.  Who finds the queue full (or shorter than three quarters of that) waits for the
other, outside the heap; that is no operation, and counted in `waits`.

The model, outside the heap: the numbers of batches produced and consumed.
"""
from libc.stdint cimport uint32_t, uint64_t

from gcheap._fastpath cimport (
    gc_acquire_element, gc_alloc, gc_alloc_array, gc_enter, gc_leave, gc_length, gc_load_element,
    gc_poll, gc_publish_element, gc_store_element)
from gcheap.core.layout cimport SHAPE_SLOT_ARRAY, word
from gcheap.core.native cimport clock_ns, load64_relaxed, sleep_ns, store64_relaxed, unlikely
from gcheap.workloads._checks cimport is_object, set_raw
from gcheap.workloads._record cimport BAD_COUNT, BAD_ORDER, BAD_SHAPE, record_failure
from gcheap.workloads.worker cimport Worker

cdef enum:                      # words of the frame
    AT_ANCHORS = 0              # shared slot array: of each pair, what comes before its first
    AT_TAIL = 1                 # producer: the batch made last
    AT_HEAD = 2                 # consumer: the batch taken last; the next hangs on it
    AT_BATCH = 3
    FRAME = 4

cdef enum:
    ITEM_BYTES = 32             # header, number, two words that follow from it
    WAIT_NS = 20000


cdef inline uint64_t item_number(Queue q, uint64_t batch, uint64_t i) noexcept nogil:
    return (q.pair << 56) + batch * q.items + i


cdef bint produce(Queue q) noexcept nogil:
    """Makes a batch and publishes it; false when the heap is exhausted."""
    cdef uint64_t i, number
    cdef word item, batch = gc_alloc_array(q.m, SHAPE_SLOT_ARRAY, q.items + 1)
    if unlikely(batch == 0):
        return False
    q.frame[AT_BATCH] = batch
    for i in range(q.items):
        item = gc_alloc(q.m, q.item)
        if unlikely(item == 0):
            return False
        number = item_number(q, q.made, i)
        set_raw(item, 1, number)
        set_raw(item, 2, ~number)
        set_raw(item, 3, number + 1)
        gc_store_element(q.m, q.frame[AT_BATCH], i + 1, item)
    gc_publish_element(q.m, q.frame[AT_TAIL], 0, q.frame[AT_BATCH])
    q.frame[AT_TAIL] = q.frame[AT_BATCH]
    q.frame[AT_BATCH] = 0
    # Relaxed: the partner only estimates the length by it; the slot publishes the batch.
    store64_relaxed(&q.made, q.made + 1)
    return True


cdef void check_batch(Queue q, word batch, uint64_t which) noexcept nogil:
    cdef uint64_t i, number
    cdef word item
    if not is_object(q.r, batch, SHAPE_SLOT_ARRAY, which):
        return
    if gc_length(batch) != q.items + 1:
        record_failure(q.r, BAD_SHAPE, which, gc_length(batch), q.items + 1)
        return
    for i in range(q.items):
        item = gc_load_element(batch, i + 1)
        number = item_number(q, which, i)
        if not is_object(q.r, item, q.item, number):
            return
        if ((<uint64_t*>item)[1] != number or (<uint64_t*>item)[2] != ~number
                or (<uint64_t*>item)[3] != number + 1):
            record_failure(q.r, BAD_ORDER, which, (<uint64_t*>item)[1], number)
            return


cdef bint consume(Queue q) noexcept nogil:
    """Takes the next batch, if there is one.  Holds no safepoint."""
    cdef word batch = gc_acquire_element(q.frame[AT_HEAD], 0)
    if batch == 0:
        return False
    check_batch(q, batch, q.taken)
    q.frame[AT_HEAD] = batch
    store64_relaxed(&q.taken, q.taken + 1)      # relaxed: see produce
    return True


cdef void wait(Queue q) noexcept nogil:
    """Lets the partner come forward.  The time is no part of an operation.  A safepoint."""
    q.waits += 1
    gc_leave(q.m)
    sleep_ns(WAIT_NS)
    gc_enter(q.m)
    q.r.last_ns = clock_ns()


cdef class Queue(Worker):
    """One mutator of `queue`."""
    cdef Queue partner          # itself, when it is alone
    cdef uint64_t* made_by      # how far the producer and the consumer of the pair are
    cdef uint64_t* taken_by
    cdef uint64_t made
    cdef uint64_t taken
    cdef uint64_t items         # of a batch
    cdef uint64_t limit         # batches in the queue
    cdef uint64_t pair
    cdef uint64_t waits
    cdef uint32_t item
    cdef bint produces
    cdef bint consumes

    DAMAGES = ("number", "item", "lost")

    def __cinit__(self, heap, part):
        self.words = FRAME
        self.shared = AT_TAIL
        self.items = part.settings["batch"]
        self.item = heap.shape("queue.Item", raw=[("number", "u8"), ("check", "V16")]).id
        self.pair = self.index // 2
        self.produces = self.index % 2 == 0
        self.consumes = self.index % 2 == 1 or self.index + 1 == self.mutators
        batch = 16 + 8 * (self.items + 1) + ITEM_BYTES * self.items
        self.limit = max(4, self.share * (1 if self.produces and self.consumes else 2) // batch)
        self.to_build = self.limit if self.produces else 1
        self.built = not self.produces

    def meet(self, workers):
        super().meet(workers)
        self.partner = workers[self.index ^ 1] if (self.index ^ 1) < self.mutators else self
        self.made_by = &self.made if self.produces else &self.partner.made
        self.taken_by = &self.taken if self.consumes else &self.partner.taken

    cdef bint start_shared(self) noexcept nogil:
        cdef uint64_t i, pairs = (self.mutators + 1) // 2
        cdef word made
        if not self.hold_slots(AT_ANCHORS, pairs):
            return False
        for i in range(pairs):
            made = gc_alloc_array(self.m, SHAPE_SLOT_ARRAY, 1)
            if made == 0:
                return False
            gc_store_element(self.m, self.frame[AT_ANCHORS], i, made)
        return True

    cdef bint start(self) noexcept nogil:
        cdef word anchor = gc_load_element(self.frame[AT_ANCHORS], self.pair)
        if self.consumes:
            self.frame[AT_HEAD] = anchor
        if not self.produces:
            return True
        self.frame[AT_TAIL] = anchor
        return self.build_all()

    cdef bint build_one(self, uint64_t i) noexcept nogil:
        return produce(self)

    cdef void loop(self) noexcept nogil:
        if self.consumes:       # both have started: what is taken from now on may die
            gc_store_element(self.m, self.frame[AT_ANCHORS], self.pair, 0)
        Worker.loop(self)

    cdef uint64_t length(self) noexcept nogil:
        # Relaxed: an estimate.  The producer reads too much at worst, the consumer too little.
        return load64_relaxed(self.made_by) - load64_relaxed(self.taken_by)

    cdef bint operation(self) noexcept nogil:
        while self.consumes and not (self.length() > self.limit * 3 // 4 and consume(self)):
            if self.produces:
                break
            wait(self)
            if self.stopping():
                return True
        if self.produces:
            while self.length() >= self.limit:
                wait(self)
                if self.stopping():
                    return True
            if not produce(self):
                return False
        gc_poll(self.m)
        return True

    cdef void check_all(self) noexcept nogil:
        """Everything between head and tail."""
        cdef uint64_t which = self.taken, made = load64_relaxed(self.made_by)   # nobody runs
        if not self.consumes:
            return
        self.frame[AT_BATCH] = gc_load_element(self.frame[AT_HEAD], 0)
        while self.frame[AT_BATCH] and which < made and not self.hopeless():
            check_batch(self, self.frame[AT_BATCH], which)
            self.frame[AT_BATCH] = gc_load_element(self.frame[AT_BATCH], 0)
            which += 1
            gc_poll(self.m)
        if which != made or self.frame[AT_BATCH]:
            record_failure(self.r, BAD_COUNT, self.pair, which, made)
        self.frame[AT_BATCH] = 0

    cdef void break_one(self, int what) noexcept nogil:
        cdef word batch = gc_load_element(self.frame[AT_HEAD], 0)
        if what == 0:
            set_raw(gc_load_element(batch, 1), 1, 5)
        elif what == 1:
            gc_store_element(self.m, batch, self.items, 0)
        else:
            gc_store_element(self.m, self.frame[AT_HEAD], 0, gc_load_element(batch, 0))

    def leave(self):
        super().leave()
        self.partner = None

    def counts(self):
        return {"batches_produced": self.made, "batches_consumed": self.taken,
                "waits": self.waits}

    def sizes(self):
        return {"batches_in_a_queue": self.limit, "items_in_a_batch": self.items}
