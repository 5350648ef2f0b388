"""fork(): parent and child both go on.  See fork.pyx."""

cdef int watch_forks() noexcept nogil           # errno; once a process
cdef bint fork_waiting() noexcept nogil         # for tests: cycles are barred
