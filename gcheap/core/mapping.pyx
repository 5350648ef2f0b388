"""Anonymous memory of the heap's own: private, without swap reservation, never populated.

In a process that has called mlockall(MCL_FUTURE) the kernel populates and locks whatever is mapped
readable: a heap would become memory several times over, and MOVE and COPY find their destination
taken.  So memory is mapped inaccessible, which populates nothing, unlocked, and only then opened.
"""
from libc.errno cimport errno
from posix.mman cimport (
    MADV_DONTNEED, MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE,
    madvise, mmap, mprotect, munlock, munmap)

from gcheap.core.failpoint cimport FP_MEMORY_MAP, failpoint
from gcheap.core.native cimport set_errno

cdef extern from "<sys/mman.h>" nogil:
    int MAP_NORESERVE


cdef word map_memory(uint64_t nbytes, bint usable) noexcept nogil:
    """Zeroed memory, or with `usable` false address space only, which mprotect opens."""
    cdef int error = <int>failpoint(FP_MEMORY_MAP)
    cdef void* at
    if error:
        set_errno(error)
        return 0
    at = mmap(NULL, nbytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if at == MAP_FAILED:
        return 0
    munlock(at, nbytes)
    if usable and mprotect(at, nbytes, PROT_READ | PROT_WRITE) != 0:
        error = errno
        munmap(at, nbytes)
        set_errno(error)
        return 0
    return <word>at


cdef void unmap_memory(word at, uint64_t nbytes) noexcept nogil:
    """The end of map_memory.  Where the kernel refuses (the mapping has merged with its neighbours,
    and vm.max_map_count allows no more), the memory goes back and the addresses are lost."""
    if munmap(<void*>at, nbytes) != 0:
        madvise(<void*>at, nbytes, MADV_DONTNEED)
