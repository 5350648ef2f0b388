"""Native threads of a heap: the collector and the fault server.  They never need the GIL (I5).

Made by pthread_create, which ThreadSanitizer follows (it does not follow C11's thrd_create).
"""

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    int pthread_create(pthread_t*, void*, thread_main, void*)
    int pthread_join(pthread_t, void**)
    int pthread_setname_np(pthread_t, const char*)

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int sigfillset(sigset_t*)
    int sigdelset(sigset_t*, int)
    int pthread_sigmask(int, const sigset_t*, sigset_t*)
    int SIG_SETMASK, SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGABRT


cdef int start_thread(unsigned long* thread, const char* name, thread_main main,
                      void* argument) noexcept nogil:
    """Starts a thread with every asynchronous signal blocked: they belong to the program.

    `name` has at most 15 bytes.  Returns an errno, and then `thread` is 0.
    """
    cdef sigset_t blocked, saved
    cdef int error
    sigfillset(&blocked)
    sigdelset(&blocked, SIGBUS)
    sigdelset(&blocked, SIGSEGV)
    sigdelset(&blocked, SIGFPE)
    sigdelset(&blocked, SIGILL)
    sigdelset(&blocked, SIGABRT)
    pthread_sigmask(SIG_SETMASK, &blocked, &saved)
    error = pthread_create(thread, NULL, main, argument)
    pthread_sigmask(SIG_SETMASK, &saved, NULL)
    if error:
        thread[0] = 0
    else:
        pthread_setname_np(thread[0], name)
    return error


cdef void join_thread(unsigned long* thread) noexcept nogil:
    """Waits for a thread that was told to end.  Does nothing when `thread` is 0."""
    if thread[0]:
        pthread_join(thread[0], NULL)
        thread[0] = 0
