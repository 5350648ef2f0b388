"""userfaultfd, raw.  Sources: Documentation/admin-guide/mm/userfaultfd.rst, ioctl_userfaultfd(2),
and the uABI message of UFFDIO_MOVE (linux-mm, 2023-10)."""
from gcheap.core.layout cimport word
from gcheap.core.native cimport set_errno
from libc.errno cimport EAGAIN, EINVAL, errno
from libc.stdint cimport int64_t, uint64_t
from posix.fcntl cimport O_CLOEXEC, O_NONBLOCK, O_RDWR, open as posix_open
from posix.unistd cimport close as posix_close, read as posix_read

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, void* argument)

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, int flags)

cdef extern from "gcheap/native/uffd_abi.h" nogil:
    long SYS_userfaultfd
    uint64_t GC_UFFD_API
    int GC_UFFD_USER_MODE_ONLY
    unsigned long GC_USERFAULTFD_IOC_NEW
    unsigned long GC_UFFDIO_API, GC_UFFDIO_REGISTER, GC_UFFDIO_UNREGISTER, GC_UFFDIO_WAKE
    unsigned long GC_UFFDIO_COPY, GC_UFFDIO_ZEROPAGE, GC_UFFDIO_MOVE
    unsigned long GC_UFFDIO_WRITEPROTECT, GC_UFFDIO_CONTINUE, GC_UFFDIO_POISON
    struct gc_uffd_api:
        uint64_t api, features, ioctls
    struct gc_uffd_range:
        uint64_t start, len
    struct gc_uffd_register:
        gc_uffd_range range
        uint64_t mode, ioctls
    struct gc_uffd_transfer:
        uint64_t dst, src, len, mode
        int64_t done
    struct gc_uffd_fill:
        gc_uffd_range range
        uint64_t mode
        int64_t done
    struct gc_uffd_writeprotect:
        gc_uffd_range range
        uint64_t mode


cdef int descriptor_flags(bint user_mode_only) noexcept nogil:
    return O_CLOEXEC | O_NONBLOCK | (GC_UFFD_USER_MODE_ONLY if user_mode_only else 0)


cdef int uffd_new(int node, bint user_mode_only) noexcept nogil:
    cdef long fd = ioctl(node, GC_USERFAULTFD_IOC_NEW,
                         <void*><long>descriptor_flags(user_mode_only))
    return <int>fd if fd >= 0 else -errno


cdef int uffd_open(bint user_mode_only, bint device) noexcept nogil:
    """A new descriptor, close-on-exec and non-blocking, by the system call or /dev/userfaultfd."""
    cdef long fd
    cdef int node
    if not device:
        fd = syscall(SYS_userfaultfd, descriptor_flags(user_mode_only))
        return <int>fd if fd >= 0 else -errno
    node = posix_open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)
    if node < 0:
        return -errno
    fd = uffd_new(node, user_mode_only)
    posix_close(node)
    return <int>fd


cdef int uffd_open_any(int* refused) noexcept nogil:
    """By the system call, else through /dev/userfaultfd.  User mode only: that is enough for a
    heap, and all an ordinary user may have; kernels older than 5.11 lack that flag (EINVAL)."""
    cdef int fd = uffd_open(True, False)
    if fd == -EINVAL:
        fd = uffd_open(False, False)
    refused[0] = fd if fd < 0 else 0
    if fd < 0:
        fd = uffd_open(True, True)
    return fd


cdef int uffd_handshake(int fd, uint64_t want, uint64_t* features, uint64_t* ioctls) noexcept nogil:
    """UFFDIO_API, once a descriptor; reports what the kernel has."""
    cdef gc_uffd_api api
    api.api = GC_UFFD_API
    api.features = want
    api.ioctls = 0
    if ioctl(fd, GC_UFFDIO_API, &api) != 0:
        return errno
    features[0] = api.features
    ioctls[0] = api.ioctls
    return 0


cdef int uffd_register_modes(int fd, word start, uint64_t length, uint64_t modes,
                             uint64_t* ioctls) noexcept nogil:
    """Registers a range; reports which ioctls the kernel has for it."""
    cdef gc_uffd_register r
    r.range.start = start
    r.range.len = length
    r.mode = modes
    r.ioctls = 0
    if ioctl(fd, GC_UFFDIO_REGISTER, &r) != 0:
        return errno
    ioctls[0] = r.ioctls
    return 0


