/* PAGEMAP_SCAN, our own copy: libc headers older than Linux 6.7 lack it.
 * Source: Documentation/admin-guide/mm/pagemap.rst.
 */
#ifndef GCHEAP_PAGEMAP_ABI_H
#define GCHEAP_PAGEMAP_ABI_H
#include <stdint.h>
#include <sys/ioctl.h>

struct gc_page_region { uint64_t start, end, categories; };
struct gc_page_scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define GC_PAGE_PRESENT (1ull << 3)
#define GC_PAGE_SWAPPED (1ull << 4)
#define GC_PAGEMAP_SCAN _IOWR('f', 16, struct gc_page_scan)

#endif
