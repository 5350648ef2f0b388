/* Strings: every one is interned in a weak table of the heap, so equal strings are the same object.
 *
 * The hash of a string is a polynomial modulo 2^48, so that of a concatenation follows from those of its
 * parts, and no byte of a long string is looked at until one with its hash and length is found. */
#ifndef GCHEAP_LOX_STRINGS_H
#define GCHEAP_LOX_STRINGS_H
#include "output.h"

#define HASH_FACTOR 0x9E3779B97F4A7C15u
#define HASH_MASK (((uint64_t)1 << 48) - 1)
enum { COPY_PIECE = 1 << 18 };          /* bytes copied between safepoints */

static uint64_t hash_bytes(const char *bytes, uint64_t n) {
    uint64_t hash = 0;
    for (uint64_t i = 0; i < n; i++) hash = hash * HASH_FACTOR + (unsigned char)bytes[i] + 1;
    return hash & HASH_MASK;
}

/* Of the concatenation of strings with these hashes, the second of `n` bytes. */
static uint64_t hash_joined(uint64_t first, uint64_t second, uint64_t n) {
    uint64_t power = HASH_FACTOR;
    for (; n; n >>= 1, power *= power)
        if (n & 1) first *= power;
    return (first + second) & HASH_MASK;
}

/* The low bits of a polynomial are those of the last characters: spread them. */
static inline uint64_t spread(uint64_t hash) {
    hash ^= hash >> 25;
    hash *= 0xFF51AFD7ED558CCDu;
    return hash ^ hash >> 32;
}

/* What is looked for: one piece of bytes, or two. */
typedef struct joined { const char *first, *second; uint64_t first_length, second_length; } joined;

static int is_joined(void *context, gc_mutator *m, gc_word obj) {
    const joined *j = context;
    const char *bytes = (const char *)gc_elements(obj) + 8;
    (void)m;
    return gc_length(obj) - 8 == j->first_length + j->second_length
        && !memcmp(bytes, j->first, j->first_length)
        && !memcmp(bytes + j->first_length, j->second, j->second_length);
}

/* A string of `n` bytes that are not in the heap, boxed; 0: no room.  SAFEPOINT. */
static gc_word intern(lox_thread *t, const char *bytes, uint64_t n) {
    joined j = { bytes, bytes, n, 0 };
    uint64_t hash = hash_bytes(bytes, n);
    gc_word s = gc_intern_find(t->m, t->program->strings, spread(hash), is_joined, &j);
    if (s) return boxed(s);
    s = gc_alloc_array(t->m, LOX_STRING, n + 8);
    if (!s) return 0;
    *(uint64_t *)gc_elements(s) = hash ^ HASH_STORED;
    memcpy((char *)gc_elements(s) + 8, bytes, n);
    s = gc_intern_add(t->m, t->program->strings, spread(hash), is_joined, &j, s);
    return s ? boxed(s) : 0;
}

/* Copies the string at stack[from] into the one on top of the stack, at byte `at`. */
static void copy_into_top(lox_thread *t, gc_word *from, uint64_t at) {
    uint64_t n = character_count(*from), done = 0;
    for (;;) {
        uint64_t piece = n - done < COPY_PIECE ? n - done : COPY_PIECE;
        memcpy(characters(top(t)[-1]) + at + done, characters(*from) + done, piece);
        done += piece;
        if (done == n) return;
        gc_poll(t->m);
    }
}

/* Replaces the two strings on top of the stack by their concatenation.  SAFEPOINT. */
static int concatenate(lox_thread *t) {
    gc_word *two = top(t) - 2, s;
    uint64_t first = character_count(two[0]), second = character_count(two[1]);
    uint64_t hash = hash_joined(string_hash(two[0]), string_hash(two[1]), second);
    joined j = { characters(two[0]), characters(two[1]), first, second };
    s = gc_intern_find(t->m, t->program->strings, spread(hash), is_joined, &j);
    if (!s) {
        s = gc_alloc_array(t->m, LOX_STRING, first + second + 8);
        if (!s) return exhausted(t);
        *(uint64_t *)gc_elements(s) = hash ^ HASH_STORED;
        push(t, boxed(s));
        copy_into_top(t, two, 0);
        copy_into_top(t, two + 1, first);
        j = (joined){ characters(two[0]), characters(two[1]), first, second };
        s = gc_intern_add(t->m, t->program->strings, spread(hash), is_joined, &j,
                          address_of(pop(t)));
        if (!s) return fail(t, "Out of memory.");
    }
    two[0] = boxed(s);
    pop(t);
    return 1;
}
#endif
