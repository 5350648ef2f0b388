"""Capabilities of userfaultfd, one function each that tries it for real on memory of its own.

Each runs in a forked child (`gcheap.tools._attempt`), which ends in it at the first thing that is
not as it should be; one that returns has found that the capability works.
"""
from gcheap.core.layout cimport word
from gcheap.core.native cimport (
    load8_relaxed, load32_acquire, load64_acquire, set_errno, store32_release, thread_id)
from gcheap.core.uffd cimport (
    uffd_copy, uffd_move, uffd_open, uffd_poison, uffd_register_modes, uffd_writeprotect,
    uffd_zeropage)
from gcheap.tools._cases cimport (
    ANONYMOUS, BY_CONTINUE, BY_COPY, BY_COPY_AND_WAKE, BY_NOTING, BY_UNPROTECTING, Case,
    HUGETLBFS, PATTERN, Report, SHMEM, WORKS, WRONG, anonymous, case_tried, end, expect, handshaken,
    map_case, need, new_case, open_any, open_case, placed, register_case, start_reader,
    touch_and_compare, wait_seen)
from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset, strlen, strstr
from posix.fcntl cimport O_RDONLY, open as posix_open
from posix.mman cimport MADV_DONTNEED, MAP_FAILED, madvise, munmap
from posix.types cimport pid_t
from posix.unistd cimport _exit, close as posix_close, fork, pipe, read, write

cdef extern from "gcheap/native/uffd_abi.h" nogil:
    uint64_t GC_FEATURE_PAGEFAULT_FLAG_WP, GC_FEATURE_EVENT_FORK, GC_FEATURE_EVENT_REMAP
    uint64_t GC_FEATURE_EVENT_REMOVE, GC_FEATURE_EVENT_UNMAP, GC_FEATURE_MISSING_SHMEM
    uint64_t GC_FEATURE_MISSING_HUGETLBFS, GC_FEATURE_SIGBUS, GC_FEATURE_THREAD_ID
    uint64_t GC_FEATURE_MINOR_SHMEM, GC_FEATURE_MINOR_HUGETLBFS, GC_FEATURE_EXACT_ADDRESS
    uint64_t GC_FEATURE_WP_HUGETLBFS_SHMEM, GC_FEATURE_WP_UNPOPULATED, GC_FEATURE_POISON
    uint64_t GC_FEATURE_WP_ASYNC, GC_FEATURE_MOVE
    uint64_t GC_REGISTER_MODE_MISSING, GC_REGISTER_MODE_WP, GC_REGISTER_MODE_MINOR
    uint64_t GC_WRITEPROTECT_MODE_WP, GC_PAGEFAULT_FLAG_WP, GC_PAGEFAULT_FLAG_MINOR
    int GC_EVENT_PAGEFAULT, GC_EVENT_FORK, GC_EVENT_REMAP, GC_EVENT_REMOVE, GC_EVENT_UNMAP

cdef extern from "<sys/mman.h>" nogil:
    int MADV_HUGEPAGE, MREMAP_MAYMOVE, MREMAP_FIXED
    void* mremap(void*, size_t, size_t, int, ...)

cdef extern from "<signal.h>" nogil:
    ctypedef struct siginfo_t:
        void* si_addr
    struct sigaction_t "sigaction":
        void (*sa_sigaction)(int, siginfo_t*, void*) noexcept nogil
        int sa_flags
    int sigaction(int, const sigaction_t*, sigaction_t*)
    int SIGBUS, SA_SIGINFO

cdef extern from "<sys/wait.h>" nogil:
    pid_t waitpid(pid_t, int*, int)

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int, void*, size_t, long)

cdef extern from "<stdlib.h>" nogil:
    unsigned long strtoul(const char*, char**, int)

ctypedef void (*info_handler)(int, siginfo_t*, void*) noexcept nogil

cdef enum:
    UFFD_WP_BIT = 57            # of a page's word in /proc/self/pagemap: userfaultfd protects it


