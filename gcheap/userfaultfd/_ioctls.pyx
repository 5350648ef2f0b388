"""The descriptor and its ioctls, without the GIL: whatever can block lets other threads run.

Answers are (bytes done, errno) as `gcheap.core.uffd` reads them; `api` turns them into
exceptions.  Addresses and lengths are 64-bit unsigned; bytes.
"""
from numbers import Integral

cimport cython
from gcheap.core.layout cimport word
from gcheap.core.uffd cimport (
    Progress, gc_uffd_msg, uffd_continue, uffd_copy, uffd_handshake, uffd_move, uffd_new,
    uffd_open, uffd_poison, uffd_read, uffd_register_modes, uffd_unregister, uffd_wake,
    uffd_writeprotect, uffd_zeropage)
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset
from posix.unistd cimport close as posix_close

cdef enum:
    MESSAGES = 64                       # that one read takes at most


def open_syscall(bint user_mode_only):
    """A new descriptor by userfaultfd(2), or minus an errno."""
    return uffd_open(user_mode_only, False)


def open_node(int node, bint user_mode_only):
    """A new descriptor through an open /dev/userfaultfd, or minus an errno."""
    cdef int fd
    with nogil:
        fd = uffd_new(node, user_mode_only)
    return fd


@cython.final
cdef class Descriptor:
    """Owns one userfaultfd.

    Any thread may call any method.  `close` while other threads are inside a call takes effect
    for new calls at once; the number is given back to the kernel when the last call has
    returned, so that no call ever acts on a descriptor that got the same number.
    """

    cdef int fd
    cdef int inside                     # calls in the kernel now; guarded by the GIL
    cdef bint closing
    cdef bint owner                     # of `fd`: not when the arguments were refused

    def __cinit__(self, int fd):
        self.fd = fd
        self.owner = True

    def __reduce__(self):
        raise TypeError("a userfaultfd cannot be pickled; send the descriptor (SCM_RIGHTS)")

    def __dealloc__(self):
        if self.owner and self.fd >= 0:
            posix_close(self.fd)
            self.fd = -1

    cdef int enter(self) except -1:
        if self.closing:
            raise ValueError("I/O operation on a closed userfaultfd")
        self.inside += 1
        return self.fd

    cdef void leave(self) noexcept:
        self.inside -= 1
        if self.closing and self.inside == 0:
            self.give_back()

    cdef void give_back(self) noexcept:
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            with nogil:
                posix_close(fd)

    @property
    def closed(self):
        return self.closing

    def fileno(self):
        if self.closing:
            raise ValueError("I/O operation on a closed userfaultfd")
        return self.fd

    def close(self):
        """Twice is harmless."""
        self.closing = True
        if self.inside == 0:
            self.give_back()

    def handshake(self, uint64_t features):
        """(features of the kernel, ioctls of the descriptor, errno)."""
        cdef uint64_t offered = 0, ioctls = 0
        cdef int fd = self.enter(), error
        with nogil:
            error = uffd_handshake(fd, features, &offered, &ioctls)
        self.leave()
        return offered, ioctls, error

    def register(self, word start, uint64_t length, uint64_t modes):
        """(ioctls of the range, errno)."""
        cdef uint64_t ioctls = 0
        cdef int fd = self.enter(), error
        with nogil:
            error = uffd_register_modes(fd, start, length, modes, &ioctls)
        self.leave()
        return ioctls, error

    def unregister(self, word start, uint64_t length):
        """An errno or 0."""
        cdef int fd = self.enter(), error
        with nogil:
            error = uffd_unregister(fd, start, length)
        self.leave()
        return error

    def wake(self, word start, uint64_t length, uint64_t mode=0):
        cdef int fd = self.enter(), error
        with nogil:
            error = uffd_wake(fd, start, length)
        self.leave()
        return 0 if error else length, error

    def writeprotect(self, word start, uint64_t length, uint64_t mode):
        cdef int fd = self.enter(), error
        with nogil:
            error = uffd_writeprotect(fd, start, length, mode)
        self.leave()
        return 0 if error else length, error

    def copy(self, word dst, word src, uint64_t length, uint64_t mode):
        cdef int fd = self.enter()
        cdef Progress p
        with nogil:
            p = uffd_copy(fd, dst, src, length, mode)
        self.leave()
        return p.done, p.error

    def move(self, word dst, word src, uint64_t length, uint64_t mode):
        cdef int fd = self.enter()
        cdef Progress p
        with nogil:
            p = uffd_move(fd, dst, src, length, mode)
        self.leave()
        return p.done, p.error

    def zeropage(self, word start, uint64_t length, uint64_t mode):
        cdef int fd = self.enter()
        cdef Progress p
        with nogil:
            p = uffd_zeropage(fd, start, length, mode)
        self.leave()
        return p.done, p.error

    def continue_(self, word start, uint64_t length, uint64_t mode):
        cdef int fd = self.enter()
        cdef Progress p
        with nogil:
            p = uffd_continue(fd, start, length, mode)
        self.leave()
        return p.done, p.error

    def poison(self, word start, uint64_t length, uint64_t mode):
        cdef int fd = self.enter()
        cdef Progress p
        with nogil:
            p = uffd_poison(fd, start, length, mode)
        self.leave()
        return p.done, p.error

    def read(self, int room):
        """([(event, word, word, word)], errno); at most `room` of them, empty when none waits."""
        cdef gc_uffd_msg[MESSAGES] messages
        cdef int count, i
        cdef int fd = self.enter()
        room = max(1, min(room, MESSAGES))
        with nogil:
            count = uffd_read(fd, messages, room)
        self.leave()
        if count < 0:
            return [], 0 if count == -EAGAIN or count == -EINTR else -count
        return [(messages[i].event, messages[i].words[0], messages[i].words[1],
                 messages[i].words[2]) for i in range(count)], 0


