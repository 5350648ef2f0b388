"""Placing: making assembled pages appear in to-space, whatever the kernel answers.

The caller owns every unit of [dst, dst + nbytes) (I2).  The ladder, per page run:

    MOVE ok          -> next                        moved: page tables were edited
    MOVE short/EAGAIN-> MOVE again at src+done, dst+done     (I7: nothing is lost)
    MOVE EBUSY       -> COPY to the end of that unit         shared by fork or KSM, or pinned
    MOVE EINVAL      -> the same                             e.g. a source that mlockall locked
    EEXIST           -> is the source page empty? then it has moved, and the kernel did not say so;
                        otherwise drop the stray page once, again      a debugger's read, khugepaged
    ENOMEM           -> back off, again                      see core/memory_wait.pyx
    anything else    -> a broken invariant: say which, abort

*Pages that moved unreported.*  Since Linux 6.18 MOVE takes the pages of a page table together, and
remembers an EAGAIN that it met on the way: what it moves after that, in the same call, it forgets
to count, comes to it again and says EEXIST (mm/userfaultfd.c, move_pages; a page that somebody else
holds locked brings it about, as tests/uffd/test_uffd_huge.py shows).  The page at the destination
is then no stray: it holds what the source held, and the source is empty.  To drop it would lose
objects.  So the source decides: while it has contents, whatever stands at the
destination is a stray; once it reads as zeros, the destination has what belongs there, moved or
zero anyway.

Runs on faulting threads: async-signal-safe, takes no lock, allocates nothing (I4).
"""
from gcheap.core.failpoint cimport (
    FP_COMPACTOR_COPY, FP_COMPACTOR_MOVE, FP_MEMORY_STRAY, FP_PLACE_COPY, FP_PLACE_MOVE,
    FP_PLACE_UNREPORTED, FP_PLACE_ZEROPAGE, failpoint)
from gcheap.core.layout cimport BACKEND_COPY, BACKEND_STW, HeapState, PHASE_RELOCATE, word
from gcheap.core.memory_wait cimport MemoryWait, await_memory, begin_wait, end_wait
from gcheap.core.native cimport (
    add64_relaxed, gcheap_fatal, load32_acquire, set_errno, sleep_ns)
from gcheap.core.records cimport ERRNO_SLOTS, IOCTL_COPY, IOCTL_MOVE, IOCTL_ZEROPAGE, IoctlCounts
from gcheap.core.stress cimport delay_placement
from gcheap.core.uffd cimport (
    GC_MOVE_MODE_ALLOW_SRC_HOLES, Progress, uffd_copy, uffd_move, uffd_zeropage)
from libc.errno cimport EAGAIN, EBUSY, EEXIST, EINVAL, ENOENT, ENOMEM, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from posix.mman cimport MADV_DONTNEED, madvise

cdef enum:
    BACKOFF_NS = 200000
    CALM_TRIES = 16             # that make no progress, before this thread sleeps