cdef void by_reader(Report* r, int memory, uint64_t features, uint64_t modes, int how,
                    uint64_t flags) noexcept nogil:
    """A missing or minor fault of `memory`, served by a thread that reads the descriptor."""
    cdef Case* c = new_case(r, how)
    c.memory, c.flags = memory, flags
    map_case(c)
    if c.alias and how == BY_CONTINUE:
        (<word*>c.alias)[0] = PATTERN           # now in the page cache, but not mapped at c.page
    register_case(c, features, modes)
    if features & GC_FEATURE_THREAD_ID:
        c.thread = <uint32_t>thread_id()
    start_reader(c)
    touch_and_compare(c)


cdef void protected(Report* r, int memory, uint64_t features, bint populate) noexcept nogil:
    """A write to a protected page, answered by lifting the protection."""
    cdef Case* c = new_case(r, BY_UNPROTECTING)
    c.memory, c.flags = memory, GC_PAGEFAULT_FLAG_WP
    map_case(c)
    if populate:
        (<word*>c.page)[0] = PATTERN
    register_case(c, features, GC_REGISTER_MODE_WP)
    need(r, uffd_writeprotect(c.fd, c.page, c.bytes, GC_WRITEPROTECT_MODE_WP),
         b"UFFDIO_WRITEPROTECT")
    start_reader(c)
    (<word*>c.page)[0] = PATTERN
    expect(r, wait_seen(c, 1), b"a write to a protected page was no event")
    expect(r, (<word*>c.page)[0] == PATTERN, b"the page has other contents")


cdef void try_userfaultfd(Report* r) noexcept nogil:
    handshaken(r, open_any(), 0)


cdef void try_device(Report* r) noexcept nogil:
    cdef int fd = uffd_open(True, True)
    need(r, -fd if fd < 0 else 0, b"/dev/userfaultfd")


cdef void try_copy(Report* r) noexcept nogil:
    cdef Case* c = open_case(r, BY_COPY, GC_FEATURE_SIGBUS, GC_REGISTER_MODE_MISSING)
    placed(r, uffd_copy(c.fd, c.page, c.buffer, c.bytes, 0), c.bytes, b"UFFDIO_COPY")
    expect(r, (<word*>c.page)[0] == PATTERN, b"the copied page has other contents")


cdef void try_zeropage(Report* r) noexcept nogil:
    cdef Case* c = open_case(r, BY_COPY, GC_FEATURE_SIGBUS, GC_REGISTER_MODE_MISSING)
    placed(r, uffd_zeropage(c.fd, c.page, c.bytes, 0), c.bytes, b"UFFDIO_ZEROPAGE")
    expect(r, (<word*>c.page)[0] == 0, b"the page is not zero")


cdef void try_move(Report* r) noexcept nogil:
    cdef Case* c = open_case(r, BY_COPY, GC_FEATURE_SIGBUS | GC_FEATURE_MOVE,
                             GC_REGISTER_MODE_MISSING)
    placed(r, uffd_move(c.fd, c.page, c.buffer, c.bytes, 0), c.bytes, b"UFFDIO_MOVE")
    expect(r, (<word*>c.page)[0] == PATTERN, b"the moved page has other contents")
    expect(r, (<word*>c.buffer)[0] == 0, b"the source still has its contents")


cdef uint64_t huge_bytes(Report* r) noexcept nogil:
    """AnonHugePages of this process, which has one thread."""
    cdef char text[4096]
    cdef const char* label = b"\nAnonHugePages:"
    cdef const char* line
    cdef ssize_t length
    cdef int file = posix_open("/proc/self/smaps_rollup", O_RDONLY)
    if file < 0:
        need(r, errno, b"/proc/self/smaps_rollup")
    length = read(file, text, sizeof(text) - 1)
    posix_close(file)
    expect(r, length > 0, b"/proc/self/smaps_rollup is empty")
    text[length] = 0
    line = strstr(text, label)
    expect(r, line != NULL, b"/proc/self/smaps_rollup tells of no huge pages")
    return strtoul(line + strlen(label), NULL, 10) * 1024


