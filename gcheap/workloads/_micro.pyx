"""Nogil loops around one operation of the mutator's hot path each, for benchmarks/.

Every function takes `Mutator.native()` of a mutator attached by the calling thread, releases
the GIL, runs the operation `count` times and returns the nanoseconds that took, entering and
leaving the heap not counted unless that is what it measures.  MemoryError when the heap (or
the shadow stack) is exhausted.
"""
from gcheap._fastpath cimport (
    gc_alloc, gc_enter, gc_leave, gc_load, gc_poll, gc_pop, gc_push, gc_store)
from gcheap.core.layout cimport MutatorState, word
from gcheap.core.native cimport clock_ns
from gcheap.core.roots cimport drop_handle, take_handle
from libc.stdint cimport uint32_t, uint64_t, uintptr_t


def alloc_loop(uintptr_t mutator, uint32_t shape, uint64_t count):
    """Allocate `count` objects of a fixed shape, none of which survives."""
    cdef MutatorState* m = <MutatorState*>mutator
    cdef uint64_t _i, start, elapsed
    cdef bint full = False
    with nogil:
        gc_enter(m)
        start = clock_ns()
        for _i in range(count):
            if gc_alloc(m, shape) == 0:
                full = True
                break
        elapsed = clock_ns() - start
        gc_leave(m)
    if full:
        raise MemoryError(f"the heap was full before it had {count} objects")
    return elapsed


def store_loop(uintptr_t mutator, uint32_t shape, uint64_t count):
    """Store a reference, through the write barrier, into slot 0 of one object."""
    cdef MutatorState* m = <MutatorState*>mutator
    cdef uint64_t i, start, elapsed = 0
    cdef word* roots = NULL
    with nogil:
        gc_enter(m)
        roots = gc_push(m, 2)
        if roots != NULL:
            roots[0] = gc_alloc(m, shape)
            roots[1] = gc_alloc(m, shape)
            if roots[0] == 0 or roots[1] == 0:
                gc_pop(m, 2)
                roots = NULL
        if roots != NULL:
            start = clock_ns()
            # The roots are read anew each time, as after any safepoint, and alternate, so
            # that no store can be left out.
            for i in range(count):
                gc_store(m, roots[0], 0, roots[i & 1])
            elapsed = clock_ns() - start
            gc_pop(m, 2)
        gc_leave(m)
    if roots == NULL:
        raise MemoryError("no room for two objects and two roots")
    return elapsed


def load_loop(uintptr_t mutator, uint32_t shape, uint64_t count):
    """Follow slot 0 of an object that points to itself: a chain of dependent loads."""
    cdef MutatorState* m = <MutatorState*>mutator
    cdef uint64_t _i, start, elapsed = 0
    cdef word at
    with nogil:
        gc_enter(m)
        at = gc_alloc(m, shape)
        if at != 0:
            gc_store(m, at, 0, at)
            start = clock_ns()
            for _i in range(count):
                at = gc_load(at, 0)
            elapsed = clock_ns() - start
            # Used, or the compiler would leave the chain out.
            gc_store(m, at, 0, 0)
        gc_leave(m)
    if at == 0:
        raise MemoryError("no room for one object")
    return elapsed


def poll_loop(uintptr_t mutator, uint64_t count):
    """Poll for a safepoint, no pause being on."""
    cdef MutatorState* m = <MutatorState*>mutator
    cdef uint64_t _i, start, elapsed
    with nogil:
        gc_enter(m)
        start = clock_ns()
        for _i in range(count):
            gc_poll(m)
        elapsed = clock_ns() - start
        gc_leave(m)
    return elapsed


def enter_loop(uintptr_t mutator, uint64_t count):
    """Enter and leave the heap."""
    cdef MutatorState* m = <MutatorState*>mutator
    cdef uint64_t _i, start, elapsed
    with nogil:
        start = clock_ns()
        for _i in range(count):
            gc_enter(m)
            gc_leave(m)
        elapsed = clock_ns() - start
    return elapsed


def handle_loop(uintptr_t mutator, uint32_t shape, uint64_t count):
    """Take a handle to one object and drop it again."""
    cdef MutatorState* m = <MutatorState*>mutator
    cdef uint64_t _i, start, elapsed = 0
    cdef uint32_t handle = 0
    cdef word at
    with nogil:
        gc_enter(m)
        at = gc_alloc(m, shape)
        if at != 0:
            start = clock_ns()
            for _i in range(count):
                handle = take_handle(m.heap, m, at)
                if handle == 0:
                    break
                drop_handle(m.heap, handle)
            elapsed = clock_ns() - start
        gc_leave(m)
    if handle == 0:
        raise MemoryError("no room for one object, or no memory for a handle")
    return elapsed
