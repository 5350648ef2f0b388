"""Timed page faults (see the .pxd): served by the faulting thread, or by one that reads them."""
from gcheap.core.layout cimport word
from gcheap.core.native cimport (
    clock_ns, load64_acquire, load64_relaxed, load8_relaxed, set_errno, store64_release)
from gcheap.core.poll cimport POLLIN, poll, pollfd
from gcheap.core.uffd cimport gc_uffd_msg, uffd_read, uffd_unregister
from gcheap.tools._ranges cimport MOVE, Ranges, aim, refuse, whole
from libc.errno cimport EAGAIN, EINTR, EIO, errno
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

cdef extern from "<signal.h>" nogil:
    ctypedef struct siginfo_t:
        void* si_addr
    ctypedef void (*info_handler)(int, siginfo_t*, void*) noexcept nogil
    struct sigaction_t "sigaction":
        info_handler sa_sigaction
        int sa_flags
    int sigaction(int, const sigaction_t*, sigaction_t*)
    int SIGBUS, SA_SIGINFO

cdef uint64_t served = 0        # Ranges* whose faults on_sigbus serves
cdef sigaction_t previous


# Who faults and who serves it write in turns: the kernel puts one after the other, by the
# message and by waking the thread, which the memory model of C knows nothing of.

cdef inline void hand_over(Ranges* r) noexcept nogil:
    store64_release(&r.turns, load64_relaxed(&r.turns) + 1)


cdef inline void take_over(Ranges* r) noexcept nogil:
    load64_acquire(&r.turns)


cdef void serve(Ranges* r, word address) noexcept nogil:
    """Brings the block of `step` bytes around `address`.  After a failure the range is no
    longer registered, so that whoever waits reads zeros instead of waiting for ever."""
    cdef uint64_t at
    take_over(r)
    at = (address - r.to) & ~(r.step - 1)
    r.faults += 1
    hand_over(r)                # before MOVE, which wakes the thread
    if r.error or not whole(r, MOVE, r.to + at, r.from_ + at, r.step):
        uffd_unregister(r.fd, r.to, r.bytes)


cdef void on_sigbus(int number, siginfo_t* info, void* context) noexcept nogil:
    cdef int saved = errno
    cdef Ranges* r = <Ranges*>load64_acquire(&served)
    if r != NULL and <word>info.si_addr - r.to < r.bytes:
        serve(r, <word>info.si_addr)
    else:
        sigaction(SIGBUS, &previous, NULL)      # not ours: it runs again, under the old handler
    set_errno(saved)


cdef bint begin_faults(Ranges* r, uint64_t step) noexcept nogil:
    r.step = step
    r.faults = 0
    return aim(r)


cdef uint64_t read_all(Ranges* r) noexcept nogil:
    cdef uint64_t at = 0, started = clock_ns()
    while at < r.bytes:
        load8_relaxed(<uint8_t*>(r.to + at))
        at += r.page
    return clock_ns() - started


cdef uint64_t time_sigbus(Ranges* r, uint64_t step) noexcept nogil:
    cdef sigaction_t ours
    cdef uint64_t elapsed
    if not begin_faults(r, step):
        return 0
    memset(&ours, 0, sizeof(ours))
    ours.sa_sigaction = on_sigbus
    ours.sa_flags = SA_SIGINFO
    # Atomic: the compiler sees no call that could read it before it is 0 again.
    store64_release(&served, <uint64_t>r)
    sigaction(SIGBUS, &ours, &previous)
    elapsed = read_all(r)
    sigaction(SIGBUS, &previous, NULL)
    store64_release(&served, 0)
    return elapsed


cdef uint64_t time_reported(Ranges* r, uint64_t step) noexcept nogil:
    cdef uint64_t elapsed
    if not begin_faults(r, step):
        return 0
    hand_over(r)
    elapsed = read_all(r)
    take_over(r)
    return elapsed


cdef void read_faults(Ranges* r, int stop) noexcept nogil:
    """Serves what the descriptor reports until `stop` can be read."""
    cdef gc_uffd_msg message
    cdef pollfd wanted[2]
    cdef int count
    wanted[0].fd = r.fd
    wanted[0].events = POLLIN
    wanted[1].fd = stop
    wanted[1].events = POLLIN
    while True:
        if poll(wanted, 2, -1) < 0:
            if errno == EINTR:
                continue
            refuse(r, b"poll", errno)
            break
        if wanted[1].revents:
            return
        count = uffd_read(r.fd, &message, 1)
        if count == 1:
            serve(r, message.words[1])
        elif count != -EAGAIN:
            refuse(r, b"read of a userfaultfd", -count if count else EIO)
            break
    uffd_unregister(r.fd, r.side[0], r.bytes)
    uffd_unregister(r.fd, r.side[1], r.bytes)
