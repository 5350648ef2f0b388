"""Arrays of the `array-holes` workload: making one, and checking one.

Everything that a mutator does to one place of the table.  What must stand there is known by its
`Entry`; a local address never lives across a safepoint, and what must is in the shadow-stack
frame (AT_...).
"""
from libc.math cimport exp2, log2
from libc.stdint cimport uint64_t

from gcheap._fastpath cimport (
    gc_alloc, gc_alloc_array, gc_elements, gc_length, gc_load, gc_load_element, gc_poll, gc_store,
    gc_store_element)
from gcheap.core.layout cimport word
from gcheap.core.native cimport store64_relaxed, unlikely
from gcheap.core.objects cimport shape_of_header
from gcheap.workloads._random cimport random64, scaled
from gcheap.workloads._record cimport (
    BAD_BYTES, BAD_ID, BAD_LINK, BAD_SHAPE, BAD_SLOT, record_failure)
from gcheap.workloads.worker cimport Worker


# ---- making ------------------------------------------------------------------------------

cdef uint64_t draw_length(Part* p, uint64_t place) noexcept nogil:
    """Elements of the next array at `place`: log-uniform, or what is left of the budget."""
    cdef uint64_t left = p.budget - min(p.budget, p.live)
    cdef double span = log2(<double>p.top) - log2(<double>LEAST_BYTES)
    cdef double share = (random64(&p.random) >> 11) * (1.0 / (<uint64_t>1 << 53))
    cdef uint64_t nbytes = <uint64_t>exp2(log2(<double>LEAST_BYTES) + share * span)
    nbytes = max(min(nbytes, left), <uint64_t>(HUB_BYTES if is_hub(place) else LEAST_BYTES))
    return (nbytes - 16) // item_of(kind_of(place))


cdef void fill_words(Holes c, int kind, uint64_t length, uint64_t key) noexcept nogil:
    """Writes every word of a fresh array, a chunk between two safepoints.

    A slot's old value is null, so it needs no barrier; relaxed stores, one a word, because the
    marker may be reading them.
    """
    cdef uint64_t words = words_of(kind, length), at = 0, upto, i
    cdef uint64_t tag = 1 if kind == KIND_SLOTS else 0, mask
    cdef uint64_t* to
    while at < words:
        upto = min(words, at + CHUNK_WORDS)
        to = <uint64_t*>gc_elements(c.frame[AT_ARRAY])
        for i in range(at, upto):
            mask = tail_mask(kind, length) if i + 1 == words else <uint64_t>-1
            store64_relaxed(to + i, (value_at(key, i) | tag) & mask)
        at = upto
        gc_poll(c.m)


cdef bint make_elements(Holes c, uint64_t length, uint64_t key) noexcept nogil:
    cdef uint64_t slot = ELEMENT_EVERY - 1
    cdef word element
    while slot < length:
        element = gc_alloc(c.m, c.world.element)
        if unlikely(element == 0):
            return False
        gc_store(c.m, element, 0, c.frame[AT_ARRAY])
        (<uint64_t*>element)[2] = value_at(key, slot)
        gc_store_element(c.m, c.frame[AT_ARRAY], slot, element)
        slot += ELEMENT_EVERY
        gc_poll(c.m)
    return True


cdef void link_hub(Holes c, uint64_t place, uint64_t length) noexcept nogil:
    """A new hub refers to what its group holds now."""
    cdef uint64_t member
    for member in range(1, GROUP):
        gc_store_element(c.m, c.frame[AT_ARRAY], link_slot(length, member),
                         gc_load_element(c.frame[AT_TABLE], place + member))


cdef void link_to_hub(Holes c, uint64_t place, word array) noexcept nogil:
    """The hub of a member, unless that is a hole, refers to `array` now."""
    cdef uint64_t hub = place // GROUP * GROUP
    cdef word at = gc_load_element(c.frame[AT_TABLE], hub)
    if at and hub != place:
        gc_store_element(c.m, at, link_slot(gc_length(at), place - hub), array)


cdef bint fill_hole(Holes c, uint64_t place) noexcept nogil:
    """Allocates, fills and links the next array at `place`; false when the heap is exhausted."""
    cdef Entry* e = entry_of(c, place)
    cdef int kind = kind_of(place)
    cdef uint64_t length = draw_length(c.part, place)
    cdef uint64_t key = key_of(place, e.generation + 1)
    cdef word array = gc_alloc_array(c.m, c.world.shapes[kind], length)
    if unlikely(array == 0):
        return False
    c.frame[AT_ARRAY] = array
    fill_words(c, kind, length, key)
    if kind == KIND_SLOTS and not make_elements(c, length, key):
        return False
    if is_hub(place):
        link_hub(c, place, length)
    array = c.frame[AT_ARRAY]
    gc_store_element(c.m, c.frame[AT_TABLE], place, array)
    link_to_hub(c, place, array)
    c.frame[AT_ARRAY] = 0
    e.generation += 1
    e.length = length
    e.present = 1
    c.part.live += bytes_of(place, length)
    return True


cdef void drop_next(Holes c) noexcept nogil:
    """Drops the next array in turn.  Holds no safepoint."""
    cdef uint64_t place = place_of(c.part, c.part.dropped)
    cdef Entry* e = entry_of(c, place)
    c.part.dropped += 1
    gc_store_element(c.m, c.frame[AT_TABLE], place, 0)
    link_to_hub(c, place, 0)
    e.present = 0
    c.part.live -= bytes_of(place, e.length)


