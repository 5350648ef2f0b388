"""What the kernel's page operations cost: timed loops on scratch memory, without the GIL.

A `Scratch` runs one operation over all its pages in steps of `batch` pages and returns the
nanoseconds in total; what that needs (pages to move, an empty destination) is put in place
before the clock starts.  No range is ever a huge page: `HugePages` is for those.  With a SIGBUS
descriptor a mistake here ends the process, it never hangs.  One thread at a time may use an
object; every failure is an OSError that names the call.
"""
import os

from gcheap.core.layout cimport word
from gcheap.core.native cimport (
    clock_ns, load8_relaxed, load32_acquire, set_errno, store8_relaxed, store32_release,
    thread_cpu_ns)
from gcheap.core.uffd cimport (
    GC_FEATURE_MOVE, GC_FEATURE_SIGBUS, gc_uffd_msg, uffd_read, uffd_unregister)
from gcheap.tools._ranges cimport (
    COPY, MOVE, PAGE_TABLE_PAGES, Ranges, ZEROPAGE, advise, descriptor, empty_both, fill_one,
    raise_error, refuse, register_sides, reserve, touch_plain, whole)
from libc.errno cimport EAGAIN, EINTR, EIO, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.mman cimport MADV_DONTNEED, MAP_FAILED, madvise, munmap
from posix.unistd cimport close as posix_close

cdef extern from "<sys/mman.h>" nogil:
    """
    #include <linux/mman.h>
    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23      /* Linux 5.14 */
    #endif
    """
    void* mremap(void*, size_t, size_t, int, void*)
    int MREMAP_MAYMOVE, MREMAP_FIXED, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_POPULATE_WRITE

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd*, unsigned long, int)
    short POLLIN

cdef extern from "<signal.h>" nogil:
    ctypedef struct siginfo_t:
        void* si_addr
    ctypedef void (*info_handler)(int, siginfo_t*, void*) noexcept nogil
    struct sigaction_t "sigaction":
        info_handler sa_sigaction
        int sa_flags
    int sigaction(int, const sigaction_t*, sigaction_t*)
    int SIGBUS, SA_SIGINFO

ctypedef uint64_t (*Timed)(Ranges*, uint64_t) noexcept nogil

# ---- costs: each returns nanoseconds, 0 after a failure --------------------------------------

cdef uint64_t time_move(Ranges* r, uint64_t step) noexcept nogil:
    cdef uint64_t at = 0, started
    cdef word src, dst
    if not fill_one(r):
        return 0
    src = r.side[r.full]
    dst = r.side[1 - r.full]
    r.full = 1 - r.full
    started = clock_ns()
    while at < r.bytes:
        if not whole(r, MOVE, dst + at, src + at, step):
            return 0
        at += step
    return clock_ns() - started


cdef uint64_t time_copy(Ranges* r, uint64_t step) noexcept nogil:
    cdef uint64_t at = 0, started
    if not empty_both(r):
        return 0
    r.full = 0
    memset(<void*>r.warm, 1, step)
    started = clock_ns()
    while at < r.bytes:
        if not whole(r, COPY, r.side[0] + at, r.warm, step):
            return 0
        at += step
    return clock_ns() - started


cdef uint64_t time_zeropage(Ranges* r, uint64_t step) noexcept nogil:
    cdef uint64_t at = 0, started
    if not empty_both(r):
        return 0
    started = clock_ns()
    while at < r.bytes:
        if not whole(r, ZEROPAGE, r.side[0] + at, 0, step):
            return 0
        at += step
    return clock_ns() - started


cdef uint64_t time_fault(Ranges* r, uint64_t step) noexcept nogil:
    cdef uint64_t started
    if not advise(r, r.plain, r.bytes, MADV_DONTNEED):
        return 0
    started = clock_ns()
    touch_plain(r)
    return clock_ns() - started


cdef uint64_t time_advice(Ranges* r, uint64_t step, int advice) noexcept nogil:
    cdef uint64_t at = 0, started
    if not advise(r, r.plain, r.bytes, MADV_DONTNEED):
        return 0
    if advice == MADV_DONTNEED:
        touch_plain(r)
    started = clock_ns()
    while at < r.bytes:
        if not advise(r, r.plain + at, step, advice):
            return 0
        at += step
    return clock_ns() - started


cdef uint64_t time_populate(Ranges* r, uint64_t step) noexcept nogil:
    return time_advice(r, step, MADV_POPULATE_WRITE)


