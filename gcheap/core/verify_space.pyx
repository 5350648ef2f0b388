"""Verification, level 2, after relocation: the current half holds objects, one after the other.

    | slid objects, dense | black units | gap | fresh units ... top |

The slid part is walked from its first word to its last, which must be the end of an object; where
the plan says that an object starts in a unit, one must.  Dense runs hold dead objects too, whose
slots mean nothing.  Black and fresh units are walked as they were allocated.  No slot and no root
may name an address of the old half (I1).
"""
from gcheap.core.layout cimport HeapState, LARGE_SPACES, ShapeInfo, WORD, word
from gcheap.core.native cimport check_that, load64_relaxed
from gcheap.core.objects cimport is_reference, shape_of_header
from gcheap.core.roots cimport visit_roots
from gcheap.core.verify_walk cimport checked_words, slots_of, walk_large, walk_units
from libc.stdint cimport uint64_t


cdef void check_not_old(HeapState* h, word holder, word target) noexcept nogil:
    cdef int i
    check_that(target - h.reservation < h.reservation_bytes,
               b"verify: a reference leads out of the heap (holder, word)", holder, target)
    check_that(target - h.base[1 - h.current] >= h.half_bytes,
               b"verify: a reference still leads to from-space (holder, word)", holder, target)
    for i in range(LARGE_SPACES):
        check_that(target - h.large[i].base[1 - h.current] >= h.large[i].half_bytes,
                   b"verify: a reference still leads to from-space (holder, word)", holder, target)


cdef void check_slots(HeapState* h, word obj) noexcept nogil:
    cdef ShapeInfo* shape = &h.shapes[shape_of_header((<word*>obj)[0])]
    cdef uint64_t count, i
    cdef word* slot = slots_of(h, obj, &count)
    for i in range(count):
        if is_reference(shape.tag_mask, shape.tag_bits, slot[i]):
            check_not_old(h, obj, slot[i] & ~shape.tag_mask)


cdef word check_root(void* context, HeapState* h, word value) noexcept nogil:
    check_not_old(h, 0, value)
    return value


cdef void check_slid(HeapState* h) noexcept nogil:
    cdef uint64_t index = 0, unit = 0, start, here
    while index < h.r.slid_words:
        here = index // h.unit_words
        if index >= here * h.unit_words + h.plan[here].words:
            index = (here + 1) * h.unit_words       # padding before a dense run
            continue
        # The first object of each unit that was planned to have one.
        while unit < h.r.slid_units and unit * h.unit_words <= index:
            start = unit * h.unit_words + h.plan[unit].straddle.words
            check_that(h.plan[unit].straddle.words >= h.plan[unit].words or start == index,
                       b"verify: no object starts where a unit's first must (unit, word)", unit,
                       index)
            unit += 1
        if h.plan[here].whole:
            if (<word*>h.r.to_base)[index] == 0:
                index += 1                          # what a TLAB inside the run did not use
                continue
        else:
            check_slots(h, h.r.to_base + index * WORD)
        index += checked_words(h, h.r.to_base + index * WORD, h.r.slid_words - index)


cdef void check_large_slots(HeapState* h, word obj, uint64_t nbytes) noexcept nogil:
    checked_words(h, obj, nbytes // WORD)
    check_slots(h, obj)


cdef void check_space(HeapState* h) noexcept nogil:
    """Aborts unless the half can be walked.  Inside a pause, after a cycle that relocated."""
    cdef uint64_t fresh = h.r.registered_bytes >> h.unit_shift
    check_slid(h)
    walk_units(h, h.r.to_base + (h.r.slid_units << h.unit_shift), h.r.units - h.r.slid_units,
               check_slots)
    walk_units(h, h.r.to_base + h.r.registered_bytes,
               (load64_relaxed(&h.top) >> h.unit_shift) - fresh, check_slots)
    walk_large(h, check_large_slots)
    visit_roots(h, check_root, NULL)