cdef void try_move_huge(Report* r) noexcept nogil:
    cdef word start, src, dst, at = 0
    cdef uint64_t before, given, ioctls = 0, size = r.huge
    cdef int fd
    expect(r, size > 0, b"this kernel has no transparent huge pages")
    fd = handshaken(r, open_any(), GC_FEATURE_SIGBUS | GC_FEATURE_MOVE)
    before = huge_bytes(r)
    start = anonymous(r, 3 * size)
    src = (start + size - 1) // size * size
    dst = src + size
    if madvise(<void*>start, 3 * size, MADV_HUGEPAGE) != 0:
        need(r, errno, b"madvise(MADV_HUGEPAGE)")
    while at < size:
        (<word*>(src + at))[0] = PATTERN + at
        at += r.page
    given = huge_bytes(r)
    expect(r, given == before + size, b"no huge page was given")
    need(r, uffd_register_modes(fd, dst, size, GC_REGISTER_MODE_MISSING, &ioctls),
         b"UFFDIO_REGISTER")
    placed(r, uffd_move(fd, dst, src, size, 0), size, b"UFFDIO_MOVE")
    expect(r, huge_bytes(r) == given, b"the huge page was split")
    at = 0
    while at < size:
        expect(r, (<word*>(dst + at))[0] == PATTERN + at, b"the moved page has other contents")
        at += r.page


cdef void serve_sigbus(int number, siginfo_t* info, void* context) noexcept nogil:
    cdef int saved = errno
    cdef Case* c = case_tried()
    expect(c.report, <word>info.si_addr - c.page < c.bytes, b"SIGBUS names another address")
    store32_release(&c.seen, c.seen + 1)
    expect(c.report, c.seen == 1, b"SIGBUS came again after it was served")
    placed(c.report, uffd_copy(c.fd, c.page, c.buffer, c.bytes, 0), c.bytes, b"UFFDIO_COPY")
    set_errno(saved)


cdef void expect_poison(int number, siginfo_t* info, void* context) noexcept nogil:
    # The code is BUS_MCEERR_AR only where the kernel has CONFIG_MEMORY_FAILURE.
    cdef Case* c = case_tried()
    expect(c.report, <word>info.si_addr - c.page < c.bytes, b"SIGBUS names another address")
    end(c.report, WORKS, NULL, 0)


cdef Case* open_sigbus(Report* r, uint64_t features, info_handler handler) noexcept nogil:
    cdef sigaction_t ours
    cdef Case* c = open_case(r, BY_COPY, features, GC_REGISTER_MODE_MISSING)
    memset(&ours, 0, sizeof(ours))
    ours.sa_sigaction = handler
    ours.sa_flags = SA_SIGINFO
    sigaction(SIGBUS, &ours, NULL)
    return c


cdef void try_sigbus(Report* r) noexcept nogil:
    cdef Case* c = open_sigbus(r, GC_FEATURE_SIGBUS, serve_sigbus)
    # Atomic, in this order: the handler runs within the first, which the compiler does not know.
    expect(r, load64_acquire(<word*>c.page) == PATTERN, b"the page has other contents")
    expect(r, load32_acquire(&c.seen) == 1, b"the page came without SIGBUS")


cdef void try_poison(Report* r) noexcept nogil:
    cdef Case* c = open_sigbus(r, GC_FEATURE_POISON, expect_poison)
    placed(r, uffd_poison(c.fd, c.page, c.bytes, 0), c.bytes, b"UFFDIO_POISON")
    load8_relaxed(<unsigned char*>c.page)
    end(r, WRONG, b"a poisoned page can be read", 0)


cdef void try_reader(Report* r) noexcept nogil:
    by_reader(r, ANONYMOUS, 0, GC_REGISTER_MODE_MISSING, BY_COPY, 0)


cdef void try_wake(Report* r) noexcept nogil:
    by_reader(r, ANONYMOUS, 0, GC_REGISTER_MODE_MISSING, BY_COPY_AND_WAKE, 0)