cdef uint64_t time_madvise(Ranges* r, uint64_t step) noexcept nogil:
    return time_advice(r, step, MADV_DONTNEED)


cdef uint64_t time_memcpy(Ranges* r, uint64_t step) noexcept nogil:
    cdef uint64_t at = 0, started
    cdef word dst
    if not fill_one(r):
        return 0
    dst = r.side[r.full]                        # its pages are there: touching them is no fault
    touch_plain(r)
    started = clock_ns()
    while at < r.bytes:
        memcpy(<void*>(dst + at), <void*>(r.plain + at), step)
        at += step
    return clock_ns() - started


cdef uint64_t time_copy_and_release(Ranges* r, uint64_t step) noexcept nogil:
    """COPY out of one range into the other, and the source given back to the kernel."""
    cdef uint64_t at = 0, started
    cdef word src, dst
    if not fill_one(r):
        return 0
    src = r.side[r.full]
    dst = r.side[1 - r.full]
    r.full = 1 - r.full
    started = clock_ns()
    while at < r.bytes:
        if not whole(r, COPY, dst + at, src + at, step):
            return 0
        if not advise(r, src + at, step, MADV_DONTNEED):
            return 0
        at += step
    return clock_ns() - started


cdef uint64_t time_allocate_and_move(Ranges* r, uint64_t step) noexcept nogil:
    """A fresh page faulted in, filled from a warm buffer, then moved."""
    cdef uint64_t at = 0, started
    if not empty_both(r) or not advise(r, r.plain, r.bytes, MADV_DONTNEED):
        return 0
    r.full = 0
    memset(<void*>r.warm, 1, step)
    started = clock_ns()
    while at < r.bytes:
        memcpy(<void*>(r.plain + at), <void*>r.warm, step)
        if not whole(r, MOVE, r.side[0] + at, r.plain + at, step):
            return 0
        at += step
    return clock_ns() - started


# ---- faults ----------------------------------------------------------------------------------

cdef Ranges* served = NULL      # whose faults on_sigbus serves
cdef sigaction_t previous


cdef void serve(Ranges* r, word address) noexcept nogil:
    """Brings the block of `step` bytes around `address`.  After a failure the range is no
    longer registered, so that whoever waits reads zeros instead of waiting for ever."""
    cdef uint64_t at = (address - r.to) & ~(r.step - 1)
    r.faults += 1
    if r.error or not whole(r, MOVE, r.to + at, r.from_ + at, r.step):
        uffd_unregister(r.fd, r.to, r.bytes)


cdef void on_sigbus(int number, siginfo_t* info, void* context) noexcept nogil:
    cdef int saved = errno
    if served != NULL and <word>info.si_addr - served.to < served.bytes:
        serve(served, <word>info.si_addr)
    else:
        sigaction(SIGBUS, &previous, NULL)      # not ours: it runs again, under the old handler
    set_errno(saved)


cdef bint begin_faults(Ranges* r, uint64_t step) noexcept nogil:
    if not fill_one(r):
        return False
    r.from_ = r.side[r.full]
    r.to = r.side[1 - r.full]
    r.full = 1 - r.full
    r.step = step
    r.faults = 0
    return True


cdef uint64_t read_all(Ranges* r) noexcept nogil:
    cdef uint64_t at = 0, started = clock_ns()
    while at < r.bytes:
        load8_relaxed(<uint8_t*>(r.to + at))
        at += r.page
    return clock_ns() - started


cdef uint64_t time_sigbus(Ranges* r, uint64_t step) noexcept nogil:
    global served
    cdef sigaction_t ours
    cdef uint64_t elapsed
    if not begin_faults(r, step):
        return 0
    memset(&ours, 0, sizeof(ours))
    ours.sa_sigaction = on_sigbus
    ours.sa_flags = SA_SIGINFO
    served = r
    sigaction(SIGBUS, &ours, &previous)
    elapsed = read_all(r)
    sigaction(SIGBUS, &previous, NULL)
    served = NULL
    return elapsed


cdef uint64_t time_reported(Ranges* r, uint64_t step) noexcept nogil:
    return read_all(r) if begin_faults(r, step) else 0


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


# ---- the Python face -------------------------------------------------------------------------

