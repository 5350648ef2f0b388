/* What every peer program measures and prints; see docs/reference/bench-peers.md for the format. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GAP_NS = 20000, SLOTS = 2048 + 1024 * 40, MOST_PAUSES = 1 << 20 };

typedef struct { uint64_t start, length; } span;
static struct {
    uint64_t begin, last, end, ops, counts[SLOTS], gap_count, gap_room, pauses, failures;
    span *gaps;
} r;
static uint64_t pause_ns[MOST_PAUSES];

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what) { fprintf(stderr, "%s\n", what); exit(1); }

/* Below 2048 a slot each; above, every power of two is cut in 1024: three significant digits. */
static inline uint64_t slot_of(uint64_t value) {
    if (value < 2048) return value;
    unsigned shift = 53 - __builtin_clzll(value);
    return (uint64_t)shift * 1024 + (value >> shift);
}
static inline uint64_t upper(uint64_t slot) {
    if (slot < 2048) return slot;
    uint64_t shift = slot / 1024 - 1;
    return ((slot - shift * 1024 + 1) << shift) - 1;
}

static void begin(double seconds) {
    r.gap_room = 1 << 16;
    r.gaps = malloc(r.gap_room * sizeof *r.gaps);
    if (!r.gaps) fail("no memory for the log of gaps");
    r.begin = r.last = now_ns();
    r.end = r.begin + (uint64_t)(seconds * 1e9);
}

static void note_gap(uint64_t length) {
    if (r.gap_count == r.gap_room) {
        r.gaps = realloc(r.gaps, (r.gap_room *= 2) * sizeof *r.gaps);
        if (!r.gaps) fail("no memory for the log of gaps");
    }
    r.gaps[r.gap_count++] = (span){ r.last - r.begin - length, length };
}

/* Ends an operation, which lasts from the end of the one before; 0 when the time is over. */
static inline int ended(void) {
    uint64_t now = now_ns(), length = now - r.last;
    r.last = now;
    r.counts[slot_of(length)]++;
    if (length > GAP_NS) note_gap(length);
    r.ops++;
    return now < r.end;
}

static void note_pause(uint64_t length) {       /* several threads may, at once */
    uint64_t at = __atomic_fetch_add(&r.pauses, 1, __ATOMIC_RELAXED);
    if (at < MOST_PAUSES) pause_ns[at] = length;
}

static void print_run(void) {
    printf("seconds %.9f\nops %" PRIu64 "\nfailures %" PRIu64 "\n",
           (r.last - r.begin) / 1e9, r.ops, r.failures);
    for (uint64_t i = 0; i < SLOTS; i++)
        if (r.counts[i]) printf("bucket %" PRIu64 " %" PRIu64 "\n", upper(i), r.counts[i]);
    for (uint64_t i = 0; i < r.gap_count; i++)
        printf("gap %" PRIu64 " %" PRIu64 "\n", r.gaps[i].start, r.gaps[i].length);
}

static void print_pauses(void) {
    for (uint64_t i = 0; i < r.pauses && i < MOST_PAUSES; i++)
        printf("pause %" PRIu64 "\n", pause_ns[i]);
}
