"""Trying a capability in a child process, which may crash and may hang.

    parent                      child
    Attempt(name)  -- fork -->  the try: maps, registers, touches; may crash, may hang
    ended(), kill()             writes its Report, which both share, and exits

The child runs no Python and takes no lock that another thread of the parent might have held, so
that trying is safe from any process.  It ends by itself, by a signal (SIGSYS: a seccomp filter),
by `kill()`, or with the parent.
"""
import os

from gcheap.core.layout cimport word
from gcheap.core.native cimport load32_acquire
from gcheap.tools._cases cimport Report, Try, UNFINISHED, WORKS, end
from gcheap.tools._tries import TRIES
from libc.errno cimport errno
from libc.stdint cimport uint64_t
from libc.string cimport memset
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap)
from posix.signal cimport kill
from posix.types cimport pid_t
from posix.unistd cimport _exit, fork, getppid

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    ctypedef void (*plain_handler)(int) noexcept nogil
    struct sigaction_t "sigaction":
        plain_handler sa_handler
    int sigaction(int, const sigaction_t*, sigaction_t*)
    int sigemptyset(sigset_t*)
    int sigprocmask(int, const sigset_t*, sigset_t*)
    int SIGBUS, SIGSEGV, SIGINT, SIGKILL, SIG_SETMASK
    plain_handler SIG_DFL

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int, ...)
    int PR_SET_DUMPABLE, PR_SET_PDEATHSIG

cdef extern from "<sys/resource.h>" nogil:
    struct rlimit:
        unsigned long rlim_cur, rlim_max
    int setrlimit(int, const rlimit*)
    int RLIMIT_CORE

cdef extern from "<sys/wait.h>" nogil:
    pid_t waitpid(pid_t, int*, int)
    int WNOHANG
    bint WIFSIGNALED(int)
    int WTERMSIG(int)


cdef void become_child(Report* r, Try what, pid_t parent) noexcept nogil:
    """The child's whole life."""
    cdef sigaction_t default
    cdef sigset_t none
    cdef rlimit no_core
    memset(&default, 0, sizeof(default))
    default.sa_handler = SIG_DFL
    sigaction(SIGINT, &default, NULL)
    sigaction(SIGBUS, &default, NULL)
    sigaction(SIGSEGV, &default, NULL)
    sigemptyset(&none)
    sigprocmask(SIG_SETMASK, &none, NULL)
    no_core.rlim_cur = no_core.rlim_max = 0
    setrlimit(RLIMIT_CORE, &no_core)
    # A process that gave up its privileges may else not read its own /proc/self/pagemap.
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if getppid() != parent:
        _exit(0)                # it has died before the line above
    what(r)
    end(r, WORKS, NULL, 0)


cdef class Attempt:
    """One capability being tried; of one thread.

    name     of a capability
    huge     bytes of a transparent huge page, 0: there are none
    hugetlb  bytes of a page of hugetlbfs, 0: there are none
    Raises OSError when the child cannot be made.
    """

    cdef Report* r
    cdef pid_t pid
    cdef readonly bint over             # the child has ended (and was waited for)
    cdef readonly int signal            # that ended it, 0

    def __cinit__(self, str name, uint64_t huge=0, uint64_t hugetlb=0):
        cdef Try what = <Try><word>TRIES[name]
        cdef void* memory = mmap(NULL, sizeof(Report), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        cdef pid_t parent = os.getpid()
        if memory == MAP_FAILED:
            raise OSError(errno, f"mmap: {os.strerror(errno)}")
        self.r = <Report*>memory
        self.r.page, self.r.huge, self.r.hugetlb = os.sysconf("SC_PAGE_SIZE"), huge, hugetlb
        with nogil:
            self.pid = fork()
            if self.pid == 0:
                become_child(self.r, what, parent)
        if self.pid < 0:
            self.over = True
            raise OSError(errno, f"fork: {os.strerror(errno)}")

    def __dealloc__(self):
        if self.r != NULL:
            if not self.over and self.pid > 0:
                kill(self.pid, SIGKILL)
                waitpid(self.pid, NULL, WNOHANG)
            munmap(self.r, sizeof(Report))

    def ended(self):
        """Whether the child has ended; never waits."""
        cdef int status = 0
        if not self.over and waitpid(self.pid, &status, WNOHANG) != 0:
            self.over = True
            self.signal = WTERMSIG(status) if WIFSIGNALED(status) else 0
        return self.over

    def kill(self):
        """End the child; it may take a moment until `ended()`."""
        if not self.over:
            kill(self.pid, SIGKILL)

    @property
    def works(self):
        return load32_acquire(&self.r.outcome) == WORKS

    @property
    def finished(self):
        """Whether the try came to its end, good or bad."""
        return load32_acquire(&self.r.outcome) != UNFINISHED

    @property
    def error(self):
        """The errno of the call that was refused, 0: none was."""
        return self.r.error if self.finished else 0

    @property
    def what(self):
        """The call that was refused, or what was not as it should be; None."""
        return self.r.what.decode() if self.finished and self.r.what != NULL else None