cdef class Scratch:
    """Memory for measurements: `pages` pages in each range, a multiple of every batch.

    sigbus  True: missing pages raise SIGBUS; False: they are reported to `read_faults`
    """

    cdef Ranges r
    cdef word memory
    cdef uint64_t mapped
    cdef readonly uint64_t pages

    def __cinit__(self, uint64_t pages, bint sigbus=True):
        cdef word starts[4]
        cdef int i
        cdef uint64_t page = os.sysconf("SC_PAGE_SIZE"), table = PAGE_TABLE_PAGES * page
        self.r.fd = -1
        if pages % PAGE_TABLE_PAGES:
            raise ValueError(f"pages={pages}: expected a multiple of {PAGE_TABLE_PAGES}")
        self.pages = pages
        self.r.page = page
        self.r.bytes = pages * page
        self.memory, self.mapped = reserve(self.r.bytes, 4, table, starts)
        for i in range(4):
            # Refused where there are no transparent huge pages, and then nothing is amiss.
            madvise(<void*>starts[i], self.r.bytes, MADV_NOHUGEPAGE)
        self.r.side[0], self.r.side[1] = starts[0], starts[1]
        self.r.plain, self.r.warm = starts[2], starts[3]
        memset(<void*>self.r.warm, 1, table)
        self.r.full = -1
        self.r.fd = descriptor(GC_FEATURE_SIGBUS if sigbus else 0)
        register_sides(&self.r)

    def __dealloc__(self):
        self.close()

    def close(self):
        """Gives everything back; may be called twice."""
        if not self.memory:             # nor is there a descriptor: not even the arguments' check
            return
        if self.r.fd >= 0:
            posix_close(self.r.fd)
            self.r.fd = -1
        munmap(<void*>self.memory, self.mapped)
        self.memory = 0

    cdef uint64_t step(self, uint64_t batch) except 0:
        if not self.memory:
            raise ValueError("this scratch memory is closed")
        if batch < 1 or batch > PAGE_TABLE_PAGES or PAGE_TABLE_PAGES % batch:
            raise ValueError(f"batch={batch}: expected a divisor of {PAGE_TABLE_PAGES}")
        return batch * self.r.page

    cdef timed(self, Timed what, uint64_t batch):
        cdef uint64_t step = self.step(batch), elapsed
        with nogil:
            elapsed = what(&self.r, step)
        raise_error(&self.r)
        return elapsed

    def move(self, uint64_t batch):
        """MOVE of pages that exist to where there are none."""
        return self.timed(time_move, batch)

    def copy(self, uint64_t batch):
        """COPY out of a warm buffer of `batch` pages."""
        return self.timed(time_copy, batch)

    def zeropage(self, uint64_t batch):
        """ZEROPAGE: the shared zero page, mapped."""
        return self.timed(time_zeropage, batch)

    def fault(self, uint64_t batch):
        """First write to each page of memory that is not registered: there is no batch."""
        return self.timed(time_fault, batch)

    def populate(self, uint64_t batch):
        """madvise(MADV_POPULATE_WRITE): the same pages, faulted in by the kernel."""
        return self.timed(time_populate, batch)

    def madvise(self, uint64_t batch):
        """madvise(MADV_DONTNEED) of pages that exist."""
        return self.timed(time_madvise, batch)

    def memcpy(self, uint64_t batch):
        """memcpy from one range to another, all of whose pages are present."""
        return self.timed(time_memcpy, batch)

    def mremap(self, uint64_t batch):
        """mremap of pages that exist to another address, from the first to the last.

        Holds the GIL: until the holes it leaves are closed again, no other thread may map
        anything into them.
        """
        cdef uint64_t step = self.step(batch), at = 0, started, elapsed
        cdef word starts[2]
        cdef word memory
        cdef uint64_t mapped
        memory, mapped = reserve(self.r.bytes, 2, PAGE_TABLE_PAGES * self.r.page, starts)
        madvise(<void*>starts[0], self.r.bytes, MADV_NOHUGEPAGE)
        while at < self.r.bytes:
            store8_relaxed(<uint8_t*>(starts[0] + at), 1)
            at += self.r.page
        at = 0
        started = clock_ns()
        while at < self.r.bytes:
            if mremap(<void*>(starts[0] + at), step, step, MREMAP_MAYMOVE | MREMAP_FIXED,
                      <void*>(starts[1] + at)) == MAP_FAILED:
                refuse(&self.r, b"mremap", errno)
                break
            at += step
        elapsed = clock_ns() - started
        munmap(<void*>memory, mapped)
        raise_error(&self.r)
        return elapsed

    def copy_and_release(self, uint64_t batch):
        """COPY of pages that exist, and madvise(MADV_DONTNEED) of the source, batch by batch."""
        return self.timed(time_copy_and_release, batch)

    def allocate_and_move(self, uint64_t batch):
        """Fresh source pages faulted in, filled from a warm buffer, then MOVE of them."""
        return self.timed(time_allocate_and_move, batch)

    def sigbus_faults(self, uint64_t pages):
        """Read every page in order; the faulting thread MOVEs `pages` at each fault.

        Returns (nanoseconds, faults).  Holds SIGBUS of the whole process meanwhile.
        """
        return self.timed(time_sigbus, pages), self.r.faults

    def reported_faults(self, uint64_t pages):
        """The same, served by the thread that is in `read_faults`."""
        return self.timed(time_reported, pages), self.r.faults

    def read_faults(self, int stop):
        """Serve faults until the descriptor `stop` can be read; for a thread of its own."""
        with nogil:
            read_faults(&self.r, stop)


