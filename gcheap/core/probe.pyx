"""What this kernel offers an unprivileged process, tried on scratch memory."""
import os
from dataclasses import dataclass

from gcheap.core.descriptor cimport begin_uffd, open_uffd
from gcheap.core.layout cimport word
from gcheap.core.mapping cimport map_memory, unmap_memory
from gcheap.core.uffd cimport (
    GC_FEATURE_MOVE, GC_FEATURE_SIGBUS, Progress, uffd_copy, uffd_move, uffd_register)
from libc.errno cimport EIO, ENOMEM, errno
from libc.stdint cimport uint64_t
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


cdef int try_placing(int fd, bint move, uint64_t page) noexcept:
    """Moves (or copies) one page into a registered range, contents and all.  Returns an errno."""
    cdef word src = map_memory(2 * page, True), dst = src + page
    cdef Progress p
    if src == 0:
        return errno
    (<word*>src)[0] = 0x6763686561700001
    p.error = uffd_register(fd, dst, page)
    if p.error == 0:
        p = uffd_move(fd, dst, src, page, 0) if move else uffd_copy(fd, dst, src, page, 0)
        if p.error == 0 and (<word*>dst)[0] != 0x6763686561700001:
            p.error = EIO
    unmap_memory(src, 2 * page)
    return p.error


def refusal(what, error):
    """Why a trial failed, in words."""
    short = ("; memory or mappings are short (vm.max_map_count, RLIMIT_AS, RLIMIT_DATA)"
             if error == ENOMEM else "")
    return f"{what} answers {os.strerror(error)} here{short}"


def probe():
    """Tries the kernel and returns a `Probe`.  Opens and closes one descriptor; a few us."""
    cdef uint64_t features = 0, ioctls = 0
    cdef uint64_t page = os.sysconf("SC_PAGE_SIZE")
    cdef bint sigbus = False, copies = False, moves = False
    cdef int copy_error = 0, move_error = 0
    fd, how, error = open_descriptor()
    reason = ""
    if fd < 0:
        reason = f"userfaultfd(2) answers {os.strerror(error)}"
    elif begin_uffd(fd, GC_FEATURE_SIGBUS, &features, &ioctls) != 0:
        reason = "this kernel's userfaultfd has no SIGBUS feature (Linux 4.14)"
    else:
        sigbus = True
        copy_error = try_placing(fd, False, page)
        copies = copy_error == 0
        if features & GC_FEATURE_MOVE:
            move_error = try_placing(fd, True, page)
            moves = move_error == 0
    if fd >= 0:
        posix_close(fd)
    if moves:
        backend, why = "move", "UFFDIO_MOVE works here"
    elif copies:
        backend = "copy"
        why = (refusal("UFFDIO_MOVE", move_error) if features & GC_FEATURE_MOVE
               else "this kernel has no UFFDIO_MOVE (Linux 6.8)")
    else:
        backend = "stw"
        why = (reason or refusal("UFFDIO_COPY", copy_error)) + ", so compaction happens inside a pause"
    return Probe(
        kernel=os.uname().release, page_size=page, syscall_errno=error, opened_by=how,
        features=features,
        feature_names=tuple(name for bit, name in enumerate(FEATURES) if features >> bit & 1),
        ioctls=ioctls, sigbus=sigbus, copy_works=copies, move_works=moves,
        backend=backend, fault_mode="none" if backend == "stw" else "sigbus", why=why)
