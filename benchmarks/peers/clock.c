/* The clock of peer.ml, without allocation. */
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

intptr_t peer_now_ns(intptr_t unit) {
    struct timespec t;
    (void)unit;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (intptr_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

intptr_t peer_no_bytecode(intptr_t unit) { (void)unit; abort(); }