cdef class HugePages:
    """`count` huge pages of `size` bytes each, that move between two registered ranges.

    The kernel may have given small pages instead: compare the process's AnonHugePages
    before and after making one of these.
    """

    cdef Ranges r
    cdef word memory
    cdef uint64_t mapped
    cdef readonly uint64_t count, size

    def __cinit__(self, uint64_t count, uint64_t size):
        cdef word starts[3]
        cdef int i
        self.r.fd = -1
        self.count, self.size = count, size
        self.r.bytes = count * size
        self.memory, self.mapped = reserve(self.r.bytes, 3, size, starts)
        for i in range(3):
            if madvise(<void*>starts[i], self.r.bytes, MADV_HUGEPAGE) != 0:
                raise OSError(errno, f"madvise(MADV_HUGEPAGE): {os.strerror(errno)}")
        self.r.side[0], self.r.side[1], self.r.plain = starts[0], starts[1], starts[2]
        self.touch(self.r.side[0])
        self.r.fd = descriptor(GC_FEATURE_SIGBUS | GC_FEATURE_MOVE)
        register_sides(&self.r)

    def __dealloc__(self):
        self.close()

    def close(self):
        """Gives everything back; may be called twice."""
        if not self.memory:             # nor is there a descriptor: not even the arguments' check
            return
        if self.r.fd >= 0:
            posix_close(self.r.fd)
            self.r.fd = -1
        munmap(<void*>self.memory, self.mapped)
        self.memory = 0

    cdef void touch(self, word start) noexcept:
        cdef uint64_t at = 0
        while at < self.r.bytes:
            store8_relaxed(<uint8_t*>(start + at), 1)
            at += self.size

    def move(self):
        """MOVE of every huge page, one a call; nanoseconds in total."""
        cdef uint64_t elapsed
        if not self.memory:
            raise ValueError("these huge pages are closed")
        with nogil:
            elapsed = time_move(&self.r, self.size)
        raise_error(&self.r)
        return elapsed

    def fault(self):
        """First write to fresh huge pages, which the kernel zeroes; nanoseconds in total."""
        cdef uint64_t started
        if not self.memory:
            raise ValueError("these huge pages are closed")
        advise(&self.r, self.r.plain, self.r.bytes, MADV_DONTNEED)
        started = clock_ns()
        self.touch(self.r.plain)
        return clock_ns() - started

    def drop(self):
        """Give the pages of `fault` back."""
        advise(&self.r, self.r.plain, self.r.bytes, MADV_DONTNEED)


cdef class Spinner:
    """A loop without system calls: what makes a TLB shootdown real when it has another CPU.

    No pause instruction: in a virtual machine the host may take it for a reason to deschedule.
    """

    cdef uint32_t stopped
    cdef readonly uint64_t wall_ns, cpu_ns      # of `spin`, once it has returned

    def spin(self):
        """Runs without the GIL until `stop()`; for a thread of its own."""
        cdef uint64_t wall = clock_ns(), cpu = thread_cpu_ns()
        with nogil:
            # Acquire: pairs with stop(); nothing else is shared.
            while not load32_acquire(&self.stopped):
                pass
        self.wall_ns = clock_ns() - wall
        self.cpu_ns = thread_cpu_ns() - cpu

    def stop(self):
        store32_release(&self.stopped, 1)
