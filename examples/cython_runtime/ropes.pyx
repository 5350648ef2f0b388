"""Ropes: immutable strings that are concatenated in constant time, in a gcheap heap, in Cython.

A rope is a leaf (an array of bytes) or a node (left, right, length).  The loops below run
without the GIL, so threads build ropes at the same time while the collector moves them.
"""
from gcheap cimport heap
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy

cdef enum:
    LEFT = 0
    RIGHT = 1
    DEEPEST = 64                # a doubled rope of more levels would be longer than any memory


cdef inline uint64_t length_of(heap.word rope, uint32_t node) noexcept nogil:
    if heap.gc_shape_of(rope) == node:
        return (<uint64_t*>(rope + 24))[0]
    return heap.gc_length(rope)


cdef heap.word concat(heap.MutatorState* m, uint32_t node, heap.word* frame) noexcept nogil:
    """A node of frame[0] and frame[1], which are words of the shadow stack; 0: no room."""
    cdef heap.word made = heap.gc_alloc(m, node)        # a safepoint: both may have moved
    if made == 0:
        return 0
    heap.gc_store(m, made, LEFT, frame[0])
    heap.gc_store(m, made, RIGHT, frame[1])
    (<uint64_t*>heap.gc_raw(m, made, node))[0] = (
        length_of(frame[0], node) + length_of(frame[1], node))
    return made


cdef class Ropes:
    """The ropes of one thread's mutator."""

    cdef object attached, of            # keep both alive
    cdef heap.MutatorState* m
    cdef heap.HeapState* h
    cdef uint32_t node

    def __init__(self, of, attached):
        self.of, self.attached = of, attached
        self.h = <heap.HeapState*><uintptr_t>of.native()
        self.m = <heap.MutatorState*><uintptr_t>attached.native()
        self.node = of.shape("rope", refs=("left", "right"), raw=[("length", "u8")]).id

    def doubled(self, bytes text, uint32_t times):
        """`text` repeated 2**times: bytes, by way of a rope that is built and flattened again and
        again, so that there is garbage.  MemoryError when the heap is full."""
        cdef heap.MutatorState* m = self.m
        cdef const char* source = text
        cdef uint64_t length = <uint64_t>len(text), whole = length << times
        cdef bytearray result
        cdef char* into
        cdef uint32_t _
        cdef heap.word* frame
        cdef bint done = False
        if times >= DEEPEST:
            raise OverflowError(f"{times} doublings: expected fewer than {DEEPEST}")
        result = bytearray(whole)
        into = result
        with nogil:                         # a running mutator has no business with the GIL
            heap.gc_enter(m)
            frame = heap.gc_push(m, 3)
            for _ in range(20):
                frame[0] = heap.gc_alloc_array(m, heap.SHAPE_BYTES, length)
                if frame[0] == 0:
                    break
                memcpy(heap.gc_elements(frame[0]), source, length)
                for _ in range(times):
                    frame[1] = frame[0]
                    frame[0] = concat(m, self.node, frame)
                    if frame[0] == 0:
                        break
                frame[2] = heap.gc_alloc_array(m, heap.SHAPE_BYTES, whole) if frame[0] else 0
                if frame[2] == 0:
                    break
                done = flatten(m, frame[0], self.node, heap.gc_elements(frame[2])) == whole
            if frame[2]:
                memcpy(into, heap.gc_elements(frame[2]), whole)
            else:
                done = False
            heap.gc_pop(m, 3)
            heap.gc_leave(m)
        if not done:
            raise MemoryError("the heap is full")
        return bytes(result)

    def collections(self):
        """Cycles that moved objects, as native code counts them."""
        cdef heap.Statistics statistics
        heap.gc_get_statistics(self.h, &statistics)
        return statistics.relocations

    def weakly(self):
        """Whether a weak reference outlives its object here: it must not."""
        cdef heap.MutatorState* m = self.m
        cdef heap.word* frame
        cdef uint32_t weak
        cdef bint before, after
        with nogil:
            heap.gc_enter(m)
            frame = heap.gc_push(m, 1)
            frame[0] = heap.gc_alloc(m, self.node)
            weak = heap.gc_new_weak(m, frame[0])
            heap.gc_collect(self.h)
            before = heap.gc_weak_load(m, weak) == frame[0]
            frame[0] = 0
            heap.gc_collect(self.h)
            after = heap.gc_weak_load(m, weak) != 0
            heap.gc_drop_weak(self.h, weak)
            heap.gc_pop(m, 1)
            heap.gc_leave(m)
        return before, after


cdef uint64_t flatten(heap.MutatorState* m, heap.word rope, uint32_t node,
                      unsigned char* into) noexcept nogil:
    """Copies the bytes of a rope; no safepoint, so addresses stay.  Returns how many."""
    cdef heap.word waiting[DEEPEST + 1]
    cdef uint32_t depth = 1
    cdef uint64_t done = 0
    waiting[0] = rope
    while depth:
        depth -= 1
        rope = waiting[depth]
        while heap.gc_shape_of(rope) == node:
            waiting[depth] = heap.gc_load(rope, RIGHT)
            depth += 1
            rope = heap.gc_load(rope, LEFT)
        memcpy(into + done, heap.gc_elements(rope), heap.gc_length(rope))
        done += heap.gc_length(rope)
    return done
