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
    clock_ns, load32_acquire, store8_relaxed, store32_release, thread_cpu_ns)
from gcheap.core.uffd cimport GC_FEATURE_MOVE, GC_FEATURE_SIGBUS
from gcheap.tools._fault_costs cimport read_faults, time_reported, time_sigbus
from gcheap.tools._ranges cimport (
    COPY, MOVE, PAGE_TABLE_PAGES, Ranges, ZEROPAGE, advise, aim, descriptor, empty_both, fill_one,
    raise_error, refuse, register_sides, reserve, touch_plain, whole)
from libc.errno cimport errno
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

ctypedef uint64_t (*Timed)(Ranges*, uint64_t) noexcept nogil


# ---- what is done to all pages, step by step, and what has to be there first ------------------

ctypedef bint (*Prepare)(Ranges* r, uint64_t step) noexcept nogil
ctypedef bint (*Step)(Ranges* r, uint64_t at, uint64_t step) noexcept nogil


cdef uint64_t time_steps(Ranges* r, uint64_t step, Prepare prepare, Step one) noexcept nogil:
    """Nanoseconds that all steps take; 0 after a failure."""
    cdef uint64_t at = 0, started
    if not prepare(r, step):
        return 0
    started = clock_ns()
    while at < r.bytes:
        if not one(r, at, step):
            return 0
        at += step
    return clock_ns() - started


cdef bint full_and_empty(Ranges* r, uint64_t step) noexcept nogil:
    return aim(r)


cdef bint empty(Ranges* r, uint64_t step) noexcept nogil:
    r.to = r.side[0]
    return empty_both(r)


cdef bint empty_and_warm(Ranges* r, uint64_t step) noexcept nogil:
    """An empty range that is going to be full, and a warm buffer of one step."""
    if not empty(r, step):
        return False
    r.full = 0
    memset(<void*>r.warm, 1, step)
    return True


cdef bint fresh_plain(Ranges* r, uint64_t step) noexcept nogil:
    return advise(r, r.plain, r.bytes, MADV_DONTNEED)


cdef bint touched_plain(Ranges* r, uint64_t step) noexcept nogil:
    return fresh_plain(r, step) and touch_plain(r)


cdef bint both_present(Ranges* r, uint64_t step) noexcept nogil:
    if not fill_one(r):
        return False
    r.to = r.side[r.full]                       # its pages are there: touching them is no fault
    return touch_plain(r)


cdef bint all_fresh(Ranges* r, uint64_t step) noexcept nogil:
    return fresh_plain(r, step) and empty_and_warm(r, step)


cdef bint move_pages(Ranges* r, uint64_t at, uint64_t step) noexcept nogil:
    return whole(r, MOVE, r.to + at, r.from_ + at, step)


cdef bint copy_pages(Ranges* r, uint64_t at, uint64_t step) noexcept nogil:
    return whole(r, COPY, r.to + at, r.warm, step)


cdef bint zero_pages(Ranges* r, uint64_t at, uint64_t step) noexcept nogil:
    return whole(r, ZEROPAGE, r.to + at, 0, step)


cdef bint touch_pages(Ranges* r, uint64_t at, uint64_t step) noexcept nogil:
    cdef uint64_t end = at + step
    while at < end:
        store8_relaxed(<uint8_t*>(r.plain + at), 1)
        at += r.page
    return True


cdef bint populate_pages(Ranges* r, uint64_t at, uint64_t step) noexcept nogil:
    return advise(r, r.plain + at, step, MADV_POPULATE_WRITE)


cdef bint drop_pages(Ranges* r, uint64_t at, uint64_t step) noexcept nogil:
    return advise(r, r.plain + at, step, MADV_DONTNEED)


cdef bint copy_present_pages(Ranges* r, uint64_t at, uint64_t step) noexcept nogil:
    memcpy(<void*>(r.to + at), <void*>(r.plain + at), step)
    return True


cdef bint copy_and_release_pages(Ranges* r, uint64_t at, uint64_t step) noexcept nogil:
    return (whole(r, COPY, r.to + at, r.from_ + at, step)
            and advise(r, r.from_ + at, step, MADV_DONTNEED))


