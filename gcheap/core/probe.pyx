"""What this kernel offers an unprivileged process, tried on scratch memory."""
import os
from dataclasses import dataclass

from gcheap.core.descriptor cimport begin_uffd, open_uffd
from gcheap.core.layout cimport word
from gcheap.core.uffd cimport (
    GC_FEATURE_MOVE, GC_FEATURE_SIGBUS, uffd_copy, uffd_move, uffd_register)
from libc.stdint cimport uint64_t
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap)
from posix.unistd cimport close as posix_close

# In the order of their bits.
FEATURES = (
    "PAGEFAULT_FLAG_WP", "EVENT_FORK", "EVENT_REMAP", "EVENT_REMOVE", "MISSING_HUGETLBFS",
    "MISSING_SHMEM", "EVENT_UNMAP", "SIGBUS", "THREAD_ID", "MINOR_HUGETLBFS", "MINOR_SHMEM",
    "EXACT_ADDRESS", "WP_HUGETLBFS_SHMEM", "WP_UNPOPULATED", "POISON", "WP_ASYNC", "MOVE",
)


@dataclass(frozen=True)
class Probe:
    """What was found.  `features` and `ioctls` are the kernel's words, `page_size` is in bytes."""

    kernel: str
    page_size: int
    syscall_errno: int          # of userfaultfd(2), 0 when it worked
    opened_by: str              # "syscall", "device" or ""
    features: int
    feature_names: tuple
    ioctls: int
    sigbus: bool
    copy_works: bool
    move_works: bool
    backend: str                # what "auto" takes
    fault_mode: str
    why: str                    # one sentence


def open_descriptor():
    """(descriptor or -1, how it was opened, errno of the system call)."""
    cdef int refused
    cdef int fd = open_uffd(&refused)
    if fd < 0:
        return -1, "", -refused
    return fd, "device" if refused else "syscall", -refused


cdef bint try_placing(int fd, bint move, uint64_t page) noexcept:
    """Whether one page can be moved (or copied) into a registered range, contents and all."""
    cdef void* memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                             -1, 0)
    cdef word src = <word>memory, dst
    cdef bint works = False
    cdef uint64_t done
    if memory == MAP_FAILED:
        return False
    dst = src + page
    (<word*>src)[0] = 0x6763686561700001
    if uffd_register(fd, dst, page) == 0:
        done = (uffd_move(fd, dst, src, page, 0).done if move
                else uffd_copy(fd, dst, src, page, 0).done)
        works = done == page and (<word*>dst)[0] == 0x6763686561700001
    munmap(memory, 2 * page)
    return works


def probe():
    """Tries the kernel and returns a `Probe`.  Opens and closes one descriptor; a few us."""
    cdef uint64_t features = 0, ioctls = 0
    cdef uint64_t page = os.sysconf("SC_PAGE_SIZE")
    cdef bint sigbus = False, copies = False, moves = False
    fd, how, error = open_descriptor()
    reason = ""
    if fd < 0:
        reason = f"userfaultfd(2) answers {os.strerror(error)}"
    elif begin_uffd(fd, GC_FEATURE_SIGBUS, &features, &ioctls) != 0:
        reason = "this kernel's userfaultfd has no SIGBUS feature (Linux 4.14)"
    else:
        sigbus = True
        copies = try_placing(fd, False, page)
        moves = features & GC_FEATURE_MOVE and try_placing(fd, True, page)
    if fd >= 0:
        posix_close(fd)
    if moves:
        backend, why = "move", "UFFDIO_MOVE works here"
    elif copies:
        backend = "copy"
        why = ("UFFDIO_MOVE is refused here" if features & GC_FEATURE_MOVE
               else "this kernel has no UFFDIO_MOVE (Linux 6.8)")
    else:
        backend = "stw"
        why = (reason or "UFFDIO_COPY is refused here") + ", so compaction happens inside a pause"
    return Probe(
        kernel=os.uname().release, page_size=page, syscall_errno=error, opened_by=how,
        features=features,
        feature_names=tuple(name for bit, name in enumerate(FEATURES) if features >> bit & 1),
        ioctls=ioctls, sigbus=sigbus, copy_works=copies, move_works=moves,
        backend=backend, fault_mode="none" if backend == "stw" else "sigbus", why=why)
