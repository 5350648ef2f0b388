/* Native functions: clock() as in the book; the others are ours. */
#ifndef GCHEAP_LOX_NATIVES_H
#define GCHEAP_LOX_NATIVES_H
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include "threads.h"

enum { FILL_PIECE = 1 << 15 };          /* elements set between safepoints */

static int native_clock(lox_thread *t, uint32_t count, gc_word *a) {
    (void)t, (void)count;
    a[-1] = of_number((double)clock() / CLOCKS_PER_SEC);
    return 1;
}

static int native_gc(lox_thread *t, uint32_t count, gc_word *a) {
    (void)count;
    gc_collect(t->program->heap);
    a[-1] = LOX_NIL;
    return 1;
}

/* The heap counts TLABs whole, so what the thread's own has left is taken off again. */
static int native_heap_used(lox_thread *t, uint32_t count, gc_word *a) {
    gc_statistics s;
    (void)count;
    gc_get_statistics(t->program->heap, &s);
    a[-1] = of_number((double)(s.used - t->program->unused(t->m)));
    return 1;
}

/* An array of `length` times nil at *at, a root.  SAFEPOINT. */
static int make_array(lox_thread *t, gc_word *at, uint64_t length) {
    gc_word array = gc_alloc_array(t->m, LOX_ARRAY, 1 + length);
    if (!array) return exhausted(t);
    *at = boxed(array);
    *element_at(*at, 0) = 1;
    for (uint64_t i = 0; i < length;) {
        uint64_t end = length - i < FILL_PIECE ? length : i + FILL_PIECE;
        while (i < end) publish(t->m, *at, element_at(*at, ++i), LOX_NIL);
        gc_poll(t->m);
    }
    return 1;
}

static int native_array(lox_thread *t, uint32_t count, gc_word *a) {
    double length = is_number(a[0]) ? as_number(a[0]) : -1;
    (void)count;
    if (!(length >= 0 && isfinite(length) && floor(length) == length))
        return fail(t, "Array length must be a whole number, not negative.");
    if (length >= 0x1p63)
        return fail(t, "Out of memory: no heap can hold an array of %g elements.", length);
    return make_array(t, a - 1, (uint64_t)length);
}

static int native_args(lox_thread *t, uint32_t count, gc_word *a) {
    (void)count;
    a[-1] = t->program->words[WORD_ARGUMENTS];
    return 1;
}

/* The file as bytes of malloc's, or the errno; -1: it has more than `most` bytes.  Not RUNNING. */
static int read_file(const char *path, uint64_t most, char **bytes, uint64_t *n) {
    uint64_t room = 1 << 16;
    int fd = open(path, O_RDONLY | O_CLOEXEC), error = 0;
    *bytes = NULL, *n = 0;
    if (fd < 0) return errno;
    while (!error) {
        ssize_t got;
        if (!*bytes || *n == room) {
            char *larger;
            room = 2 * room <= most ? 2 * room : most + 1;
            if (!(larger = realloc(*bytes, room))) { error = ENOMEM; break; }
            *bytes = larger;
        }
        got = read(fd, *bytes + *n, room - *n);
        if (got < 0 && errno != EINTR) error = errno;
        if (got == 0) break;
        if (got > 0) *n += (uint64_t)got;
        if (*n > most) error = -1;
    }
    close(fd);
    if (error) free(*bytes);
    return error;
}

static int native_read_file(lox_thread *t, uint32_t count, gc_word *a) {
    char *path, *bytes;
    uint64_t n;
    gc_statistics heap;
    gc_word text;
    int error;
    (void)count;
    if (!has_shape(a[0], LOX_STRING)) return fail(t, "A path must be a string.");
    gc_get_statistics(t->program->heap, &heap);
    n = character_count(a[0]);
    if (memchr(characters(a[0]), 0, n)) return fail(t, "A path must have no zero bytes.");
    if (!(path = strndup(characters(a[0]), n))) return fail(t, "Out of memory.");
    gc_leave(t->m);
    error = read_file(path, heap.capacity, &bytes, &n);
    free(path);
    gc_enter(t->m);
    if (error == -1)
        return fail(t, "Out of memory: the heap of %llu bytes cannot hold the file.",
                    (unsigned long long)heap.capacity);
    if (error == ENOMEM) return fail(t, "Out of memory: the system has none for the file.");
    if (error) {
        char after[160];
        snprintf(after, sizeof after, "': %s.", strerror(error));
        return fail_named(t, "Cannot read '", a[0], after);
    }
    text = intern(t, bytes, n);
    free(bytes);
    if (!text) return exhausted(t);
    a[-1] = text;
    return 1;
}

static const lox_native_entry lox_natives[] = {
    { "clock", -1, native_clock },      /* as in the book, arguments are ignored */
    { "spawn", 1, native_spawn }, { "join", 1, native_join },
    { "gc", 0, native_gc }, { "heapUsed", 0, native_heap_used },
    { "array", 1, native_array }, { "args", 0, native_args },
    { "readFile", 1, native_read_file },
};
enum { LOX_NATIVE_COUNT = sizeof lox_natives / sizeof *lox_natives };

static const lox_native_entry *native_entry(uint32_t which) { return &lox_natives[which]; }
#endif
