"""Forwarding and assembly by themselves, on a from-space that is made up, for benchmarks/.

Objects of one shape lie back to back; every second one is live, and its slots lead to live objects
at random.  No heap, no mutator, no kernel: planning, forwarding and assembly are the heap's own.
"""
from gcheap.core.assemble cimport assemble_unit
from gcheap.core.layout cimport (
    Block, BLOCK_WORDS, HeapState, NO_START, SHAPE_FIXED, ShapeInfo, UnitPlan, WORD, word)
from gcheap.core.mark cimport set_live
from gcheap.core.native cimport clock_ns
from gcheap.core.objects cimport header_of_shape
from gcheap.core.plan cimport forward, plan
from gcheap.workloads._random cimport random64, scaled
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    UNIT_WORDS = 8192           # 64 KiB: 16 pages of 4 KiB, the default
    SHAPE = 1


cdef class MadeUpSpace:
    """`live` objects of `words` words (`slots` of them slots), each beside a dead one, planned.

    MemoryError without memory, ValueError for a shape that there cannot be.
    """
    cdef HeapState* h
    cdef word* space
    cdef word* buffer
    cdef readonly uint64_t live
    cdef readonly uint64_t words
    cdef readonly uint64_t slots

    def __cinit__(self, uint64_t live, uint64_t words, uint64_t slots, uint64_t seed=1):
        if not 2 <= words <= UNIT_WORDS or slots >= words or live == 0:
            raise ValueError(f"{live} objects of {words} words, {slots} of them slots: expected "
                             f"2 to {UNIT_WORDS} words and fewer slots")
        self.live, self.words, self.slots = live, words, slots
        cdef uint64_t units = (2 * live * words + UNIT_WORDS - 1) // UNIT_WORDS
        cdef uint64_t blocks = units * UNIT_WORDS // BLOCK_WORDS + 1
        cdef HeapState* h = <HeapState*>calloc(1, sizeof(HeapState))
        self.h = h
        self.space = <word*>calloc(units * UNIT_WORDS, WORD)
        self.buffer = <word*>calloc(UNIT_WORDS, WORD)
        if h != NULL:
            h.blocks = <Block*>calloc(blocks, sizeof(Block))
            h.plan = <UnitPlan*>calloc(units + 1, sizeof(UnitPlan))
            h.states = <uint8_t*>calloc(units + 1, 1)
            h.placed_by = <uint8_t*>calloc(units + 1, 1)
            h.chunk_states = <uint8_t*>calloc(units + 1, 1)
            h.readers = <uint32_t*>calloc(units + 1, sizeof(uint32_t))
            h.shapes = <ShapeInfo*>calloc(SHAPE + 1, sizeof(ShapeInfo))
        if (h == NULL or self.space == NULL or self.buffer == NULL or h.blocks == NULL
                or h.plan == NULL or h.states == NULL or h.placed_by == NULL
                or h.chunk_states == NULL or h.readers == NULL or h.shapes == NULL):
            raise MemoryError(f"no memory for {2 * live} objects of {words} words")
        h.unit_words = UNIT_WORDS
        h.unit_bytes = UNIT_WORDS * WORD
        h.unit_shift = h.unit_bytes.bit_length() - 1
        h.shapes[SHAPE].kind = SHAPE_FIXED
        h.shapes[SHAPE].bytes = words * WORD
        h.shapes[SHAPE].refs = <uint32_t>slots
        h.r.from_base = <word>self.space
        h.r.from_bytes = h.r.tams_bytes = h.alloc_limit = units * h.unit_bytes
        cdef uint64_t i
        for i in range(blocks):
            h.blocks[i].first_start = NO_START
        with nogil:
            self.fill(seed)
            plan(h, True)

    cdef word* at(self, uint64_t i) noexcept nogil:
        """Live object `i`."""
        return self.space + 2 * i * self.words

    cdef void fill(self, uint64_t seed) noexcept nogil:
        cdef uint64_t i, slot, state = seed
        for i in range(2 * self.live):
            (self.space + i * self.words)[0] = header_of_shape(SHAPE)
        for i in range(self.live):
            set_live(self.h.blocks, 2 * i * self.words, self.words)
            for slot in range(self.slots):
                self.at(i)[1 + slot] = <word>self.at(scaled(random64(&state), self.live))

    def __dealloc__(self):
        if self.h != NULL:
            free(self.h.blocks)
            free(self.h.plan)
            free(self.h.states)
            free(self.h.placed_by)
            free(self.h.chunk_states)
            free(self.h.readers)
            free(self.h.shapes)
        free(self.h)
        free(self.space)
        free(self.buffer)

    @property
    def live_bytes(self):
        return self.live * self.words * WORD

    def check(self):
        """Whether every slot that assembly writes leads where its object went: object `i` to word
        `i * words` of to-space."""
        cdef uint64_t unit, index, wrong = 0
        cdef word expected
        for unit in range(self.h.r.slid_units):
            assemble_unit(self.h, unit, <word>self.buffer)
            for index in range(self.h.plan[unit].words):
                expected = self.expected(unit * UNIT_WORDS + index)
                wrong += self.buffer[index] != expected
        return wrong == 0

    cdef word expected(self, uint64_t index) noexcept nogil:
        """What word `index` of to-space must hold."""
        cdef uint64_t inside = index % self.words
        cdef word value = self.at(index // self.words)[inside]
        if 0 < inside <= self.slots:
            value = self.h.r.to_base + (value - <word>self.space) // 2
        return value

    def forward_loop(self, uint64_t count):
        """ns of forwarding `count` references to live objects at random."""
        cdef uint64_t _i, start, elapsed, state = 7, sum = 0
        with nogil:
            start = clock_ns()
            for _i in range(count):
                sum += forward(self.h, <word>self.at(scaled(random64(&state), self.live)))
            elapsed = clock_ns() - start
            self.buffer[0] = sum        # used, or the compiler would leave the loop out
        return elapsed

    def assemble_loop(self, uint64_t count):
        """ns of assembling all units, one after the other, `count` times."""
        cdef uint64_t _i, unit, start, elapsed
        with nogil:
            start = clock_ns()
            for _i in range(count):
                for unit in range(self.h.r.slid_units):
                    assemble_unit(self.h, unit, <word>self.buffer)
            elapsed = clock_ns() - start
        return elapsed
