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
struct gc_uffd_copy { uint64_t dst, src, len, mode; int64_t done; };
struct gc_uffd_zeropage { struct gc_uffd_range range; uint64_t mode; int64_t done; };
struct gc_uffd_move { uint64_t dst, src, len, mode; int64_t done; };

#define GC_UFFDIO_API _IOWR(0xAA, 0x3F, struct gc_uffd_api)
#define GC_UFFDIO_REGISTER _IOWR(0xAA, 0x00, struct gc_uffd_register)
#define GC_UFFDIO_UNREGISTER _IOR(0xAA, 0x01, struct gc_uffd_range)
#define GC_UFFDIO_WAKE _IOR(0xAA, 0x02, struct gc_uffd_range)
#define GC_UFFDIO_COPY _IOWR(0xAA, 0x03, struct gc_uffd_copy)
#define GC_UFFDIO_ZEROPAGE _IOWR(0xAA, 0x04, struct gc_uffd_zeropage)
#define GC_UFFDIO_MOVE _IOWR(0xAA, 0x05, struct gc_uffd_move)

#define GC_REGISTER_MODE_MISSING 1ull
#define GC_MODE_DONTWAKE 1ull               /* the same bit for COPY, ZEROPAGE and MOVE */
#define GC_MOVE_MODE_ALLOW_SRC_HOLES 2ull

#define GC_FEATURE_SIGBUS (1ull << 7)
#define GC_FEATURE_THREAD_ID (1ull << 8)
#define GC_FEATURE_EXACT_ADDRESS (1ull << 11)
#define GC_FEATURE_MOVE (1ull << 16)
#endif
