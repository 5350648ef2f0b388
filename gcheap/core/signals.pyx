"""SIGBUS must not be blocked in a thread that may touch a page that has not arrived: the kernel
does not wait for such a thread to unblock it, it ends the process."""

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int sigemptyset(sigset_t*)
    int sigaddset(sigset_t*, int)
    int sigismember(const sigset_t*, int)
    int pthread_sigmask(int, const sigset_t*, sigset_t*)
    int SIGBUS, SIG_UNBLOCK


cdef bint unblock_sigbus() noexcept nogil:
    """Of the calling thread."""
    cdef sigset_t one, before
    sigemptyset(&one)
    sigaddset(&one, SIGBUS)
    return (pthread_sigmask(SIG_UNBLOCK, &one, &before) == 0
            and sigismember(&before, SIGBUS) == 1)
