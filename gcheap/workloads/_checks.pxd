"""Reading with checks, and memory for models: what several workloads need."""
from gcheap.core.layout cimport word
from gcheap.core.native cimport unlikely
from gcheap.core.objects cimport shape_of_header
from gcheap.workloads._random cimport random64, scaled
from gcheap.workloads._record cimport (
    BAD_ID, BAD_LINK, BAD_SHAPE, Recorder, record_failure)
from gcheap.workloads.worker cimport Worker
from libc.stdint cimport uint32_t, uint64_t


cdef inline uint64_t below(Worker w, uint64_t n) noexcept nogil:
    """A random number below n (n < 2**32)."""
    return scaled(random64(&w.random), n)


cdef inline bint is_object(Recorder* r, word obj, uint32_t shape, uint64_t place) noexcept nogil:
    """Whether `obj` is an object of that shape; what is not must not be read."""
    if unlikely(obj == 0):
        record_failure(r, BAD_LINK, place, 0, place)
        return False
    if unlikely(shape_of_header((<word*>obj)[0]) != shape):
        record_failure(r, BAD_SHAPE, place, (<word*>obj)[0], shape)
        return False
    return True


cdef inline bint raw_is(Recorder* r, word obj, uint64_t at, uint64_t expected,
                        uint64_t place) noexcept nogil:
    """Whether word `at` of an object (0 is its header) is as expected."""
    cdef uint64_t found = (<uint64_t*>obj)[at]
    if unlikely(found != expected):
        record_failure(r, BAD_ID, place, found, expected)
        return False
    return True


cdef inline void set_raw(word obj, uint64_t at, uint64_t value) noexcept nogil:
    (<uint64_t*>obj)[at] = value
