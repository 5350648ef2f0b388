"""The mutator's hot path, to be cimported: allocation, slots, safepoint poll, shadow stack.

Rules for a native mutator (a `MutatorState*` of the calling thread):

* It is *running* between `gc_enter` and `gc_leave`.  While running it must not block: no
  lock, no GIL, no long system call (invariant I5).  `Mutator.native()` hands out the pointer.
* `gc_alloc*`, `gc_poll` and `gc_enter` are safepoints: objects may have moved when they
  return.  A reference that must survive one lives in a shadow-stack word (`gc_push`) or in
  a slot; a `word` in a local variable does not survive.
* Between safepoints addresses are stable, and reading any object is plain memory access: a
  page that has not arrived is built by the fault path under the reader's feet.
* Two mutators that use one object synchronize with each other as two threads do with any memory:
  a slot that is stored by one and read by another with nothing in between takes `gc_publish…` and
  `gc_acquire…`.
"""
from gcheap.core.layout cimport MutatorState, SHAPE_SLOTS, ShapeInfo, WORD, word
from gcheap.core.native cimport (
    cas64, load32_relaxed, load64_acquire, load64_relaxed, store64_relaxed, unlikely)
from gcheap.core.objects cimport array_bytes, header_of_shape
from gcheap.core.barrier cimport publish_slot, store_slot
from gcheap.core.satb cimport log_old
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    LONG_ARRAY = 1 << 24        # elements: the size of a shorter array cannot overflow

# 0 when the heap is exhausted (a finished cycle could not help).
cdef word alloc_slow(MutatorState* m, uint64_t nbytes, word header, uint64_t length) noexcept nogil
cdef word alloc_try(MutatorState* m, uint64_t nbytes, word header, uint64_t length) noexcept nogil
cdef word alloc_array_slow(MutatorState* m, uint32_t shape, uint64_t length) noexcept nogil
# False: no heap of this capacity holds an array of so many elements.
cdef bint array_size(MutatorState* m, uint32_t shape, uint64_t length,
                     uint64_t* nbytes) noexcept nogil
cdef bint wait_for_cycle(MutatorState* m) noexcept nogil
cdef bint wait_for_room(MutatorState* m, uint64_t nbytes, bint pinned) noexcept nogil
cdef void poll_slow(MutatorState* m) noexcept nogil
cdef void gc_enter(MutatorState* m) noexcept nogil      # outside -> running; may wait for a pause
cdef void gc_leave(MutatorState* m) noexcept nogil      # running -> outside


cdef inline bint bump(MutatorState* m, uint64_t nbytes, uint32_t shape, word* at) noexcept nogil:
    """An object of `nbytes` with a header, if the TLAB has room for it.

    No safepoint lies between the bump and the header store, so that a black unit can be
    walked from its start to the first zero header.
    """
    at[0] = m.tlab_top
    if unlikely(nbytes > m.tlab_end - at[0]):
        return False
    store64_relaxed(&m.tlab_top, at[0] + nbytes)   # stats() of another thread may read it
    (<word*>at[0])[0] = header_of_shape(shape)
    return True


cdef inline bint bump_array(MutatorState* m, uint32_t shape, uint64_t length,
                            word* at) noexcept nogil:
    """The same for an array; False of a long one, whose size might overflow."""
    cdef ShapeInfo* info = &m.heap.shapes[shape]
    if unlikely(length >= LONG_ARRAY or not bump(
            m, array_bytes(WORD if info.kind == SHAPE_SLOTS else info.item, length), shape, at)):
        return False
    (<word*>at[0])[1] = length
    return True


cdef inline word gc_alloc(MutatorState* m, uint32_t shape) noexcept nogil:
    """A new object of a fixed shape, zeroed; 0 when the heap is exhausted.  A safepoint."""
    cdef uint64_t nbytes = m.heap.shapes[shape].bytes
    cdef word at
    if unlikely(not bump(m, nbytes, shape, &at)):
        return alloc_slow(m, nbytes, header_of_shape(shape), 0)
    return at


cdef inline word gc_alloc_array(MutatorState* m, uint32_t shape, uint64_t length) noexcept nogil:
    """A new array of `length` elements, any number, zeroed; 0 when exhausted.  A safepoint."""
    cdef word at
    if unlikely(not bump_array(m, shape, length, &at)):
        return alloc_array_slow(m, shape, length)
    return at


