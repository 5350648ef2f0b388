"""userfaultfd, raw: every ioctl, each with a result that cannot be misread.

An ioctl of the COPY family is whole, partial or refused.  `Progress.done` is what the kernel
did before it stopped (its result field, zeroed before the call; a negative field is an errno
and never progress); `Progress.error` is 0 only when everything was done.
Async-signal-safe; `errno` is preserved (I4).
"""
from gcheap.core.layout cimport word
from libc.stdint cimport uint8_t, uint64_t

cdef extern from "gcheap/native/uffd_abi.h" nogil:
    uint64_t GC_FEATURE_SIGBUS
    uint64_t GC_FEATURE_MOVE
    uint64_t GC_FEATURE_THREAD_ID
    uint64_t GC_FEATURE_EXACT_ADDRESS
    uint64_t GC_MODE_DONTWAKE
    uint64_t GC_MOVE_MODE_ALLOW_SRC_HOLES
    uint64_t GC_REGISTER_MODE_MISSING
    struct gc_uffd_msg:
        uint8_t event
        uint64_t words[3]

cdef struct Progress:
    uint64_t done               # bytes
    int error                   # errno, 0 when whole

# Each returns 0 or an errno; uffd_open returns the descriptor or minus an errno.
cdef int uffd_open(bint user_mode_only, bint device) noexcept nogil
# As a heap opens one; `refused` tells minus the errno of the system call, 0 when that worked.
cdef int uffd_open_any(int* refused) noexcept nogil
# uffd_new makes one through an open /dev/userfaultfd (`node` stays open).
cdef int uffd_new(int node, bint user_mode_only) noexcept nogil
cdef int uffd_handshake(int fd, uint64_t want, uint64_t* features, uint64_t* ioctls) noexcept nogil
cdef int uffd_register(int fd, word start, uint64_t length) noexcept nogil
cdef int uffd_register_modes(int fd, word start, uint64_t length, uint64_t modes,
                             uint64_t* ioctls) noexcept nogil
cdef int uffd_unregister(int fd, word start, uint64_t length) noexcept nogil
cdef int uffd_wake(int fd, word start, uint64_t length) noexcept nogil
cdef int uffd_writeprotect(int fd, word start, uint64_t length, uint64_t mode) noexcept nogil

cdef Progress uffd_copy(int fd, word dst, word src, uint64_t length, uint64_t mode) noexcept nogil
cdef Progress uffd_move(int fd, word dst, word src, uint64_t length, uint64_t mode) noexcept nogil
cdef Progress uffd_zeropage(int fd, word start, uint64_t length, uint64_t mode) noexcept nogil
cdef Progress uffd_continue(int fd, word start, uint64_t length, uint64_t mode) noexcept nogil
cdef Progress uffd_poison(int fd, word start, uint64_t length, uint64_t mode) noexcept nogil

# The number of messages read, or minus an errno (EAGAIN: there is none).
cdef int uffd_read(int fd, gc_uffd_msg* messages, int room) noexcept nogil
