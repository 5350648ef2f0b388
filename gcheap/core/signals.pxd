"""Whether a thread can take SIGBUS.  See signals.pyx."""

cdef bint unblock_sigbus() noexcept nogil       # whether it was blocked
