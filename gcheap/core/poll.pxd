"""poll(2)."""

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events, revents
    int poll(pollfd*, unsigned long, int)
    short POLLIN, POLLOUT
