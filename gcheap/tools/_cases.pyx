"""Trying the kernel in a forked child (see the .pxd)."""
from gcheap.core.layout cimport word
from gcheap.core.native cimport load32_acquire, sleep_ns, store32_release
from gcheap.core.poll cimport POLLIN, poll, pollfd
from gcheap.core.uffd cimport (
    Progress, gc_uffd_msg, uffd_continue, uffd_copy, uffd_handshake, uffd_open, uffd_read,
    uffd_register_modes, uffd_wake, uffd_writeprotect)
from libc.errno cimport EAGAIN, EINTR, EINVAL, EIO, errno
from libc.stdint cimport uint32_t, uint64_t
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap)
from posix.unistd cimport _exit, close as posix_close, ftruncate

cdef extern from "gcheap/native/uffd_abi.h" nogil:
    uint64_t GC_MODE_DONTWAKE
    int GC_EVENT_PAGEFAULT, GC_EVENT_FORK

cdef extern from "<sys/mman.h>" nogil:
    unsigned MFD_CLOEXEC, MFD_HUGETLB
    int memfd_create(const char*, unsigned)

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    int pthread_create(pthread_t*, const void*, void* (*)(void*) noexcept nogil, void*)

cdef enum:
    SHORT_NS = 5000000          # long enough for a thread that was woken by mistake to run
    SEEN_TRIES = 2000           # milliseconds until an event must have been noted

cdef Case tried                 # the one of a child; the reader goes on with it to the child's end


cdef void end(Report* r, uint32_t outcome, const char* what, int error) noexcept nogil:
    """The last thing a child does, from whichever thread is first."""
    r.what = what
    r.error = error
    # Release: who sees the outcome sees why.
    store32_release(&r.outcome, outcome)
    _exit(0)


cdef void need(Report* r, int error, const char* what) noexcept nogil:
    if error:
        end(r, REFUSED, what, error)


cdef void expect(Report* r, bint fact, const char* what) noexcept nogil:
    if not fact:
        end(r, WRONG, what, 0)


cdef void placed(Report* r, Progress p, uint64_t nbytes, const char* what) noexcept nogil:
    need(r, p.error, what)
    expect(r, p.done == nbytes, what)


cdef int open_any() noexcept nogil:
    """As the heap does it: user mode only, without where that is unknown, by the device."""
    cdef int fd = uffd_open(True, False), other
    if fd == -EINVAL:
        fd = uffd_open(False, False)
    if fd < 0:
        other = uffd_open(True, True)
        if other >= 0:
            return other
    return fd


cdef int handshaken(Report* r, int fd, uint64_t features) noexcept nogil:
    cdef uint64_t offered = 0, ioctls = 0
    need(r, -fd if fd < 0 else 0, b"userfaultfd")
    need(r, uffd_handshake(fd, features, &offered, &ioctls), b"UFFDIO_API")
    expect(r, offered & features == features, b"the feature is not offered")
    return fd


cdef word anonymous(Report* r, uint64_t nbytes) noexcept nogil:
    cdef void* memory = mmap(NULL, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                             -1, 0)
    if memory == MAP_FAILED:
        need(r, errno, b"mmap")
    return <word>memory