# ---- reading with checks -----------------------------------------------------------------

cdef bint header_holds(Holes c, word array, uint64_t place, uint64_t length) noexcept nogil:
    """Whether an array of the right shape and length stands there; others are not read."""
    if unlikely(array == 0):
        record_failure(c.r, BAD_LINK, place, 0, place)
        return False
    if unlikely(shape_of_header((<word*>array)[0]) != c.world.shapes[kind_of(place)]
                or gc_length(array) != length):
        record_failure(c.r, BAD_SHAPE, place, gc_length(array), length)
        return False
    return True


cdef void check_words(Holes c, word array, uint64_t place, uint64_t key, uint64_t low,
                      uint64_t high) noexcept nogil:
    """Checks words [low, high) of the elements; Elements and links only by not being values."""
    cdef int kind = kind_of(place)
    cdef uint64_t length = gc_length(array), i
    cdef uint64_t last = words_of(kind, length) - 1, mask = tail_mask(kind, length)
    cdef uint64_t tag = 1 if kind == KIND_SLOTS else 0
    cdef uint64_t wanted
    cdef const uint64_t* at = <const uint64_t*>gc_elements(array)
    for i in range(low, high):
        wanted = value_at(key, i) | tag
        if i == last:
            wanted &= mask
        if at[i] != wanted and not (kind == KIND_SLOTS and (
                i % ELEMENT_EVERY == ELEMENT_EVERY - 1 or is_link_slot(place, length, i))):
            record_failure(c.r, BAD_SLOT if kind == KIND_SLOTS else BAD_BYTES, place, at[i],
                           wanted)
            return


cdef void check_element(Holes c, word array, uint64_t place, uint64_t key,
                        uint64_t slot) noexcept nogil:
    """The Element at `slot`, unless a link of the hub stands there."""
    cdef word element = gc_load_element(array, slot)
    if is_link_slot(place, gc_length(array), slot):
        return
    if element == 0 or element & 7:
        record_failure(c.r, BAD_LINK, place, element, slot)
    elif (<uint64_t*>element)[2] != value_at(key, slot):
        record_failure(c.r, BAD_ID, place, (<uint64_t*>element)[2], value_at(key, slot))
    elif gc_load(element, 0) != array:
        record_failure(c.r, BAD_SLOT, place, gc_load(element, 0), array)


cdef void check_links(Holes c, word hub, uint64_t place) noexcept nogil:
    cdef uint64_t member
    cdef word found, wanted
    for member in range(1, GROUP):
        found = gc_load_element(hub, link_slot(gc_length(hub), member))
        wanted = gc_load_element(c.frame[AT_TABLE], place + member)
        if found != wanted:
            record_failure(c.r, BAD_SLOT, place + member, found, wanted)


cdef void check_sample(Holes c, uint64_t place) noexcept nogil:
    """Both ends, and two pages, of an array that is there.  Holds no safepoint."""
    cdef Entry* e = entry_of(c, place)
    cdef word array = gc_load_element(c.frame[AT_TABLE], place)
    cdef int kind = kind_of(place)
    cdef uint64_t key = key_of(place, e.generation)
    cdef uint64_t words = words_of(kind, e.length), page, _i
    if not header_holds(c, array, place, e.length):
        return
    check_words(c, array, place, key, 0, min(words, <uint64_t>PAGE_WORDS))
    check_words(c, array, place, key, words - min(words, <uint64_t>8), words)
    if words > PAGE_WORDS:
        for _i in range(2):
            page = scaled(random64(&c.part.random), words // PAGE_WORDS)
            check_words(c, array, place, key, page * PAGE_WORDS, (page + 1) * PAGE_WORDS)
    if kind == KIND_SLOTS:
        if e.length >= ELEMENT_EVERY:
            page = scaled(random64(&c.part.random), e.length // ELEMENT_EVERY)
            check_element(c, array, place, key, (page + 1) * ELEMENT_EVERY - 1)
        if is_hub(place):
            check_links(c, array, place)


cdef void audit_array(Holes c, uint64_t place) noexcept nogil:
    cdef Entry* e = entry_of(c, place)
    cdef uint64_t key = key_of(place, e.generation), at = 0, upto
    cdef uint64_t words = words_of(kind_of(place), e.length)
    cdef word array = gc_load_element(c.frame[AT_TABLE], place)
    if not e.present:
        if array:
            record_failure(c.r, BAD_SLOT, place, array, 0)
        return
    if not header_holds(c, array, place, e.length):
        return
    if is_hub(place):
        check_links(c, array, place)
    while at < words:
        upto = min(words, at + CHUNK_WORDS)
        array = gc_load_element(c.frame[AT_TABLE], place)       # a poll lies in between
        check_words(c, array, place, key, at, upto)
        if kind_of(place) == KIND_SLOTS:
            at += ELEMENT_EVERY - 1
            while at < upto:
                check_element(c, array, place, key, at)
                at += ELEMENT_EVERY
        at = upto
        gc_poll(c.m)


cdef class Holes(Worker):
    """What both files of the workload know of one mutator; see _array_holes.pyx."""
