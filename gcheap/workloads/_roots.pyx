"""So many roots of one kind, for `gcheap bench roots`.

The roots lead to a fixed number of objects, spread over them, whatever their own number is: what
is live stays the same, and only what a pause has to look at grows.
"""
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport uint32_t, uint64_t, uintptr_t

from gcheap._fastpath cimport (
    gc_alloc, gc_alloc_array, gc_enter, gc_leave, gc_load_element, gc_pop, gc_push,
    gc_store_element)
from gcheap.core.layout cimport MutatorState, RootArea, SHAPE_SLOT_ARRAY, word
from gcheap.core.roots cimport add_area, drop_handle, remove_area, take_handle
from gcheap.core.weak cimport drop_weak, take_weak

cdef enum:
    STRIDE = 7919               # a prime: neighbouring roots lead to objects far apart

KINDS = ("handles", "shadow", "area", "weak")


cdef class Roots:
    """`count` roots of one of KINDS, of one mutator: "handles", words of its "shadow" stack, words
    of a root "area", "weak" cells.

    Made, checked and released by the mutator's own thread.  A heap has one; released before its
    mutator is detached.  MemoryError without memory, or when a shadow stack (a million words) does
    not hold them.
    """
    cdef object mutator
    cdef MutatorState* m
    cdef uint64_t kind
    cdef uint64_t objects
    cdef uint64_t held              # roots there are
    cdef uint64_t frame_words       # what is on the shadow stack, the table of objects included
    cdef word* frame                # [0]: the table that keeps all objects alive
    cdef word* words                # of the area
    cdef uint64_t area_count
    cdef RootArea* area
    cdef uint32_t* numbers          # of handles or weak cells

    def __cinit__(self, mutator, str kind, uint32_t shape, uint64_t objects, uint64_t count):
        self.mutator = mutator
        self.m = <MutatorState*><uintptr_t>mutator.native()
        self.kind = KINDS.index(kind)
        self.objects = objects
        if self.kind == 2:
            self.words = <word*>PyMem_Calloc(count + 1, sizeof(word))
        elif self.kind != 1:
            self.numbers = <uint32_t*>PyMem_Calloc(count + 1, sizeof(uint32_t))
        if self.kind != 1 and self.words == NULL and self.numbers == NULL:
            raise MemoryError(f"no memory for {count} roots")
        cdef bint held
        with nogil:
            gc_enter(self.m)
            held = self.make(shape, count)
            gc_leave(self.m)
        if not held:
            self.release()
            raise MemoryError(f"no room for {count} roots of kind {kind}")

    cdef bint make(self, uint32_t shape, uint64_t count) noexcept nogil:
        cdef uint64_t i
        cdef word made
        cdef word* frame = gc_push(self.m, 1)
        if frame == NULL:
            return False
        self.frame = frame
        self.frame_words = 1
        made = gc_alloc_array(self.m, SHAPE_SLOT_ARRAY, self.objects)
        if made == 0:
            return False
        self.frame[0] = made
        for i in range(self.objects):
            made = gc_alloc(self.m, shape)
            if made == 0:
                return False
            gc_store_element(self.m, self.frame[0], i, made)
        if self.kind == 1:
            if gc_push(self.m, count) == NULL:
                return False
            self.frame_words += count
        elif self.kind == 2:
            self.area = add_area(self.m, self.words, &self.area_count, 0, 0)
            if self.area == NULL:
                return False
        # No safepoint from here on.
        for i in range(count):
            if not self.hold(i, self.target(i)):
                return False
            self.held = i + 1
        self.area_count = self.held
        return True

    cdef word target(self, uint64_t i) noexcept nogil:
        return gc_load_element(self.frame[0], i * STRIDE % self.objects)

    cdef bint hold(self, uint64_t i, word value) noexcept nogil:
        if self.kind == 0:
            self.numbers[i] = take_handle(self.m.heap, self.m, value)
            return self.numbers[i] != 0
        if self.kind == 3:
            self.numbers[i] = take_weak(self.m, value, 0)
            return self.numbers[i] != 0
        if self.kind == 1:
            self.frame[1 + i] = value
        else:
            self.words[i] = value
        return True

    def check(self):
        """How many roots there are, and how many of those on a shadow stack or in an area lead to
        another object than they were given."""
        cdef uint64_t i, wrong = 0
        with nogil:
            gc_enter(self.m)
            for i in range(self.held):
                if self.kind == 1:
                    wrong += self.frame[1 + i] != self.target(i)
                elif self.kind == 2:
                    wrong += self.words[i] != self.target(i)
            gc_leave(self.m)
        return self.held, wrong

    def release(self):
        """Gives all of it back."""
        cdef uint64_t i
        with nogil:
            gc_enter(self.m)
            self.area_count = 0
            if self.area != NULL:
                remove_area(self.m.heap, self.area)
                self.area = NULL
            for i in range(self.held):
                if self.kind == 0:
                    drop_handle(self.m.heap, self.numbers[i])
                elif self.kind == 3:
                    drop_weak(self.m.heap, self.numbers[i])
            self.held = 0
            gc_pop(self.m, self.frame_words)
            self.frame_words = 0
            gc_leave(self.m)

    def __dealloc__(self):
        PyMem_Free(self.words)
        PyMem_Free(self.numbers)
