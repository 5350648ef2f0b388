/* Lox values: doubles, and what hides among the NaNs (NaN boxing, as in "Crafting Interpreters").
 *
 *     number       any double; arithmetic makes no NaN of the kinds below
 *     nil … hole   LOX_QNAN | 1 … 5
 *     object       LOX_BOX | address: what the heap's tag rule calls a reference
 *
 * 0 is the number 0, so zeroed memory is no "nothing here": that is LOX_ABSENT. */
#ifndef GCHEAP_LOX_VALUE_H
#define GCHEAP_LOX_VALUE_H
#include <math.h>
#include <string.h>
#include "gcheap.h"

#define LOX_QNAN 0x7FFC000000000000u
#define LOX_BOX 0xFFFC000000000000u
#define LOX_NIL (LOX_QNAN | 1)
#define LOX_FALSE (LOX_QNAN | 2)
#define LOX_TRUE (LOX_QNAN | 3)
#define LOX_ABSENT (LOX_QNAN | 4)       /* a field that is not there yet; a global not defined */

static inline int is_number(gc_word v) { return (v & LOX_QNAN) != LOX_QNAN; }
static inline int is_object(gc_word v) { return (v & LOX_BOX) == LOX_BOX; }
static inline int is_falsey(gc_word v) { return v == LOX_NIL || v == LOX_FALSE; }
static inline gc_word of_bool(int b) { return b ? LOX_TRUE : LOX_FALSE; }
static inline gc_word boxed(gc_word address) { return address | LOX_BOX; }
static inline gc_word address_of(gc_word v) { return v & ~LOX_BOX; }
static inline double as_number(gc_word v) { double d; memcpy(&d, &v, 8); return d; }
static inline gc_word of_number(double d) { gc_word v; memcpy(&v, &d, 8); return v; }

static inline int equal_values(gc_word a, gc_word b) {
    if (is_number(a) && is_number(b)) return as_number(a) == as_number(b);
    return a == b;                      /* strings are interned */
}

/* The whole number from 0 to `below` - 1 that `v` is; UINT64_MAX: it is none. */
static inline uint64_t index_below(gc_word v, uint64_t below) {
    double d;
    uint64_t i;
    if (!is_number(v)) return UINT64_MAX;
    d = as_number(v);
    if (!(d >= 0 && d < (double)below)) return UINT64_MAX;
    i = (uint64_t)d;
    return (double)i == d ? i : UINT64_MAX;
}
#endif
