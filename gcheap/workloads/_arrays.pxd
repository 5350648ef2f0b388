"""The data of the `array-holes` workload: what stands where, and how big it is.

Every array has a place in one table.  Eight places are a group, the first of which is the
group's *hub*: a slot array with a slot for each of the seven others, spread from its beginning
to its end, so that stores go into the middle of large arrays.  What a place holds is always of
the same kind; its length is drawn anew for each generation.

    bytes   raw array of 1-byte elements    word i of the elements is key + i * STEP
    words   raw array of 8-byte elements    the same
    slots   slot array                      slot i is the tagged value (key + i * STEP) | 1, but
                                            every 256th refers to an Element, which refers back

    key = mix64(place << 32 | generation)

What must be there is known outside the heap, by generation and length of each place (`Entry`):
an array that got lost, is another's or of another generation differs somewhere.
"""
from gcheap.core.layout cimport word
from gcheap.core.objects cimport array_bytes
from gcheap.workloads._random cimport mix64
from gcheap.workloads.worker cimport Worker
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    GROUP = 8
    ELEMENT_EVERY = 256         # slots; the last of so many refers to an Element
    ELEMENT_BYTES = 24          # header, the array, its id
    LINK_BYTES = 40             # header, the array, place, generation, length
    LEAST_BYTES = 16
    HUB_BYTES = 80              # eight slots: the least of a hub
    MOST_BYTES = 4 << 20
    CROSS_BYTES = 1024          # larger arrays do not get into the shared table
    PAGE_WORDS = 512            # what a sample checks
    CHUNK_WORDS = 4096          # written or checked between two polls

cdef enum:                      # kinds of arrays
    KIND_BYTES = 0
    KIND_WORDS = 1
    KIND_SLOTS = 2
    KINDS = 3

cdef enum:                      # words of a mutator's shadow-stack frame
    AT_TABLE = 0                # slot array: all arrays
    AT_CROSS = 1                # slot array: Links to arrays of any mutator
    AT_ARRAY = 2                # the array being made
    FRAME = 3

cdef struct Entry:              # what must stand at a place
    uint64_t length             # elements
    uint32_t generation
    uint32_t present            # 0: a hole

cdef struct Part:               # the places of one mutator: [low, low + count)
    Entry* entries
    uint64_t low
    uint64_t count
    uint64_t budget             # bytes
    uint64_t live               # bytes of the arrays that are present
    uint64_t top                # the largest array, bytes
    uint64_t random
    uint64_t dropped            # arrays ever dropped: the next is at place_of(dropped)
    uint64_t filled             # holes ever filled again

cdef struct Arrays:             # the same for all mutators
    uint64_t places
    uint64_t cross              # entries of the shared table
    uint64_t mutators
    uint32_t shapes[KINDS]
    uint32_t element
    uint32_t link
    uint32_t unused

cdef class Holes(Worker):
    cdef Arrays world
    cdef Part* part             # &own
    cdef uint64_t cross_reads
    cdef Part own

# Each on the mutator's own thread, RUNNING.
cdef bint fill_hole(Holes c, uint64_t place) noexcept nogil    # False: exhausted.  A safepoint
cdef void drop_next(Holes c) noexcept nogil
cdef bint header_holds(Holes c, word array, uint64_t place, uint64_t length) noexcept nogil
cdef void check_words(Holes c, word array, uint64_t place, uint64_t key, uint64_t low,
                      uint64_t high) noexcept nogil
cdef void check_sample(Holes c, uint64_t place) noexcept nogil
cdef void audit_array(Holes c, uint64_t place) noexcept nogil  # A safepoint

cdef inline uint64_t key_of(uint64_t place, uint32_t generation) noexcept nogil:
    return mix64(place << 32 | generation)


cdef inline uint64_t value_at(uint64_t key, uint64_t i) noexcept nogil:
    return key + i * <uint64_t>0x9E3779B97F4A7C15


cdef inline bint is_hub(uint64_t place) noexcept nogil:
    return place % GROUP == 0


cdef inline int kind_of(uint64_t place) noexcept nogil:
    cdef uint64_t bits = mix64(place) % 4
    if is_hub(place) or bits == 0:
        return KIND_SLOTS
    return KIND_WORDS if bits == 1 else KIND_BYTES


cdef inline uint64_t item_of(int kind) noexcept nogil:
    return 1 if kind == KIND_BYTES else 8


cdef inline uint64_t words_of(int kind, uint64_t length) noexcept nogil:
    """Words of an array's elements."""
    return (length + 7) // 8 if kind == KIND_BYTES else length


cdef inline uint64_t tail_mask(int kind, uint64_t length) noexcept nogil:
    """Which bits of the last word of the elements are elements; the others are zero."""
    if kind == KIND_BYTES and length % 8:
        return (<uint64_t>1 << (length % 8 * 8)) - 1
    return <uint64_t>-1


cdef inline uint64_t elements_of(int kind, uint64_t length) noexcept nogil:
    return length // ELEMENT_EVERY if kind == KIND_SLOTS else 0


cdef inline uint64_t link_slot(uint64_t length, uint64_t member) noexcept nogil:
    """Where a hub of `length` slots refers to member 1 … 7 of its group."""
    return member * (length - 1) // (GROUP - 1)


cdef inline bint is_link_slot(uint64_t place, uint64_t length, uint64_t slot) noexcept nogil:
    cdef uint64_t member
    if is_hub(place):
        for member in range(1, GROUP):
            if link_slot(length, member) == slot:
                return True
    return False


cdef inline uint64_t bytes_of(uint64_t place, uint64_t length) noexcept nogil:
    """What an array takes of the budget, with the Elements that are its own."""
    cdef int kind = kind_of(place)
    return array_bytes(item_of(kind), length) + elements_of(kind, length) * ELEMENT_BYTES


cdef inline uint64_t place_of(const Part* p, uint64_t turn) noexcept nogil:
    """Which array goes, and which hole is filled, at that turn: every second place, then the
    others."""
    cdef uint64_t half = p.count // 2
    return p.low + 2 * (turn % half) + (turn // half + 1) % 2


cdef inline Entry* entry_of(Holes c, uint64_t place) noexcept nogil:
    return &c.part.entries[place - c.part.low]
