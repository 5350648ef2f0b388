/* Futexes, the clock and thread identity: what the core needs of the kernel beside uffd. */
#ifndef GCHEAP_SYNC_H
#define GCHEAP_SYNC_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* errno as a function: Cython takes an assignment to it for a new local variable. */
static inline void set_errno(int value) { errno = value; }

/* Nanoseconds of CLOCK_MONOTONIC_RAW (vDSO; async-signal-safe), as gcheap/clock.py. */
static inline uint64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Nanoseconds of CPU time this thread has used. */
static inline uint64_t thread_cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Sleeps while *word == expected; may return early.  timeout_ns 0: no limit.
 * Returns 0, or ETIMEDOUT.  Preserves errno (called on faulting threads, I4). */
static inline int futex_wait(uint32_t *word, uint32_t expected, uint64_t timeout_ns) {
    int saved = errno, result = 0;
    struct timespec t = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
    if (syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns ? &t : 0, 0, 0) < 0
        && errno == ETIMEDOUT)
        result = ETIMEDOUT;
    errno = saved;
    return result;
}

static inline void futex_wake_all(uint32_t *word) {
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, 0, 0, 0);
    errno = saved;
}

static inline void futex_wake_one(uint32_t *word) {
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
    errno = saved;
}

/* By syscall(): nanosleep() is a point at which pthread_cancel ends the thread, and here it may
 * own a unit that others wait for. */
static inline void sleep_ns(uint64_t ns) {
    int saved = errno;
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, 0);
    errno = saved;
}

/* A futex mutex: 0 free, 1 held, 2 held and waited for (Drepper, "Futexes Are Tricky").
 * Needs no initialization and no destructor, and survives in zeroed memory. */
static inline void mutex_lock(uint32_t *m) {
    uint32_t seen = 0;
    if (__atomic_compare_exchange_n(m, &seen, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
    while (__atomic_exchange_n(m, 2, __ATOMIC_ACQUIRE)) futex_wait(m, 2, 0);
}

static inline void mutex_unlock(uint32_t *m) {
    if (__atomic_exchange_n(m, 0, __ATOMIC_RELEASE) == 2) futex_wake_one(m);
}

static inline int64_t thread_id(void) { return (int64_t)syscall(SYS_gettid); }
#endif
