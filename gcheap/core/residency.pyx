"""Which parts of a range have pages, present or swapped out, without touching one.

mincore(2) does not tell a swapped-out page from none; PAGEMAP_SCAN does, since Linux 6.7, which
every kernel with UFFDIO_MOVE has.  Its file is opened for each relocation that needs it: a
descriptor that is kept would show the parent's memory after a fork.  Where it cannot be opened
or asked, every part counts as having pages.

Source: Documentation/admin-guide/mm/pagemap.rst.
"""
from gcheap.core.failpoint cimport FP_MEMORY_PAGEMAP, failpoint
from gcheap.core.layout cimport word
from libc.stdint cimport uint64_t
from libc.string cimport memset
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, open as posix_open
from posix.unistd cimport close as posix_close

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, void* argument)

cdef extern from "gcheap/native/pagemap_abi.h" nogil:
    struct gc_page_region:
        uint64_t start, end
    struct gc_page_scan:
        uint64_t size, start, end, vec, vec_len, category_anyof_mask
    uint64_t GC_PAGE_PRESENT, GC_PAGE_SWAPPED
    unsigned long GC_PAGEMAP_SCAN


cdef int open_pagemap() noexcept nogil:
    """A descriptor for first_pages(), or -1."""
    if failpoint(FP_MEMORY_PAGEMAP) != 0:
        return -1
    return posix_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)


cdef void close_pagemap(int pagemap) noexcept nogil:
    if pagemap >= 0:
        posix_close(pagemap)


cdef bint first_pages(int pagemap, word* low, word* high) noexcept nogil:
    """Narrows [low, high) to its first stretch that has pages; False: it has none."""
    cdef gc_page_region found
    cdef gc_page_scan scan
    cdef int regions
    if pagemap < 0:
        return True
    memset(&scan, 0, sizeof(scan))
    scan.size = sizeof(scan)
    scan.start = low[0]
    scan.end = high[0]
    scan.vec = <uint64_t>&found
    scan.vec_len = 1
    scan.category_anyof_mask = GC_PAGE_PRESENT | GC_PAGE_SWAPPED
    regions = ioctl(pagemap, GC_PAGEMAP_SCAN, &scan)
    if regions > 0:
        low[0] = found.start
        high[0] = found.end
    return regions != 0
