"""What page faults cost when MOVE serves them, `step` bytes at each.

Both of `time_...` read every page of the range that has none, in order; nanoseconds, 0 after a
failure.  `Ranges.faults` says how many faults that took.
"""
from gcheap.tools._ranges cimport Ranges
from libc.stdint cimport uint64_t

# The faulting thread serves itself; holds SIGBUS of the whole process meanwhile.
cdef uint64_t time_sigbus(Ranges* r, uint64_t step) noexcept nogil
# The thread that is in `read_faults` does, until `stop` can be read.
cdef uint64_t time_reported(Ranges* r, uint64_t step) noexcept nogil
cdef void read_faults(Ranges* r, int stop) noexcept nogil
