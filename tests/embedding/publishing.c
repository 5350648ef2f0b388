/* Two threads hand each other lists, with nothing else between them, while objects move. */
#include "checking.h"

enum { ROUNDS = 100, LENGTH = 40, PUSHES = 4000,
       STACK = 2 };             /* the slot of `shared` after those of the threads 0 and 1 */

static gc_heap *heap;
static gc_shape cell, shared;
static gc_handle table, mail,   /* a `shared`; an array with an element a thread */
                 boxes[2];      /* the threads' own */
static int working = 2;         /* threads */

/* A list LENGTH .. 1 of thread `who`, whose raw bytes are plain stores. */
static gc_word list_of(gc_mutator *m, gc_word *f, int who, int round) {
    f[0] = 0;
    for (int i = 1; i <= LENGTH; i++) {
        gc_word at = gc_alloc(m, cell);
        CHECK(at);
        gc_store(m, at, 0, f[0]);
        ((uint64_t *)gc_raw(at, 1))[0] = (uint64_t)(round << 8 | who);
        ((uint64_t *)gc_raw(at, 1))[1] = (uint64_t)i;
        f[0] = at;
    }
    return f[0];
}

/* The round of a list of thread `who`; every cell is whole. */
static int checked(gc_word at, int who) {
    const uint64_t stamp = *(uint64_t *)gc_raw(at, 1);
    CHECK((int)(stamp & 255) == who);
    for (int i = LENGTH; i; i--, at = gc_load(at, 0)) {
        CHECK(gc_shape_of(at) == cell);
        CHECK(((uint64_t *)gc_raw(at, 1))[0] == stamp);
        CHECK(((uint64_t *)gc_raw(at, 1))[1] == (uint64_t)i);
    }
    CHECK(at == 0);
    return (int)(stamp >> 8);
}

static void put(gc_mutator *m, int how, int who, gc_word list) {
    if (how == 0) gc_publish_element(m, gc_handle_load(m, mail), (uint64_t)who, list);
    else if (how == 1) gc_publish(m, gc_handle_load(m, table), (uint64_t)who, list);
    else gc_handle_store(m, boxes[who], list);
}

static gc_word get(gc_mutator *m, int how, int who) {
    if (how == 0) return gc_acquire_element(gc_handle_load(m, mail), (uint64_t)who);
    if (how == 1) return gc_acquire(gc_handle_load(m, table), (uint64_t)who);
    return gc_handle_load(m, boxes[who]);
}

/* Exchanges lists with the other thread, by elements, slots and handles in turns. */
static void exchange(gc_mutator *m, gc_word *f, int me) {
    for (int round = 1; round <= ROUNDS; round++) {
        gc_word got;
        put(m, round % 3, me, list_of(m, f, me, round));
        do {                    /* until the other's list of this round is there */
            gc_leave(m);
            sched_yield();
            gc_enter(m);
            got = get(m, round % 3, 1 - me);
        } while (!got || checked(got, 1 - me) < round);
    }
}

/* Pushes cells on the one stack of both threads. */
static void push(gc_mutator *m, int me) {
    for (int i = 0; i < PUSHES; i++) {
        gc_word head, top, at = gc_alloc(m, cell);
        CHECK(at);
        ((uint64_t *)gc_raw(at, 1))[0] = (uint64_t)me;
        ((uint64_t *)gc_raw(at, 1))[1] = (uint64_t)i;
        head = gc_handle_load(m, table);            /* no safepoint from here to the end */
        do {
            top = gc_acquire(head, STACK);
            gc_store(m, at, 0, top);
        } while (!gc_replace(m, head, STACK, top, at));
        CHECK(!gc_replace(m, head, STACK, 0, at));  /* it is not empty any more */
    }
}

static void *work(void *number) {
    const int me = *(int *)number;
    gc_mutator *m = gc_attach(heap, me ? "one" : "zero");
    CHECK(m);
    gc_enter(m);
    exchange(m, gc_push(m, 1), me);
    push(m, me);
    gc_leave(m);
    gc_detach(m);
    __atomic_fetch_sub(&working, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* Every cell that was pushed is there once, those of each thread in their order. */
static void count(gc_mutator *m) {
    uint64_t next[2] = { PUSHES, PUSHES };
    for (gc_word at = gc_load(gc_handle_load(m, table), STACK); at; at = gc_load(at, 0)) {
        const uint64_t *raw = gc_raw(at, 1);
        CHECK(raw[0] < 2 && raw[1] == --next[raw[0]]);
    }
    CHECK(next[0] == 0 && next[1] == 0);
}

int main(int argc, char **argv) {
    gc_mutator *m;
    pthread_t threads[2];
    int numbers[2] = { 0, 1 };
    gc_shape_spec spec = { .name = "cell", .slots = "next", .raw_bytes = 16 };
    (void)argc;
    heap = begin(argv, NULL);
    cell = gc_define_shape(heap, &spec);
    spec = (gc_shape_spec){ .name = "shared", .slots = "zero one stack" };
    shared = gc_define_shape(heap, &spec);
    CHECK(cell && shared);
    m = gc_attach(heap, "main");
    gc_enter(m);
    table = gc_new_handle(m, gc_alloc(m, shared));
    mail = gc_new_handle(m, gc_alloc_array(m, GC_SHAPE_SLOTS, 2));
    for (int i = 0; i < 2; i++) boxes[i] = gc_new_handle(m, list_of(m, gc_push(m, 1), i, 0));
    CHECK(table && mail && boxes[0] && boxes[1]);
    gc_leave(m);
    for (int i = 0; i < 2; i++) CHECK(!pthread_create(&threads[i], NULL, work, &numbers[i]));
    while (__atomic_load_n(&working, __ATOMIC_RELAXED)) gc_collect(heap);
    for (int i = 0; i < 2; i++) CHECK(!pthread_join(threads[i], NULL));
    gc_enter(m);
    count(m);
    gc_collect(heap);
    count(m);
    gc_leave(m);
    gc_detach(m);
    return end(heap);
}