cdef void try_missing_shmem(Report* r) noexcept nogil:
    by_reader(r, SHMEM, GC_FEATURE_MISSING_SHMEM, GC_REGISTER_MODE_MISSING, BY_COPY, 0)


cdef void try_missing_hugetlbfs(Report* r) noexcept nogil:
    by_reader(r, HUGETLBFS, GC_FEATURE_MISSING_HUGETLBFS, GC_REGISTER_MODE_MISSING, BY_COPY, 0)


cdef void try_minor_shmem(Report* r) noexcept nogil:
    by_reader(r, SHMEM, GC_FEATURE_MINOR_SHMEM, GC_REGISTER_MODE_MINOR, BY_CONTINUE,
              GC_PAGEFAULT_FLAG_MINOR)


cdef void try_minor_hugetlbfs(Report* r) noexcept nogil:
    by_reader(r, HUGETLBFS, GC_FEATURE_MINOR_HUGETLBFS, GC_REGISTER_MODE_MINOR, BY_CONTINUE,
              GC_PAGEFAULT_FLAG_MINOR)


cdef void try_thread_id(Report* r) noexcept nogil:
    by_reader(r, ANONYMOUS, GC_FEATURE_THREAD_ID, GC_REGISTER_MODE_MISSING, BY_COPY, 0)


cdef void try_exact_address(Report* r) noexcept nogil:
    cdef Case* c = open_case(r, BY_COPY, GC_FEATURE_EXACT_ADDRESS, GC_REGISTER_MODE_MISSING)
    c.exact = c.page + 1000
    start_reader(c)
    load8_relaxed(<unsigned char*>c.exact)
    expect(r, wait_seen(c, 1), b"the page came without an event")


cdef void try_write_protect(Report* r) noexcept nogil:
    protected(r, ANONYMOUS, GC_FEATURE_PAGEFAULT_FLAG_WP, True)


cdef void try_write_protect_shmem(Report* r) noexcept nogil:
    protected(r, SHMEM, GC_FEATURE_WP_HUGETLBFS_SHMEM, True)


cdef void try_write_protect_unpopulated(Report* r) noexcept nogil:
    protected(r, ANONYMOUS, GC_FEATURE_WP_UNPOPULATED, False)


