"""A heap's userfaultfd: opened and asked for what the heap needs.  See descriptor.pyx."""
from libc.stdint cimport uint64_t

# The descriptor, or minus an errno; `refused` is minus the errno of the system call, 0 when that
# worked.
cdef int open_uffd(int* refused) noexcept nogil
# UFFDIO_API with `want`; returns an errno.
cdef int begin_uffd(int fd, uint64_t want, uint64_t* features, uint64_t* ioctls) noexcept nogil
