"""A heap's userfaultfd: opened and asked for what the heap needs.

The binding below (core/uffd.pyx) is for everybody; here stand the failpoints of a heap's use of it.
"""
from gcheap.core.failpoint cimport FP_UFFD_API, FP_UFFD_OPEN, failpoint
from gcheap.core.uffd cimport uffd_handshake, uffd_open_any
from libc.stdint cimport uint64_t


cdef int open_uffd(int* refused) noexcept nogil:
    cdef int error = <int>failpoint(FP_UFFD_OPEN)
    if error:
        refused[0] = -error
        return -error
    return uffd_open_any(refused)


cdef int begin_uffd(int fd, uint64_t want, uint64_t* features, uint64_t* ioctls) noexcept nogil:
    cdef int error = <int>failpoint(FP_UFFD_API)
    return error if error else uffd_handshake(fd, want, features, ioctls)
