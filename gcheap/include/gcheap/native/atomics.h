/* Atomic operations, typed and with the memory order in the name.
 *
 * Cython cannot spell `_Atomic`; these wrappers over the __atomic builtins are the only
 * way the core touches a word that two threads may touch at once.  ThreadSanitizer
 * understands them.  The caller states beside each use why its order suffices.
 */
#ifndef GCHEAP_ATOMICS_H
#define GCHEAP_ATOMICS_H
#include <stdint.h>

#define GCHEAP_ATOMICS(T, S)                                                               \
    static inline T load##S##_relaxed(const T *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); } \
    static inline T load##S##_acquire(const T *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); } \
    static inline T load##S##_seq(const T *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }     \
    static inline void store##S##_relaxed(T *p, T v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); } \
    static inline void store##S##_release(T *p, T v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); } \
    static inline void store##S##_seq(T *p, T v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }     \
    static inline T exchange##S##_acq_rel(T *p, T v) { return __atomic_exchange_n(p, v, __ATOMIC_ACQ_REL); } \
    static inline T add##S##_relaxed(T *p, T v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }       \
    static inline T sub##S##_relaxed(T *p, T v) { return __atomic_fetch_sub(p, v, __ATOMIC_RELAXED); }       \
    static inline T sub##S##_acq_rel(T *p, T v) { return __atomic_fetch_sub(p, v, __ATOMIC_ACQ_REL); }       \
    static inline T or##S##_relaxed(T *p, T v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }         \
    static inline T add##S##_seq(T *p, T v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }           \
    static inline T sub##S##_seq(T *p, T v) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); }           \
    /* 1 when *p was `expected` and is now `desired`; acquire-release on success. */       \
    static inline int cas##S(T *p, T expected, T desired) {                                \
        return __atomic_compare_exchange_n(p, &expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED); \
    }

GCHEAP_ATOMICS(uint8_t, 8)
GCHEAP_ATOMICS(uint32_t, 32)
GCHEAP_ATOMICS(uint64_t, 64)

static inline void fence_seq(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

static inline void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield" ::: "memory");
#endif
}
#endif