cdef bint allocate_and_move_pages(Ranges* r, uint64_t at, uint64_t step) noexcept nogil:
    memcpy(<void*>(r.plain + at), <void*>r.warm, step)
    return whole(r, MOVE, r.to + at, r.plain + at, step)


# ---- the Python face -------------------------------------------------------------------------

cdef class Memory:
    """Ranges that are mapped and registered as long as the object lives."""

    cdef Ranges r
    cdef word memory
    cdef uint64_t mapped

    def __cinit__(self):
        self.r.fd = -1

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


cdef class Scratch(Memory):
    """Memory for measurements: `pages` pages in each range, a multiple of every batch.

    sigbus  True: missing pages raise SIGBUS; False: they are reported to `read_faults`
    """

    cdef readonly uint64_t pages

    def __cinit__(self, uint64_t pages, bint sigbus=True):
        cdef word starts[4]
        cdef int i
        cdef uint64_t page = os.sysconf("SC_PAGE_SIZE"), table = PAGE_TABLE_PAGES * page
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

    cdef uint64_t step(self, uint64_t batch) except 0:
        if not self.memory:
            raise ValueError("this scratch memory is closed")
        if batch < 1 or batch > PAGE_TABLE_PAGES or PAGE_TABLE_PAGES % batch:
            raise ValueError(f"batch={batch}: expected a divisor of {PAGE_TABLE_PAGES}")
        return batch * self.r.page

    cdef timed(self, Prepare prepare, Step one, uint64_t batch):
        cdef uint64_t step = self.step(batch), elapsed
        with nogil:
            elapsed = time_steps(&self.r, step, prepare, one)
        raise_error(&self.r)
        return elapsed

    cdef faults(self, Timed what, uint64_t pages):
        cdef uint64_t step = self.step(pages), elapsed
        with nogil:
            elapsed = what(&self.r, step)
        raise_error(&self.r)
        return elapsed, self.r.faults

    def move(self, uint64_t batch):
        """MOVE of pages that exist to where there are none."""
        return self.timed(full_and_empty, move_pages, batch)

    def copy(self, uint64_t batch):
        """COPY out of a warm buffer of `batch` pages."""
        return self.timed(empty_and_warm, copy_pages, batch)

    def zeropage(self, uint64_t batch):
        """ZEROPAGE: the shared zero page, mapped."""
        return self.timed(empty, zero_pages, batch)

    def fault(self, uint64_t batch):
        """First write to each page of memory that is not registered: there is no batch."""
        return self.timed(fresh_plain, touch_pages, batch)

    def populate(self, uint64_t batch):
        """madvise(MADV_POPULATE_WRITE): the same pages, faulted in by the kernel."""
        return self.timed(fresh_plain, populate_pages, batch)

    def madvise(self, uint64_t batch):
        """madvise(MADV_DONTNEED) of pages that exist."""
        return self.timed(touched_plain, drop_pages, batch)

    def memcpy(self, uint64_t batch):
        """memcpy from one range to another, all of whose pages are present."""
        return self.timed(both_present, copy_present_pages, batch)

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
        return self.timed(full_and_empty, copy_and_release_pages, batch)

    def allocate_and_move(self, uint64_t batch):
        """Fresh source pages faulted in, filled from a warm buffer, then MOVE of them."""
        return self.timed(all_fresh, allocate_and_move_pages, batch)

    def sigbus_faults(self, uint64_t pages):
        """Read every page in order; the faulting thread MOVEs `pages` at each fault.

        Returns (nanoseconds, faults).  Holds SIGBUS of the whole process meanwhile.
        """
        return self.faults(time_sigbus, pages)

    def reported_faults(self, uint64_t pages):
        """The same, served by the thread that is in `read_faults`."""
        return self.faults(time_reported, pages)

    def read_faults(self, int stop):
        """Serve faults until the descriptor `stop` can be read; for a thread of its own."""
        with nogil:
            read_faults(&self.r, stop)


cdef class HugePages(Memory):
    """`count` huge pages of `size` bytes each, that move between two registered ranges.

    The kernel may have given small pages instead: compare the process's AnonHugePages
    before and after making one of these.
    """

    cdef readonly uint64_t count, size

    def __cinit__(self, uint64_t count, uint64_t size):
        cdef word starts[3]
        cdef int i
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
            elapsed = time_steps(&self.r, self.size, full_and_empty, move_pages)
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
