/* NaN-boxed values, as in "Crafting Interpreters": a reference has all of the bits QNAN | SIGN, a
 * number is whatever has not.  Lists, arrays, shadow stacks, root areas, tables, weak references, and
 * the write barrier in the middle of marking; with shapes of another rule beside them. */
#include "checking.h"

#define BOX 0xFFFC000000000000u
#define FALSE (0x7FFC000000000000u | 2)     /* other values of that book: no references */
enum { THREADS = 2, KEYS = 400, ROUNDS = 40, CHAIN = 50 };

static gc_heap *heap;
static gc_shape cons, plain, low;
static gc_table *table;

static gc_word box(gc_word address) { return address | BOX; }
static gc_word unbox(gc_word value) { CHECK((value & BOX) == BOX); return value & ~BOX; }
static gc_word number(double d) { gc_word w; memcpy(&w, &d, 8); return w; }
static double value(gc_word w) { double d; memcpy(&d, &w, 8); return d; }

/* A chain of CHAIN conses with numbers from `first` on, boxed, in *root. */
static void chain(gc_mutator *m, gc_word *root, double first) {
    *root = FALSE;
    for (int i = 0; i < CHAIN; i++) {
        gc_word at = gc_alloc(m, cons);
        CHECK(at);
        gc_store(m, at, 0, i % 7 ? number(first + i) : number(-(first + i)));
        gc_store(m, at, 1, *root);
        *root = box(at);
    }
}
static void check_chain(gc_word at, double first) {
    for (int i = CHAIN; i--; at = gc_load(unbox(at), 1)) {
        double d = value(gc_load(unbox(at), 0));
        CHECK(gc_shape_of(unbox(at)) == cons && d == (i % 7 ? first + i : -(first + i)));
    }
    CHECK(at == FALSE);
}

static void *run(void *which) {
    double base = 1000.0 * *(int *)which;
    gc_mutator *m = gc_attach(heap, "boxed");
    gc_word *f, globals[3] = { 0 }, got;
    const gc_tag_rule lows = { 7, 2 };
    uint64_t count = 3;
    gc_roots *roots;
    gc_weak weak;
    CHECK(m);
    gc_enter(m);
    f = gc_push(m, 5);
    f[4] = number(0.0 / 0.0);                       /* a NaN is a number */
    roots = gc_add_roots(m, globals, &count, &lows);
    f[0] = box(gc_alloc_array(m, GC_SHAPE_SLOTS, KEYS));
    f[1] = box(gc_alloc_array(m, GC_SHAPE_SLOTS, KEYS));
    for (int i = 0; i < KEYS; i++) {                /* keys -> chains, in an ephemeron table */
        gc_word key = gc_alloc(m, cons);
        gc_store(m, key, 0, number(base + i));
        gc_store_element(m, unbox(f[0]), i, box(key));
        chain(m, &f[2], base + i);
        CHECK(gc_table_put(m, table, unbox(gc_load_element(unbox(f[0]), i)), f[2]) == 0);
        chain(m, &f[2], base - i);
        gc_store_element(m, unbox(f[1]), i, f[2]);
    }
    f[2] = 0;
    got = gc_alloc(m, low);                         /* another rule: tag 3 in the low bits */
    gc_store(m, got, 0, unbox(gc_load_element(unbox(f[1]), 0)) | 3);
    gc_store(m, got, 1, unbox(gc_load_element(unbox(f[1]), 0)));    /* there no reference */
    globals[0] = got | 2;
    globals[1] = f[0];                              /* in this area no reference, and never used */
    got = gc_alloc(m, plain);                       /* the default rule: plain addresses */
    gc_store(m, got, 0, unbox(f[0]));
    gc_store(m, got, 1, 13);
    globals[2] = got | 2;
    weak = gc_new_weak(m, unbox(f[0]));
    for (int round = 0; round < ROUNDS; round++) {
        /* Move the chains from an old array into a new one, which is black if marking is on: without
         * the barrier the marker would miss them. */
        f[2] = box(gc_alloc_array(m, GC_SHAPE_SLOTS, KEYS));
        for (int i = 0; i < KEYS; i++) {
            int other = i < 128 ? i ^ 1 : i;
            gc_store_element(m, unbox(f[2]), i, gc_load_element(unbox(f[1]), other));
            gc_store_element(m, unbox(f[1]), other, number(i));
            chain(m, &f[3], base);                  /* garbage, and safepoints */
        }
        f[1] = f[2];
        for (int i = 0; i < KEYS; i++) {
            gc_word chain_of = gc_load_element(unbox(f[1]), i);
            CHECK(gc_table_get(m, table, unbox(gc_load_element(unbox(f[0]), i)), &got) == 1);
            check_chain(got, base + i);
            CHECK(value(gc_load(unbox(gc_load_element(unbox(f[0]), i)), 0)) == base + i);
            if (i >= 128) check_chain(chain_of, base - i);
        }
        gc_poll(m);
    }
    for (int i = 0; i < 128; i++) {                 /* each chain is still there once */
        int other = i ^ 1;
        gc_word at = gc_load_element(unbox(f[1]), i);
        double top = value(gc_load(unbox(at), 0));
        CHECK((CHAIN - 1) % 7 == 0);
        CHECK(-top - (CHAIN - 1) == base - i || -top - (CHAIN - 1) == base - other);
        check_chain(at, -top - (CHAIN - 1));
    }
    gc_collect(heap);
    CHECK(value(f[4]) != value(f[4]));
    CHECK(gc_weak_load(m, weak) == unbox(f[0]));
    got = globals[0] & ~(gc_word)7;
    CHECK(gc_shape_of(got) == low && (gc_load(got, 0) & 7) == 3);
    CHECK(gc_shape_of(gc_load(got, 0) & ~(gc_word)7) == cons);
    got = globals[2] & ~(gc_word)7;
    CHECK(gc_shape_of(got) == plain && gc_load(got, 0) == unbox(f[0]) && gc_load(got, 1) == 13);
    f[0] = f[1] = f[2] = f[3] = 0;
    gc_remove_roots(m, roots);
    gc_collect(heap);
    CHECK(gc_weak_load(m, weak) == 0);
    gc_drop_weak(heap, weak);
    gc_pop(m, 5);
    gc_detach(m);                                   /* leaves by itself */
    return NULL;
}

int main(int argc, char **argv) {
    static const gc_tag_rule boxed = { BOX, BOX }, three = { 7, 3 }, addresses = { 7, 0 };
    pthread_t threads[THREADS];
    int which[THREADS];
    gc_statistics s;
    (void)argc;
    heap = begin(argv, &boxed);
    CHECK(heap->tag_mask == BOX && heap->tag_bits == BOX);
    CHECK(heap->shapes[GC_SHAPE_SLOTS].tag_mask == BOX);
    cons = gc_define_shape(heap, &(gc_shape_spec){ .name = "cons", .slots = "value next" });
    plain = gc_define_shape(heap, &(gc_shape_spec){ .name = "plain", .slots = "a b",
                                                    .tag = &addresses });
    low = gc_define_shape(heap, &(gc_shape_spec){ .name = "low", .slots = "a b", .tag = &three });
    table = gc_new_table(heap);
    CHECK(cons && plain && low && table);
    for (int i = 0; i < THREADS; i++) {
        which[i] = i + 1;
        CHECK(pthread_create(&threads[i], NULL, run, &which[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    gc_collect(heap);
    gc_get_statistics(heap, &s);
    CHECK(s.live == 0 && s.relocations > 0 && gc_table_count(table) == 0);
    gc_drop_table(table);
    return end(heap);
}