cdef int uffd_register(int fd, word start, uint64_t length) noexcept nogil:
    """Registers a range for missing faults."""
    cdef uint64_t ioctls
    return uffd_register_modes(fd, start, length, GC_REGISTER_MODE_MISSING, &ioctls)


cdef int range_ioctl(int fd, unsigned long request, word start, uint64_t length) noexcept nogil:
    cdef gc_uffd_range r
    r.start = start
    r.len = length
    return 0 if ioctl(fd, request, &r) == 0 else errno


cdef int uffd_unregister(int fd, word start, uint64_t length) noexcept nogil:
    return range_ioctl(fd, GC_UFFDIO_UNREGISTER, start, length)


cdef int uffd_wake(int fd, word start, uint64_t length) noexcept nogil:
    return range_ioctl(fd, GC_UFFDIO_WAKE, start, length)


cdef int uffd_writeprotect(int fd, word start, uint64_t length, uint64_t mode) noexcept nogil:
    """Protects (or unprotects) all of the range or says why not; has no result field."""
    cdef gc_uffd_writeprotect w
    w.range.start = start
    w.range.len = length
    w.mode = mode
    return 0 if ioctl(fd, GC_UFFDIO_WRITEPROTECT, &w) == 0 else errno


cdef inline Progress outcome(int rc, int error, int64_t done, uint64_t length) noexcept nogil:
    """Reads one answer.  The kernel may return 0 only for a whole range; a short one is
    -1/EAGAIN with the bytes in the field; other refusals put -errno there."""
    cdef Progress p
    p.done = <uint64_t>done if done > 0 else 0
    if p.done > length:
        p.done = length
    if rc == 0 and p.done == length:
        p.error = 0
    elif rc == 0:
        p.error = EAGAIN
    else:
        p.error = error
    return p


cdef Progress transfer(int fd, unsigned long request, word dst, word src, uint64_t length,
                       uint64_t mode) noexcept nogil:
    """An ioctl from one range to another."""
    cdef gc_uffd_transfer t
    cdef int saved = errno, rc
    cdef Progress p
    t.dst = dst
    t.src = src
    t.len = length
    t.mode = mode
    t.done = 0
    rc = ioctl(fd, request, &t)
    p = outcome(rc, errno, t.done, length)
    set_errno(saved)
    return p


cdef Progress fill(int fd, unsigned long request, word start, uint64_t length,
                   uint64_t mode) noexcept nogil:
    """An ioctl on one range."""
    cdef gc_uffd_fill f
    cdef int saved = errno, rc
    cdef Progress p
    f.range.start = start
    f.range.len = length
    f.mode = mode
    f.done = 0
    rc = ioctl(fd, request, &f)
    p = outcome(rc, errno, f.done, length)
    set_errno(saved)
    return p


cdef Progress uffd_copy(int fd, word dst, word src, uint64_t length, uint64_t mode) noexcept nogil:
    return transfer(fd, GC_UFFDIO_COPY, dst, src, length, mode)


cdef Progress uffd_move(int fd, word dst, word src, uint64_t length, uint64_t mode) noexcept nogil:
    return transfer(fd, GC_UFFDIO_MOVE, dst, src, length, mode)


cdef Progress uffd_zeropage(int fd, word start, uint64_t length, uint64_t mode) noexcept nogil:
    return fill(fd, GC_UFFDIO_ZEROPAGE, start, length, mode)


cdef Progress uffd_continue(int fd, word start, uint64_t length, uint64_t mode) noexcept nogil:
    return fill(fd, GC_UFFDIO_CONTINUE, start, length, mode)


cdef Progress uffd_poison(int fd, word start, uint64_t length, uint64_t mode) noexcept nogil:
    return fill(fd, GC_UFFDIO_POISON, start, length, mode)


cdef int uffd_read(int fd, gc_uffd_msg* messages, int room) noexcept nogil:
    cdef ssize_t nbytes = posix_read(fd, messages, room * sizeof(gc_uffd_msg))
    return <int>(nbytes // <ssize_t>sizeof(gc_uffd_msg)) if nbytes >= 0 else -errno