cdef inline word gc_load(word obj, uint64_t slot) noexcept nogil:
    """Slot `slot` of an object of a fixed shape: 0, a reference, or a tagged value.

    Relaxed, as every load and store below that does not say otherwise: another mutator may be
    storing there, and no word is torn; what the word names may not be visible yet.
    """
    return load64_relaxed(<word*>obj + 1 + slot)


cdef inline void gc_store(MutatorState* m, word obj, uint64_t slot, word value) noexcept nogil:
    store_slot(m, obj, <word*>obj + 1 + slot, value)


cdef inline word gc_load_element(word array, uint64_t index) noexcept nogil:
    """Element of a slot array."""
    return load64_relaxed(<word*>array + 2 + index)


cdef inline void gc_store_element(MutatorState* m, word array, uint64_t index,
                                  word value) noexcept nogil:
    store_slot(m, array, <word*>array + 2 + index, value)


# Between mutators.  Who reads by gc_acquire… what was stored by gc_publish… or gc_replace… sees
# everything that the storing thread had written before: to the object, and to what it names.

cdef inline word gc_acquire_slot(const word* slot) noexcept nogil:
    """The slot at `slot`, which other mutators publish to."""
    return load64_acquire(slot)


cdef inline void gc_publish_slot(MutatorState* m, word obj, word* slot, word value) noexcept nogil:
    """Stores into the slot at `slot`, one of the object at `obj`, for mutators that acquire it."""
    publish_slot(m, obj, slot, value)


cdef inline bint gc_replace_slot(MutatorState* m, word obj, word* slot, word expected,
                                 word value) noexcept nogil:
    """The same if the slot holds `expected`, in one step; acquires as well.  False: it does not,
    and nothing is stored.  `expected` was read since the last safepoint."""
    # Whether or not it is replaced, `expected` is a word of a slot: logging it is always right.
    if unlikely(load32_relaxed(&m.heap.marking)):
        log_old(m, obj, expected)
    return cas64(slot, expected, value)


cdef inline word gc_acquire(word obj, uint64_t slot) noexcept nogil:
    """Slot `slot` of an object of a fixed shape."""
    return gc_acquire_slot(<word*>obj + 1 + slot)


cdef inline void gc_publish(MutatorState* m, word obj, uint64_t slot, word value) noexcept nogil:
    gc_publish_slot(m, obj, <word*>obj + 1 + slot, value)


cdef inline bint gc_replace(MutatorState* m, word obj, uint64_t slot, word expected,
                            word value) noexcept nogil:
    return gc_replace_slot(m, obj, <word*>obj + 1 + slot, expected, value)


cdef inline word gc_acquire_element(word array, uint64_t index) noexcept nogil:
    """Element of a slot array."""
    return gc_acquire_slot(<word*>array + 2 + index)


cdef inline void gc_publish_element(MutatorState* m, word array, uint64_t index,
                                    word value) noexcept nogil:
    gc_publish_slot(m, array, <word*>array + 2 + index, value)


cdef inline bint gc_replace_element(MutatorState* m, word array, uint64_t index, word expected,
                                    word value) noexcept nogil:
    return gc_replace_slot(m, array, <word*>array + 2 + index, expected, value)


cdef inline uint64_t gc_length(word array) noexcept nogil:
    return (<word*>array)[1]


cdef inline uint8_t* gc_raw(MutatorState* m, word obj, uint32_t shape) noexcept nogil:
    """The raw bytes of an object of a fixed shape."""
    return <uint8_t*>(obj + WORD * (1 + m.heap.shapes[shape].refs))


cdef inline uint8_t* gc_elements(word array) noexcept nogil:
    """The raw bytes of a raw array."""
    return <uint8_t*>(array + 2 * WORD)


cdef inline void gc_poll(MutatorState* m) noexcept nogil:
    """A safepoint: waits here while a pause is on.  Loops that do not allocate need one."""
    # Relaxed: a late look only lengthens the time to safepoint; the slow path synchronizes.
    if unlikely(load32_relaxed(&m.heap.pause)):
        poll_slow(m)


cdef inline word* gc_push(MutatorState* m, uint64_t count) noexcept nogil:
    """A frame of `count` zeroed roots on the shadow stack; NULL when the stack is full."""
    cdef word* frame = m.shadow_top
    cdef uint64_t i
    if unlikely(count > <uint64_t>(m.shadow_end - frame)):
        return NULL
    for i in range(count):
        frame[i] = 0
    m.shadow_top = frame + count
    return frame


cdef inline void gc_pop(MutatorState* m, uint64_t count) noexcept nogil:
    m.shadow_top -= count
