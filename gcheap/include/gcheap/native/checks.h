/* Checks that stay on in every build: a broken invariant writes what broke and aborts.
 *
 * Only async-signal-safe calls, because the fault path runs in a signal handler (I4).
 */
#ifndef GCHEAP_CHECKS_H
#define GCHEAP_CHECKS_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline size_t gcheap_put_text(char *at, size_t room, const char *text) {
    size_t n = strlen(text);
    if (n > room) n = room;
    memcpy(at, text, n);
    return n;
}

static inline size_t gcheap_put_hex(char *at, size_t room, uint64_t value) {
    char digits[18] = "0x";
    size_t n = 2;
    int shift = 60;
    while (shift > 0 && !((value >> shift) & 15)) shift -= 4;
    for (; shift >= 0; shift -= 4) digits[n++] = "0123456789abcdef"[(value >> shift) & 15];
    if (n > room) n = room;
    memcpy(at, digits, n);
    return n;
}

/* Writes "gcheap: fatal: WHAT (A, B)" to standard error and aborts. */
__attribute__((noinline, cold, noreturn, unused))
static void gcheap_fatal(const char *what, uint64_t a, uint64_t b) {
    char line[400];
    size_t n = 0;
    n += gcheap_put_text(line + n, sizeof line - n, "gcheap: fatal: ");
    n += gcheap_put_text(line + n, sizeof line - n - 48, what);
    n += gcheap_put_text(line + n, sizeof line - n, " (");
    n += gcheap_put_hex(line + n, sizeof line - n, a);
    n += gcheap_put_text(line + n, sizeof line - n, ", ");
    n += gcheap_put_hex(line + n, sizeof line - n, b);
    n += gcheap_put_text(line + n, sizeof line - n, ")\n");
    ssize_t ignored = write(2, line, n);
    (void)ignored;
    abort();
}

static inline void check_that(int ok, const char *what, uint64_t a, uint64_t b) {
    if (__builtin_expect(!ok, 0)) gcheap_fatal(what, a, b);
}
#endif
