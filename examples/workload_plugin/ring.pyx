"""The worker of `ring`: a ring of numbered nodes; one operation renews the next 16 of them."""
from gcheap.workloads.worker cimport BAD_COUNT, BAD_ORDER, Worker, record_failure
from libc.stdint cimport uint32_t, uint64_t

from gcheap cimport heap

cdef enum:
    AT_NODE = 0                 # words of the frame: where in the ring,
    AT_FIRST = 1                # ... and its first node, while it is built
    FRAME = 2
    NUMBER = 2                  # word of a node: header, next, number, how often it was renewed
    NODE_BYTES = 32
    RENEWED = 16                # nodes an operation


cdef class Ring(Worker):
    """One mutator of `ring`."""
    cdef uint64_t count
    cdef uint64_t at            # number of the node in hand
    cdef uint64_t rounds
    cdef uint32_t node

    DAMAGES = ("number", "cut")

    def __cinit__(self, gcheap_heap, part):
        self.words = FRAME
        self.count = self.to_build = self.share * 15 // 16 // NODE_BYTES
        self.node = gcheap_heap.shape("ring.Node", refs=("next",),
                                      raw=[("number", "u8"), ("round", "u8")]).id

    cdef bint start(self) noexcept nogil:
        cdef uint64_t number
        cdef heap.word made
        for number in range(self.count):
            if self.stopping():
                return True
            made = heap.gc_alloc(self.m, self.node)     # a safepoint: only the frame is safe
            if made == 0:
                return False
            (<uint64_t*>made)[NUMBER] = number
            if number:
                heap.gc_store(self.m, self.frame[AT_NODE], 0, made)
            else:
                self.frame[AT_FIRST] = made
            self.frame[AT_NODE] = made
            self.one_built()
        heap.gc_store(self.m, self.frame[AT_NODE], 0, self.frame[AT_FIRST])
        self.frame[AT_FIRST] = 0
        self.at = self.count - 1
        return True

    cdef heap.word next_node(self) noexcept nogil:
        """The node after the one in hand, checked; 0 when it is another."""
        cdef heap.word next = heap.gc_load(self.frame[AT_NODE], 0)
        cdef uint64_t number = (self.at + 1) % self.count
        if next == 0 or (<uint64_t*>next)[NUMBER] != number:
            record_failure(self.r, BAD_ORDER, number, (<uint64_t*>next)[NUMBER] if next else 0,
                           number)
            return 0
        return next

    cdef bint operation(self) noexcept nogil:
        cdef heap.word fresh, old
        cdef int _i
        for _i in range(RENEWED):
            fresh = heap.gc_alloc(self.m, self.node)
            if fresh == 0:
                return False
            old = self.next_node()
            if old == 0:
                return True
            self.at = (self.at + 1) % self.count
            (<uint64_t*>fresh)[NUMBER] = self.at
            (<uint64_t*>fresh)[NUMBER + 1] = (<uint64_t*>old)[NUMBER + 1] + 1
            heap.gc_store(self.m, fresh, 0, heap.gc_load(old, 0))
            heap.gc_store(self.m, self.frame[AT_NODE], 0, fresh)
            self.frame[AT_NODE] = fresh
            self.rounds += self.at == 0
        heap.gc_poll(self.m)
        return True

    cdef void check_all(self) noexcept nogil:
        cdef uint64_t seen = 0
        cdef heap.word next
        while seen < self.count:
            next = self.next_node()
            if next == 0:
                break
            self.frame[AT_NODE] = next
            self.at = (self.at + 1) % self.count
            seen += 1
            heap.gc_poll(self.m)
        if seen != self.count:
            record_failure(self.r, BAD_COUNT, 0, seen, self.count)

    cdef void break_one(self, int what) noexcept nogil:
        cdef heap.word next = heap.gc_load(self.frame[AT_NODE], 0)
        if what == 0:
            (<uint64_t*>next)[NUMBER] += 1
        else:
            heap.gc_store(self.m, self.frame[AT_NODE], 0, heap.gc_load(next, 0))

    def counts(self):
        return {"rounds": self.rounds}

    def sizes(self):
        return {"nodes_a_mutator": self.count}