cdef word shared(Case* c, int file) noexcept nogil:
    cdef void* memory = mmap(NULL, c.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
    if memory == MAP_FAILED:
        need(c.report, errno, b"mmap of a huge page" if c.memory == HUGETLBFS else b"mmap")
    return <word>memory


cdef void map_case(Case* c) noexcept nogil:
    """Maps one page of the kind of memory asked for, and a buffer with the pattern."""
    cdef int file
    c.bytes = c.report.page
    if c.memory == HUGETLBFS:
        expect(c.report, c.report.hugetlb > 0, b"no size of a huge page is known")
        c.bytes = c.report.hugetlb
    c.buffer = anonymous(c.report, c.bytes)
    (<word*>c.buffer)[0] = PATTERN
    if c.memory == ANONYMOUS:
        c.page = anonymous(c.report, c.bytes)
        return
    file = memfd_create(b"gcheap-doctor", MFD_CLOEXEC
                        | (MFD_HUGETLB if c.memory == HUGETLBFS else 0))
    if file < 0:
        need(c.report, errno, b"memfd_create")
    if ftruncate(file, c.bytes) != 0:
        need(c.report, errno, b"ftruncate")
    c.page = shared(c, file)
    c.alias = shared(c, file)


cdef void register_case(Case* c, uint64_t features, uint64_t modes) noexcept nogil:
    cdef uint64_t ioctls = 0
    c.fd = handshaken(c.report, open_any(), features)
    need(c.report, uffd_register_modes(c.fd, c.page, c.bytes, modes, &ioctls),
         b"UFFDIO_REGISTER")


cdef Case* new_case(Report* r, int how) noexcept nogil:
    tried.report, tried.answer = r, how
    return &tried


cdef Case* case_tried() noexcept nogil:
    return &tried


cdef Case* open_case(Report* r, int how, uint64_t features, uint64_t modes) noexcept nogil:
    cdef Case* c = new_case(r, how)
    map_case(c)
    register_case(c, features, modes)
    return c


# ---- the thread that reads events ------------------------------------------------------------

cdef void answer(Case* c) noexcept nogil:
    cdef Report* r = c.report
    if c.answer == BY_COPY:
        placed(r, uffd_copy(c.fd, c.page, c.buffer, c.bytes, 0), c.bytes, b"UFFDIO_COPY")
    elif c.answer == BY_COPY_AND_WAKE:
        placed(r, uffd_copy(c.fd, c.page, c.buffer, c.bytes, GC_MODE_DONTWAKE), c.bytes,
               b"UFFDIO_COPY with DONTWAKE")
        sleep_ns(SHORT_NS)
        expect(r, not load32_acquire(&c.passed), b"DONTWAKE woke the waiting thread")
        need(r, uffd_wake(c.fd, c.page, c.bytes), b"UFFDIO_WAKE")
    elif c.answer == BY_CONTINUE:
        placed(r, uffd_continue(c.fd, c.page, c.bytes, 0), c.bytes, b"UFFDIO_CONTINUE")
    elif c.answer == BY_UNPROTECTING:
        need(r, uffd_writeprotect(c.fd, c.page, c.bytes, 0), b"UFFDIO_WRITEPROTECT")


cdef void take(Case* c, gc_uffd_msg* m) noexcept nogil:
    cdef Report* r = c.report
    if m.event == GC_EVENT_PAGEFAULT:
        expect(r, c.answer != BY_NOTING, b"a page fault where another event was due")
        expect(r, m.words[0] & c.flags == c.flags, b"the event lacks its flag")
        expect(r, c.exact == 0 or m.words[1] == c.exact, b"the event has another address")
        expect(r, c.thread == 0 or <uint32_t>m.words[2] == c.thread,
               b"the event has another thread's id")
    elif m.event == GC_EVENT_FORK:
        posix_close(<int>m.words[0])
    answer(c)
    store32_release(&c.seen, load32_acquire(&c.seen) | 1u << (m.event - GC_EVENT_PAGEFAULT))


cdef void* read_events(void* argument) noexcept nogil:
    cdef Case* c = <Case*>argument
    cdef gc_uffd_msg message
    cdef pollfd wanted
    cdef int count
    wanted.fd = c.fd
    wanted.events = POLLIN
    while True:
        if poll(&wanted, 1, -1) < 0:
            need(c.report, 0 if errno == EINTR else errno, b"poll")
            continue
        count = uffd_read(c.fd, &message, 1)
        if count == 1:
            take(c, &message)
        elif count != -EAGAIN:
            need(c.report, -count if count else EIO, b"read of the userfaultfd")


cdef void start_reader(Case* c) noexcept nogil:
    cdef pthread_t thread
    need(c.report, pthread_create(&thread, NULL, read_events, c), b"pthread_create")


cdef bint wait_seen(Case* c, uint32_t events) noexcept nogil:
    """Whether all of `events` (bits) were read, or will have been in a moment."""
    for _ in range(SEEN_TRIES):
        if load32_acquire(&c.seen) & events == events:
            return True
        sleep_ns(1000000)
    return False


cdef void touch_and_compare(Case* c) noexcept nogil:
    """Waits in the fault until the reader has answered it."""
    cdef word found = (<word*>c.page)[0]
    store32_release(&c.passed, 1)
    expect(c.report, found == PATTERN, b"the page has other contents")
    expect(c.report, wait_seen(c, 1), b"the page came without an event")
