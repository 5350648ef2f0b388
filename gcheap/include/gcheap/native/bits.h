/* Bit counting.  GCC picks tzcnt/popcnt where the build allows them. */
#ifndef GCHEAP_BITS_H
#define GCHEAP_BITS_H
#include <stdint.h>

static inline unsigned count_trailing_zeros(uint64_t v) { return (unsigned)__builtin_ctzll(v); }
static inline unsigned count_leading_zeros(uint64_t v) { return (unsigned)__builtin_clzll(v); }
static inline unsigned popcount(uint64_t v) { return (unsigned)__builtin_popcountll(v); }

/* The index of the n-th (from 0) set bit; v has more than n bits set. */
static inline unsigned select_bit(uint64_t v, unsigned n) {
    while (n--) v &= v - 1;
    return count_trailing_zeros(v);
}

static inline void prefetch_write(const void *p) { __builtin_prefetch(p, 1, 3); }
static inline void prefetch_read(const void *p) { __builtin_prefetch(p, 0, 3); }
static inline int likely(int v) { return (int)__builtin_expect(v, 1); }
static inline int unlikely(int v) { return (int)__builtin_expect(v, 0); }
#endif