cdef inline void count_ioctl(HeapState* h, int kind, Progress p) noexcept nogil:
    # Relaxed: counters, read for reports.
    cdef IoctlCounts* c = &h.ioctls[kind]
    add64_relaxed(&c.calls, 1)
    add64_relaxed(&c.pages, p.done // h.page)
    if p.error:
        add64_relaxed(&c.refused[p.error if p.error < ERRNO_SLOTS else 0], 1)


cdef inline void count_unreported(HeapState* h) noexcept nogil:
    """A page that MOVE moved and did not count."""
    add64_relaxed(&h.unreported_pages, 1)
    add64_relaxed(&h.ioctls[<int>IOCTL_MOVE].pages, 1)
    add64_relaxed(&h.moved_bytes, h.page)


cdef int64_t injected_at(uint32_t anywhere, uint32_t here) noexcept nogil:
    cdef int64_t injected = failpoint(anywhere)
    return injected if injected else failpoint(here)


cdef Progress try_one(HeapState* h, word dst, word src, uint64_t nbytes, uint64_t mode,
                      bint copying, int64_t injected) noexcept nogil:
    """One COPY or MOVE, as far as a failpoint lets it."""
    cdef uint64_t asked = nbytes
    cdef Progress p
    if injected > 0:
        p.done = 0
        p.error = <int>injected
        return p
    if injected < 0:
        asked = min(nbytes, <uint64_t>-injected * h.page)
    p = uffd_copy(h.fd, dst, src, asked, 0) if copying else uffd_move(h.fd, dst, src, asked, mode)
    if asked < nbytes and p.error == 0:
        p.error = EAGAIN
    return p


cdef Progress try_move(HeapState* h, word dst, word src, uint64_t nbytes, bint holes,
                       uint32_t site) noexcept nogil:
    cdef Progress p = try_one(h, dst, src, nbytes, GC_MOVE_MODE_ALLOW_SRC_HOLES if holes else 0,
                              False, injected_at(FP_PLACE_MOVE, FP_COMPACTOR_MOVE + site))
    cdef int unreported = <int>failpoint(FP_PLACE_UNREPORTED)
    if unreported:
        p.done = 0
        p.error = unreported
    count_ioctl(h, IOCTL_MOVE, p)
    add64_relaxed(&h.moved_bytes, p.done)
    return p


cdef Progress try_copy(HeapState* h, word dst, word src, uint64_t nbytes,
                       uint32_t site) noexcept nogil:
    cdef Progress p = try_one(h, dst, src, nbytes, 0, True,
                              injected_at(FP_PLACE_COPY, FP_COMPACTOR_COPY + site))
    count_ioctl(h, IOCTL_COPY, p)
    add64_relaxed(&h.copied_bytes, p.done)
    return p


cdef void drop_stray(HeapState* h, word page) noexcept nogil:
    """A page stands where an unplaced unit belongs: nobody but a stray reader made it, so it
    holds nothing (I6: only placed units have contents)."""
    cdef int saved = errno, error = <int>failpoint(FP_MEMORY_STRAY)
    if error == 0 and madvise(<void*>page, h.page, MADV_DONTNEED) != 0:
        error = errno
    set_errno(saved)
    add64_relaxed(&h.stray_pages, 1)
    if error:
        gcheap_fatal(b"a stray page in to-space cannot be dropped (address, errno)", page,
                     <uint64_t>error)


cdef uint64_t zero_run(HeapState* h, word at, uint64_t nbytes, bint zero) noexcept nogil:
    """Bytes of whole pages from `at` on that are all zero (or, `zero` false, are not)."""
    cdef uint64_t done = 0
    cdef word* p
    cdef word* end
    while done < nbytes:
        p = <word*>(at + done)
        end = <word*>(at + done + h.page)
        while p < end and p[0] == 0:
            p += 1
        if (p == end) != zero:
            break
        done += h.page
    return done


cdef inline void pause_after(uint64_t tries) noexcept nogil:
    """Between tries that got nowhere: sleeps, because what the kernel waits for may be a thread
    that needs this processor, and a yield gives it to nobody of lower priority."""
    if tries > CALM_TRIES:
        sleep_ns(BACKOFF_NS)


cdef void copy_in_pause(HeapState* h, word dst, word src, uint64_t nbytes) noexcept nogil:
    """Placing under stw: no page is protected; zero pages stay holes."""
    cdef uint64_t done = 0, n
    while done < nbytes:
        done += zero_run(h, src + done, nbytes - done, True)
        n = zero_run(h, src + done, nbytes - done, False)
        memcpy(<void*>(dst + done), <void*>(src + done), n)
        done += n


cdef bint place(HeapState* h, word dst, word src, uint64_t nbytes, bint holes,
                uint32_t site) noexcept nogil:
    """Places [src, src + nbytes) at dst.  `holes`: source pages may be missing (whole units);
    then a page that must be copied and is all zero is left a hole instead.

    Always returns with everything placed; True when every page was moved, so that the source
    is empty, False when some were copied.
    """
    cdef uint64_t done = 0, stray = <uint64_t>-1, copy_until = 0
    cdef bint moved = h.r.backend != BACKEND_COPY
    cdef bint copying
    cdef uint64_t calm = 0, want
    cdef Progress p
    cdef MemoryWait memory
    if h.r.backend == BACKEND_STW:
        copy_in_pause(h, dst, src, nbytes)
        return False
    delay_placement(h)
    begin_wait(&memory)
    if h.r.backend == BACKEND_COPY:
        copy_until = nbytes
    while done < nbytes:
        copying = done < copy_until
        if copying:
            want = copy_until - done
            if holes:
                want = zero_run(h, src + done, want, True)
                add64_relaxed(&h.skipped_bytes, want)
                done += want
                want = zero_run(h, src + done, copy_until - done, False)
                if want == 0:
                    continue
            p = try_copy(h, dst + done, src + done, want, site)
        else:
            p = try_move(h, dst + done, src + done, nbytes - done, holes, site)
        done += p.done
        if p.done:
            end_wait(h, &memory)
        if p.error == 0:
            continue
        if p.error == EAGAIN:
            # Short, or mmap_changing: the rest is asked for again (I7).  No limit to the
            # retries: giving up would lose the unit, and the kernel's reason passes.
            calm = 0 if p.done else calm + 1
            pause_after(calm)
        elif (p.error == EBUSY or p.error == EINVAL) and not copying:
            moved = False
            copy_until = min(nbytes, (done // h.unit_bytes + 1) * h.unit_bytes)
        elif p.error == EEXIST and not copying and zero_run(h, src + done, h.page, True):
            count_unreported(h)
            done += h.page
        elif p.error == EEXIST:
            if done == stray:
                gcheap_fatal(b"a page of an unplaced unit keeps appearing (address, done)",
                             dst + done, done)
            drop_stray(h, dst + done)
            stray = done
        elif p.error == ENOMEM:
            await_memory(h, &memory)
        else:
            gcheap_fatal(b"the kernel refused to place a unit (address, errno)", dst + done,
                         <uint64_t>p.error)
    end_wait(h, &memory)
    return moved


cdef bint place_hole(HeapState* h, word page) noexcept nogil:
    """Zeroes one missing page of a PLACED unit.  False: the range is no longer registered."""
    cdef Progress p
    cdef int64_t injected
    cdef uint64_t tries = 0
    cdef MemoryWait memory
    begin_wait(&memory)
    delay_placement(h)
    while True:
        injected = failpoint(FP_PLACE_ZEROPAGE)
        if injected > 0:
            p.done = 0
            p.error = <int>injected
        else:
            p = uffd_zeropage(h.fd, page, h.page, 0)
        count_ioctl(h, IOCTL_ZEROPAGE, p)
        if p.error == ENOMEM:
            await_memory(h, &memory)
            continue
        end_wait(h, &memory)
        if p.error == 0:
            add64_relaxed(&h.zeroed_bytes, h.page)
            add64_relaxed(&h.hole_faults, 1)
            return True
        if p.error == EEXIST:
            return True         # somebody else was faster
        if p.error == ENOENT or p.error == EINVAL:
            # Acquire: pairs with the collector's store after it unregistered.
            if load32_acquire(&h.phase) != PHASE_RELOCATE:
                return False
            gcheap_fatal(b"a registered page cannot be zeroed (address, errno)", page,
                         <uint64_t>p.error)
        if p.error != EAGAIN:
            gcheap_fatal(b"the kernel refused a zero page (address, errno)", page,
                         <uint64_t>p.error)
        tries += 1
        pause_after(tries)
