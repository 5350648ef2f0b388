"""What a full heap says of itself: the HeapExhausted to raise."""
from gcheap.core.layout cimport HeapState, MutatorState, SHAPE_BYTES, SHAPE_SLOT_ARRAY, Survey
from gcheap.core.native cimport load64_relaxed
from gcheap.core.safepoint cimport thread_mutator
from gcheap.core.shapes_census cimport largest_shapes
from gcheap.errors import HeapExhausted
from gcheap.face.state cimport HeapCore
from gcheap.options import format_size
from gcheap.text import title
from libc.stdint cimport uint32_t, uint64_t


cdef str shape_name(HeapCore core, uint32_t shape):
    if shape == SHAPE_SLOT_ARRAY:
        return "slots"
    if shape == SHAPE_BYTES:
        return "bytes"
    return title(core.shapes[shape].name)


cdef object exhausted(HeapCore core, uint64_t asked):
    """The exception for a request of `asked` bytes.  The thread is OUTSIDE, with the GIL."""
    cdef HeapState* h = core.h
    cdef MutatorState* m
    cdef Survey survey
    cdef uint64_t live = load64_relaxed(&h.live_bytes), used = load64_relaxed(&h.used)
    cdef uint32_t i
    if asked > h.capacity:
        message = (f"{format_size(h.capacity)} heap cannot hold {format_size(asked)}, which was "
                   f"asked for ({format_size(live)} live, {format_size(used)} used); "
                   f"raise capacity")
        return HeapExhausted(message, used=used, live=live, capacity=h.capacity, asked=asked)
    m = thread_mutator(h)
    if m != NULL and m.no_memory:
        message = (f"the kernel has no memory (ENOMEM) for a cycle that would make room: "
                   f"{format_size(used)} of {format_size(h.capacity)} used, {format_size(asked)} "
                   f"asked for; free memory outside the heap, or raise the limit of the cgroup")
        return HeapExhausted(message, used=used, live=live, capacity=h.capacity, asked=asked)
    with nogil:
        largest_shapes(h, &survey)
    shapes = ", ".join(
        f"{shape_name(core, survey.top_shape[i])} {format_size(survey.top[i].bytes)}"
        for i in range(survey.found))
    found = f" in {survey.all.objects:,} objects" if survey.all.objects else ""
    largest = f" (largest shapes: {shapes})" if shapes else ""
    message = (f"{format_size(h.capacity)} heap is full: {format_size(live)} live{found}{largest}, "
               f"{format_size(used)} used, {format_size(asked)} asked for; "
               f"raise capacity or drop roots")
    return HeapExhausted(message, used=used, live=live, capacity=h.capacity, asked=asked)