def address_of(buffer, /):
    """The address of a buffer's first byte.

    The memory must outlive its use: nothing is kept alive by the number.  Raises TypeError for
    what has no buffer, BufferError for one that is not contiguous.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    cdef word address = <word>view.buf
    PyBuffer_Release(&view)
    return address


cdef word locate(object memory, Py_buffer* view, Py_ssize_t length, int flags) except? 0:
    """The address that an int or a buffer stands for; a buffer stays exported in `view`."""
    memset(view, 0, sizeof(Py_buffer))          # releasing that one does nothing
    if isinstance(memory, Integral):            # numpy.int64 too, which has a buffer
        return memory
    PyObject_GetBuffer(memory, view, flags)
    if view.len < length:
        room = view.len
        PyBuffer_Release(view)
        raise ValueError(f"length {length}: the buffer has {room} bytes")
    return <word>view.buf


def read_memory(memory, Py_ssize_t length, /):
    """`length` bytes from an address or the start of a buffer, without the GIL.

    Waits for missing pages without holding up the Python thread that serves them.  An address
    that is not mapped is a crash, as in C; a buffer shorter than `length` a ValueError.
    """
    if length < 0:
        raise ValueError(f"length {length}: expected a number of bytes")
    cdef Py_buffer view
    cdef word address = locate(memory, &view, length, PyBUF_SIMPLE)
    cdef char* target
    try:
        result = PyBytes_FromStringAndSize(NULL, length)
        target = PyBytes_AS_STRING(result)
        with nogil:
            memcpy(target, <const void*>address, length)
        return result
    finally:
        PyBuffer_Release(&view)


def write_memory(memory, data, /):
    """Stores a buffer's bytes at an address or the start of a writable buffer, without the GIL.

    See `read_memory`.
    """
    cdef Py_buffer view, target
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    cdef word address
    try:
        address = locate(memory, &target, view.len, PyBUF_WRITABLE)
        with nogil:
            memcpy(<void*>address, view.buf, view.len)
        PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&view)
