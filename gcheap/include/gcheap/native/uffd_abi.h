/* The userfaultfd ABI, our own copy.
 *
 * libc headers older than Linux 6.8 lack UFFDIO_MOVE (Debian 12's do), so the constants
 * and structures are spelled out here from Documentation/admin-guide/mm/userfaultfd.rst
 * and the uABI thread of UFFDIO_MOVE; names are ours so that any libc header may be
 * included beside this one.
 */
#ifndef GCHEAP_UFFD_ABI_H
#define GCHEAP_UFFD_ABI_H
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#ifndef SYS_userfaultfd
#if defined(__x86_64__)
#define SYS_userfaultfd 323
#else
#define SYS_userfaultfd 282
#endif
#endif

#define GC_UFFD_API 0xAAull
#define GC_UFFD_USER_MODE_ONLY 1
#define GC_USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)

struct gc_uffd_api { uint64_t api, features, ioctls; };
struct gc_uffd_range { uint64_t start, len; };
struct gc_uffd_register { struct gc_uffd_range range; uint64_t mode, ioctls; };
struct gc_uffd_transfer { uint64_t dst, src, len, mode; int64_t done; };    /* COPY, MOVE */
struct gc_uffd_fill { struct gc_uffd_range range; uint64_t mode; int64_t done; };
                                                        /* ZEROPAGE, CONTINUE, POISON */
struct gc_uffd_writeprotect { struct gc_uffd_range range; uint64_t mode; };

/* What read(2) delivers.  The three words mean, by event:
 *   PAGEFAULT  flags, address, thread id (its low half; 0 unless FEATURE_THREAD_ID)
 *   FORK       descriptor of the child (its low half)
 *   REMAP      old address, new address, length
 *   REMOVE, UNMAP  start, end
 */
struct gc_uffd_msg {
    uint8_t event, reserved1;
    uint16_t reserved2;
    uint32_t reserved3;
    uint64_t words[3];
};
_Static_assert(sizeof(struct gc_uffd_msg) == 32, "the kernel's struct uffd_msg has 32 bytes");

#define GC_EVENT_PAGEFAULT 0x12
#define GC_EVENT_FORK 0x13
#define GC_EVENT_REMAP 0x14
#define GC_EVENT_REMOVE 0x15
#define GC_EVENT_UNMAP 0x16

#define GC_PAGEFAULT_FLAG_WRITE 1ull
#define GC_PAGEFAULT_FLAG_WP 2ull
#define GC_PAGEFAULT_FLAG_MINOR 4ull

#define GC_UFFDIO_API _IOWR(0xAA, 0x3F, struct gc_uffd_api)
#define GC_UFFDIO_REGISTER _IOWR(0xAA, 0x00, struct gc_uffd_register)
#define GC_UFFDIO_UNREGISTER _IOR(0xAA, 0x01, struct gc_uffd_range)
#define GC_UFFDIO_WAKE _IOR(0xAA, 0x02, struct gc_uffd_range)
#define GC_UFFDIO_COPY _IOWR(0xAA, 0x03, struct gc_uffd_transfer)
#define GC_UFFDIO_ZEROPAGE _IOWR(0xAA, 0x04, struct gc_uffd_fill)
#define GC_UFFDIO_MOVE _IOWR(0xAA, 0x05, struct gc_uffd_transfer)
#define GC_UFFDIO_WRITEPROTECT _IOWR(0xAA, 0x06, struct gc_uffd_writeprotect)
#define GC_UFFDIO_CONTINUE _IOWR(0xAA, 0x07, struct gc_uffd_fill)
#define GC_UFFDIO_POISON _IOWR(0xAA, 0x08, struct gc_uffd_fill)

#define GC_REGISTER_MODE_MISSING 1ull
#define GC_REGISTER_MODE_WP 2ull
#define GC_REGISTER_MODE_MINOR 4ull
#define GC_MODE_DONTWAKE 1ull   /* the same bit for COPY, ZEROPAGE, MOVE, CONTINUE, POISON */
#define GC_COPY_MODE_WP 2ull
#define GC_MOVE_MODE_ALLOW_SRC_HOLES 2ull
#define GC_CONTINUE_MODE_WP 2ull
#define GC_WRITEPROTECT_MODE_WP 1ull
#define GC_WRITEPROTECT_MODE_DONTWAKE 2ull

/* To the right the first kernel that has it. */
#define GC_FEATURE_PAGEFAULT_FLAG_WP (1ull << 0)        /* 5.7 */
#define GC_FEATURE_EVENT_FORK (1ull << 1)               /* 4.11 */
#define GC_FEATURE_EVENT_REMAP (1ull << 2)              /* 4.11 */
#define GC_FEATURE_EVENT_REMOVE (1ull << 3)             /* 4.11 */
#define GC_FEATURE_MISSING_HUGETLBFS (1ull << 4)        /* 4.11 */
#define GC_FEATURE_MISSING_SHMEM (1ull << 5)            /* 4.11 */
#define GC_FEATURE_EVENT_UNMAP (1ull << 6)              /* 4.11 */
#define GC_FEATURE_SIGBUS (1ull << 7)                   /* 4.14 */
#define GC_FEATURE_THREAD_ID (1ull << 8)                /* 4.14 */
#define GC_FEATURE_MINOR_HUGETLBFS (1ull << 9)          /* 5.13 */
#define GC_FEATURE_MINOR_SHMEM (1ull << 10)             /* 5.14 */
#define GC_FEATURE_EXACT_ADDRESS (1ull << 11)           /* 5.18 */
#define GC_FEATURE_WP_HUGETLBFS_SHMEM (1ull << 12)      /* 5.19 */
#define GC_FEATURE_WP_UNPOPULATED (1ull << 13)          /* 6.4 */
#define GC_FEATURE_POISON (1ull << 14)                  /* 6.6 */
#define GC_FEATURE_WP_ASYNC (1ull << 15)                /* 6.7 */
#define GC_FEATURE_MOVE (1ull << 16)                    /* 6.8 */
#endif
