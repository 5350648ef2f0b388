"""Scratch memory for measurements (see the .pxd)."""
import os

from gcheap.core.layout cimport word
from gcheap.core.native cimport store8_relaxed
from gcheap.core.probe import open_descriptor
from gcheap.core.uffd cimport (
    Progress, uffd_copy, uffd_handshake, uffd_move, uffd_register, uffd_zeropage)
from libc.errno cimport EAGAIN, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from posix.mman cimport (
    MADV_DONTNEED, MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, PROT_NONE, PROT_READ,
    PROT_WRITE, madvise, mmap, mprotect, munmap)
from posix.unistd cimport close as posix_close

cdef enum:
    MOST_RETRIES = 100000       # of an ioctl that makes no progress


cdef uint64_t refuse(Ranges* r, const char* what, int error) noexcept nogil:
    """Notes the first failure; the object is of no use afterwards."""
    if not r.error:
        r.error = error
        r.what = what
    return 0


cdef bint whole(Ranges* r, int kind, word dst, word src, uint64_t nbytes) noexcept nogil:
    """One placement, carried on after short answers (the result says how far it came)."""
    cdef uint64_t done = 0
    cdef uint32_t retries = 0
    cdef Progress p
    while True:
        if kind == MOVE:
            p = uffd_move(r.fd, dst + done, src + done, nbytes - done, 0)
        elif kind == COPY:
            p = uffd_copy(r.fd, dst + done, src + done, nbytes - done, 0)
        else:
            p = uffd_zeropage(r.fd, dst + done, nbytes - done, 0)
        done += p.done
        if p.error == 0:
            return True
        retries = 0 if p.done else retries + 1
        if p.error != EAGAIN or retries > MOST_RETRIES:
            refuse(r, b"UFFDIO_MOVE" if kind == MOVE else
                   b"UFFDIO_COPY" if kind == COPY else b"UFFDIO_ZEROPAGE", p.error)
            return False


cdef bint advise(Ranges* r, word start, uint64_t nbytes, int advice) noexcept nogil:
    if madvise(<void*>start, nbytes, advice) != 0:
        refuse(r, b"madvise", errno)
        return False
    return True


cdef bint empty_both(Ranges* r) noexcept nogil:
    r.full = -1
    return (advise(r, r.side[0], r.bytes, MADV_DONTNEED)
            and advise(r, r.side[1], r.bytes, MADV_DONTNEED))


cdef bint fill_one(Ranges* r) noexcept nogil:
    """Gives one range pages of its own, by COPY: nothing registered is touched."""
    cdef uint64_t at = 0, step = PAGE_TABLE_PAGES * r.page
    if r.full >= 0:
        return True
    if not empty_both(r):
        return False
    while at < r.bytes:
        if not whole(r, COPY, r.side[0] + at, r.warm, min(step, r.bytes - at)):
            return False
        at += step
    r.full = 0
    return True


cdef bint aim(Ranges* r) noexcept nogil:
    if not fill_one(r):
        return False
    r.from_ = r.side[r.full]
    r.to = r.side[1 - r.full]
    r.full = 1 - r.full
    return True


cdef bint touch_plain(Ranges* r) noexcept nogil:
    cdef uint64_t at = 0
    while at < r.bytes:
        store8_relaxed(<uint8_t*>(r.plain + at), 1)
        at += r.page
    return True


cdef (word, uint64_t) reserve(uint64_t nbytes, uint64_t count, uint64_t align, word* starts):
    """`count` writable ranges, each aligned and with unusable space between them; returns what
    munmap needs."""
    cdef uint64_t stride = (nbytes + align - 1) // align * align + align, i
    cdef uint64_t mapped = count * stride + align
    cdef void* memory = mmap(NULL, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                             -1, 0)
    if memory == MAP_FAILED:
        raise OSError(errno, f"mmap of {mapped} bytes: {os.strerror(errno)}")
    for i in range(count):
        starts[i] = (<word>memory + align - 1) // align * align + i * stride
        if mprotect(<void*>starts[i], nbytes, PROT_READ | PROT_WRITE) != 0:
            munmap(memory, mapped)
            raise OSError(errno, f"mprotect: {os.strerror(errno)}")
    return <word>memory, mapped


cdef int descriptor(uint64_t features) except -1:
    cdef uint64_t offered = 0, ioctls = 0
    cdef int error
    fd, _, error = open_descriptor()
    if fd < 0:
        raise OSError(error, f"userfaultfd: {os.strerror(error)}")
    error = uffd_handshake(fd, features, &offered, &ioctls)
    if error:
        posix_close(fd)
        raise OSError(error, f"UFFDIO_API with features {features:#x}: {os.strerror(error)}")
    return fd


cdef register_sides(Ranges* r):
    cdef int i, error
    for i in range(2):
        error = uffd_register(r.fd, r.side[i], r.bytes)
        if error:
            raise OSError(error, f"UFFDIO_REGISTER: {os.strerror(error)}")


cdef raise_error(Ranges* r):
    """Raises what was noted, if anything was."""
    if r.error:
        raise OSError(r.error, f"{r.what.decode()}: {os.strerror(r.error)}")