cdef bint pagemap_protected(Report* r, word page) noexcept nogil:
    cdef uint64_t entry = 0
    cdef int file = posix_open("/proc/self/pagemap", O_RDONLY)
    if file < 0:
        need(r, errno, b"/proc/self/pagemap")
    expect(r, pread(file, &entry, 8, page // r.page * 8) == 8, b"/proc/self/pagemap is short")
    posix_close(file)
    return entry >> UFFD_WP_BIT & 1


cdef void try_write_protect_async(Report* r) noexcept nogil:
    cdef Case* c = new_case(r, BY_NOTING)
    map_case(c)
    (<word*>c.page)[0] = PATTERN
    register_case(c, GC_FEATURE_WP_ASYNC, GC_REGISTER_MODE_WP)
    need(r, uffd_writeprotect(c.fd, c.page, c.bytes, GC_WRITEPROTECT_MODE_WP),
         b"UFFDIO_WRITEPROTECT")
    expect(r, pagemap_protected(r, c.page), b"the page is not shown as protected")
    (<word*>c.page)[0] = PATTERN + 1            # nobody reads the descriptor
    expect(r, not pagemap_protected(r, c.page), b"a write did not lift the protection")


cdef void try_events(Report* r) noexcept nogil:
    """REMOVE, REMAP and UNMAP: each call waits until its event was read."""
    cdef Case* c = open_case(
        r, BY_NOTING, GC_FEATURE_EVENT_REMOVE | GC_FEATURE_EVENT_REMAP | GC_FEATURE_EVENT_UNMAP,
        GC_REGISTER_MODE_MISSING)
    cdef void* moved
    start_reader(c)
    if madvise(<void*>c.page, c.bytes, MADV_DONTNEED) != 0:
        need(r, errno, b"madvise")
    moved = mremap(<void*>c.page, c.bytes, c.bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
                   <void*>anonymous(r, c.bytes))
    if moved == MAP_FAILED:
        need(r, errno, b"mremap")
    if munmap(moved, c.bytes) != 0:
        need(r, errno, b"munmap")
    expect(r, wait_seen(c, 1u << (GC_EVENT_REMOVE - GC_EVENT_PAGEFAULT)), b"no REMOVE event")
    expect(r, wait_seen(c, 1u << (GC_EVENT_REMAP - GC_EVENT_PAGEFAULT)), b"no REMAP event")
    expect(r, wait_seen(c, 1u << (GC_EVENT_UNMAP - GC_EVENT_PAGEFAULT)), b"no UNMAP event")


cdef void try_event_fork(Report* r) noexcept nogil:
    cdef Case* c = open_case(r, BY_NOTING, GC_FEATURE_EVENT_FORK, GC_REGISTER_MODE_MISSING)
    cdef pid_t child
    start_reader(c)
    child = fork()
    if child == 0:
        _exit(0)
    if child < 0:
        need(r, errno, b"fork")
    waitpid(child, NULL, 0)
    expect(r, wait_seen(c, 1u << (GC_EVENT_FORK - GC_EVENT_PAGEFAULT)), b"no FORK event")


cdef void try_kernel_faults(Report* r) noexcept nogil:
    """A system call that is handed a missing page waits for it, instead of failing EFAULT."""
    cdef Case* c = new_case(r, BY_COPY)
    cdef uint64_t ioctls = 0
    cdef int ends[2]
    cdef int fd = uffd_open(False, False), other
    if fd < 0:
        other = uffd_open(False, True)
        fd = other if other >= 0 else fd
    map_case(c)
    c.fd = handshaken(r, fd, 0)
    need(r, uffd_register_modes(c.fd, c.page, c.bytes, GC_REGISTER_MODE_MISSING, &ioctls),
         b"UFFDIO_REGISTER")
    start_reader(c)
    if pipe(ends) != 0:
        need(r, errno, b"pipe")
    if write(ends[1], <void*>c.page, 8) != 8:
        need(r, errno, b"write of a missing page")
    expect(r, wait_seen(c, 1), b"the page came without an event")


cdef void try_hang(Report* r) noexcept nogil:
    """For tests: a fault that nobody serves."""
    cdef Case* c = open_case(r, BY_COPY, 0, GC_REGISTER_MODE_MISSING)
    load8_relaxed(<unsigned char*>c.page)


cdef void try_crash(Report* r) noexcept nogil:
    """For tests: a missing page that raises SIGBUS where no handler is."""
    cdef Case* c = open_case(r, BY_COPY, GC_FEATURE_SIGBUS, GC_REGISTER_MODE_MISSING)
    load8_relaxed(<unsigned char*>c.page)


# Name -> the address of its function.
TRIES = {
    "userfaultfd": <word>try_userfaultfd,
    "device": <word>try_device,
    "kernel_faults": <word>try_kernel_faults,
    "sigbus": <word>try_sigbus,
    "move": <word>try_move,
    "copy": <word>try_copy,
    "zeropage": <word>try_zeropage,
    "move_huge": <word>try_move_huge,
    "reader": <word>try_reader,
    "wake": <word>try_wake,
    "missing_shmem": <word>try_missing_shmem,
    "missing_hugetlbfs": <word>try_missing_hugetlbfs,
    "minor_shmem": <word>try_minor_shmem,
    "minor_hugetlbfs": <word>try_minor_hugetlbfs,
    "write_protect": <word>try_write_protect,
    "write_protect_shmem": <word>try_write_protect_shmem,
    "write_protect_unpopulated": <word>try_write_protect_unpopulated,
    "write_protect_async": <word>try_write_protect_async,
    "poison": <word>try_poison,
    "events": <word>try_events,
    "event_fork": <word>try_event_fork,
    "thread_id": <word>try_thread_id,
    "exact_address": <word>try_exact_address,
    "hang": <word>try_hang,
    "crash": <word>try_crash,
}
