/* Calls each function of gcheap.h, and looks at what it did. */
#include "checking.h"

enum { COUNT = 3000, LENGTH = 5 };

static gc_heap *heap;
static gc_shape pair, blob;
static int events[GC_MUTATOR_REMOVED + 1];
static gc_mutator *added;

static void listen(void *data, gc_heap *where, const gc_event *event) {
    CHECK(data == events && where == heap && event->kind <= GC_MUTATOR_REMOVED);
    if (event->kind == GC_MUTATOR_ADDED) added = event->mutator;
    if (event->kind <= GC_RELOCATED) CHECK(event->mutator == NULL && event->pause <= 6);
    if (event->kind == GC_MUTATOR_STOPPING || event->kind == GC_MUTATOR_RESTARTED)
        CHECK(event->mutator == gc_current(heap));
    __atomic_add_fetch(&events[event->kind], 1, __ATOMIC_RELAXED);
}

/* A list COUNT .. 1 in the word at `root`, with garbage between its cells. */
static void make_list(gc_mutator *m, gc_word *root) {
    *root = 0;
    for (int i = 1; i <= COUNT; i++) {
        gc_word cell = gc_alloc(m, pair);
        CHECK(cell);
        CHECK(gc_load(cell, 0) == 0 && gc_load(cell, 1) == 0);
        gc_store(m, cell, 0, *root);
        gc_store(m, cell, 1, (gc_word)i * 8 + 1);
        *root = cell;
        CHECK(gc_alloc_sized(m, pair, heap->shapes[pair].bytes));
    }
}

static void check_list(gc_word at) {
    for (int i = COUNT; i; i--, at = gc_load(at, 0)) {
        CHECK(gc_shape_of(at) == pair && gc_load(at, 1) == (gc_word)i * 8 + 1);
        CHECK(*(double *)gc_raw(at, 2) == 0);
    }
    CHECK(at == 0);
}

static uint64_t cycles(void) {
    gc_statistics s;
    gc_get_statistics(heap, &s);
    CHECK(s.capacity == 16 << 20 && s.used <= s.capacity && s.live <= s.used);
    return s.cycles;
}

static void shadow_stack(gc_mutator *m) {
    gc_word *f = gc_push(m, 2), before, *all;
    uint64_t room = (uint64_t)(m->shadow_end - m->shadow_top), n = cycles();
    CHECK(f && f[0] == 0 && f[1] == 0);
    make_list(m, &f[0]);
    before = f[0];
    gc_collect(heap);
    CHECK(cycles() > n);
    CHECK(f[0] != before);
    check_list(f[0]);
    gc_pop(m, 2);
    CHECK(gc_push(m, room + 3) == NULL);
    all = gc_push(m, room + 2);
    CHECK(all && m->shadow_top == m->shadow_end && gc_push(m, 1) == NULL);
    gc_pop(m, room + 2);
}

static void root_areas(gc_mutator *m) {
    gc_word area[LENGTH + 1] = { 0 }, low[2] = { 0 };
    const gc_tag_rule odd = { 7, 6 };
    uint64_t count = LENGTH, two = 2;
    gc_roots *roots = gc_add_roots(m, area, &count, NULL), *others;
    gc_weak weak;
    CHECK(roots);
    others = gc_add_roots(m, low, &two, &odd);
    CHECK(others);
    make_list(m, &area[LENGTH - 1]);
    area[0] = 13;                                   /* tagged: left alone */
    low[1] = area[LENGTH - 1] | 6;
    low[0] = area[LENGTH - 1];                      /* no reference under the rule of its area */
    weak = gc_new_weak(m, area[LENGTH - 1]);
    CHECK(weak);
    gc_collect(heap);
    CHECK(area[0] == 13 && low[1] == (area[LENGTH - 1] | 6) && low[0] != area[LENGTH - 1]);
    CHECK(gc_weak_load(m, weak) == area[LENGTH - 1]);
    check_list(area[LENGTH - 1]);
    count = LENGTH - 1;                             /* now only the other area holds it */
    gc_collect(heap);
    check_list(low[1] & ~(gc_word)7);
    CHECK(area[LENGTH - 1] != (low[1] & ~(gc_word)7));
    gc_remove_roots(m, others);
    gc_collect(heap);
    CHECK(gc_weak_load(m, weak) == 0);
    gc_drop_weak(heap, weak);
    gc_remove_roots(m, roots);
}

static void handles(gc_mutator *m) {
    gc_word *f = gc_push(m, 1);
    gc_handle handle, other;
    gc_weak weak;
    make_list(m, &f[0]);
    handle = gc_new_handle(m, f[0]);
    CHECK(handle);
    f[0] = 0;
    gc_collect(heap);
    check_list(gc_handle_load(m, handle));
    weak = gc_new_weak(m, gc_handle_load(m, handle));
    other = gc_new_handle(m, gc_alloc(m, pair));
    CHECK(other && other != handle);
    gc_handle_store(m, handle, gc_handle_load(m, other));
    gc_collect(heap);
    CHECK(gc_weak_load(m, weak) == 0);
    CHECK(gc_handle_load(m, handle) == gc_handle_load(m, other));
    gc_drop_weak(heap, weak);
    gc_drop_handle(heap, handle);
    gc_drop_handle(heap, other);
    gc_pop(m, 1);
}

static void arrays(gc_mutator *m) {
    gc_word *f = gc_push(m, 3);
    char *bytes;
    f[0] = gc_alloc_array(m, GC_SHAPE_SLOTS, LENGTH);
    CHECK(gc_shape_of(f[0]) == GC_SHAPE_SLOTS && gc_length(f[0]) == LENGTH);
    for (int i = 0; i < LENGTH; i++) {
        gc_word cell = gc_alloc(m, pair);
        CHECK(gc_load_element(f[0], i) == 0);
        gc_store_element(m, f[0], i, cell);
    }
    f[1] = gc_alloc_array(m, blob, 1000);           /* elements of 24 bytes: a large object soon */
    CHECK(heap->shapes[blob].item == 24 && gc_length(f[1]) == 1000);
    memset(gc_elements(f[1]), 42, 24000);
    f[2] = gc_alloc_array(m, blob, 40000);
    memset(gc_elements(f[2]), 43, 960000);
    gc_collect(heap);
    for (int i = 0; i < LENGTH; i++) CHECK(gc_shape_of(gc_load_element(f[0], i)) == pair);
    bytes = gc_elements(f[1]);
    for (int i = 0; i < 24000; i++) CHECK(bytes[i] == 42);
    bytes = gc_elements(f[2]);
    for (int i = 0; i < 960000; i++) CHECK(bytes[i] == 43);
    CHECK(gc_alloc_array(m, blob, (uint64_t)1 << 30) == 0);
    CHECK_MESSAGE("cannot hold an array of 1073741824 elements of 24 bytes");
    gc_pop(m, 3);
}

/* Lengths whose sizes do not fit the heap, or 64 bits. */
static void absurd_lengths(gc_mutator *m) {
    const gc_shape shapes[] = { GC_SHAPE_SLOTS, GC_SHAPE_BYTES, blob };
    for (int bits = 24; bits <= 64; bits++)
        for (int more = -1; more <= 1; more++)
            for (int i = 0; i < 3; i++) {
                uint64_t length = (bits < 64 ? (uint64_t)1 << bits : 0) + (uint64_t)more;
                if (length < 2) continue;           /* 64 bits are 0 again */
                CHECK(gc_alloc_array(m, shapes[i], length) == 0);
                CHECK_MESSAGE(length <= (uint64_t)1 << 24 && i == 1 ? "is full" : "cannot hold");
                CHECK(i == 0 || gc_alloc_pinned(m, shapes[i], length) == 0);
            }
    CHECK(gc_alloc(m, pair));
}

/* What a child says that allocates something absurd, and does not outlive it. */
static void last_words(gc_mutator *m, gc_word (*allocate)(gc_mutator *, gc_shape, uint64_t),
                       gc_shape shape, uint64_t size, char said[200]) {
    int ends[2], status;
    pid_t child;
    ssize_t length;
    CHECK(pipe(ends) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        dup2(ends[1], 2);
        if (shape) m->tlab_end = m->tlab_top;       /* as in a TLAB without room */
        allocate(m, shape, size);
        _exit(0);
    }
    gc_leave(m);
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    gc_enter(m);
    CHECK(WTERMSIG(status) == SIGABRT && (length = read(ends[0], said, 199)) > 0);
    said[length] = 0;
    close(ends[0]), close(ends[1]);
}

/* A size that is not the shape's, and the shape that is none, end the process. */
static void absurd_sizes(gc_mutator *m) {
    const uint64_t right = heap->shapes[pair].bytes;
    const uint64_t sizes[] = { 1, right - 8, right - 1, right + 1, right + 8, (uint64_t)1 << 24,
                               (uint64_t)1 << 61, UINT64_MAX - 7, UINT64_MAX };
    char said[200];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        last_words(m, gc_alloc_sized, pair, sizes[i], said);
        CHECK(strstr(said, "a size that is not its shape's"));
    }
    last_words(m, gc_alloc_sized, 0, heap->shapes[0].bytes, said);      /* gc_alloc(m, 0) */
    CHECK(strstr(said, "not a shape"));
    last_words(m, gc_alloc_array, 0, 1, said);
    CHECK(strstr(said, "a shape that is none's"));
}

static void publishing(gc_mutator *m) {
    gc_word *f = gc_push(m, 3), *slot;
    gc_weak weak;
    f[0] = gc_alloc(m, pair);
    f[1] = gc_alloc(m, pair);
    f[2] = gc_alloc_array(m, GC_SHAPE_SLOTS, LENGTH);
    gc_publish(m, f[0], 1, f[1]);
    CHECK(gc_acquire(f[0], 1) == f[1] && gc_load(f[0], 1) == f[1] && gc_acquire(f[0], 0) == 0);
    CHECK(!gc_replace(m, f[0], 1, 13, 0) && gc_acquire(f[0], 1) == f[1]);
    CHECK(gc_replace(m, f[0], 1, f[1], 13) && gc_acquire(f[0], 1) == 13);
    gc_publish_element(m, f[2], 4, f[1]);
    CHECK(gc_acquire_element(f[2], 4) == f[1] && gc_load_element(f[2], 4) == f[1]);
    CHECK(gc_acquire_element(f[2], 3) == 0 && !gc_replace_element(m, f[2], 4, 0, f[0]));
    CHECK(gc_replace_element(m, f[2], 4, f[1], f[0]) && gc_load_element(f[2], 4) == f[0]);
    slot = (gc_word *)f[2] + 2;
    gc_publish_slot(m, f[2], slot, f[1]);
    CHECK(gc_acquire_slot(slot) == f[1] && gc_load_element(f[2], 0) == f[1]);
    CHECK(!gc_replace_slot(m, f[2], slot, 0, 13) && gc_replace_slot(m, f[2], slot, f[1], 13));
    CHECK(gc_load_element(f[2], 0) == 13);
    gc_store_slot(m, f[2], slot, f[1]);
    weak = gc_new_weak(m, f[1]);
    f[1] = 0;
    gc_collect(heap);
    slot = (gc_word *)f[2] + 2;
    CHECK(gc_acquire_slot(slot) && gc_acquire_slot(slot) == gc_weak_load(m, weak));
    CHECK(gc_acquire_element(f[2], 4) == f[0] && gc_acquire(f[0], 1) == 13);
    gc_drop_weak(heap, weak);
    gc_pop(m, 3);
}

static void pinned(gc_mutator *m) {
    gc_word *f = gc_push(m, 1), at;
    int ends[2];
    f[0] = at = gc_alloc_pinned(m, GC_SHAPE_BYTES, 4096);
    CHECK(at && gc_length(at) == 4096);
    gc_collect(heap);
    CHECK(f[0] == at);
    CHECK(pipe(ends) == 0);
    gc_leave(m);
    CHECK(write(ends[1], "across", 6) == 6 && read(ends[0], gc_elements(at), 6) == 6);
    gc_enter(m);
    CHECK(!memcmp(gc_elements(f[0]), "across", 6));
    close(ends[0]), close(ends[1]);
    CHECK(gc_alloc_pinned(m, GC_SHAPE_BYTES, 32 << 20) == 0);
    CHECK_MESSAGE("cannot hold");
    gc_pop(m, 1);
}

static void guardians(gc_mutator *m) {
    gc_guardian *g = gc_new_guardian(heap);
    gc_word *f = gc_push(m, 2), got;
    CHECK(g);
    make_list(m, &f[0]);
    CHECK(gc_guard(m, g, f[0], 0) == 0);
    gc_collect(heap);
    CHECK(gc_guardian_poll(m, g) == 0);
    f[0] = 0;
    gc_collect(heap);
    got = gc_guardian_poll(m, g);
    check_list(got);
    CHECK(gc_guardian_poll(m, g) == 0);
    f[0] = gc_alloc(m, pair);
    f[1] = gc_alloc(m, pair);
    gc_store(m, f[1], 1, 8 * 99 + 1);
    CHECK(gc_guard(m, g, f[0], f[1]) == 0);
    f[0] = f[1] = 0;
    gc_collect(heap);
    got = gc_guardian_poll(m, g);                   /* the agent, in the object's place */
    CHECK(got && gc_load(got, 1) == 8 * 99 + 1);
    gc_drop_guardian(g);
    gc_pop(m, 2);
}

static int same_number(void *context, gc_mutator *m, gc_word obj) {
    CHECK(m == gc_current(heap));
    return gc_load(obj, 1) == *(gc_word *)context;
}

static void tables(gc_mutator *m) {
    gc_table *t = gc_new_table(heap), *names = gc_new_table(heap);
    gc_word *f = gc_push(m, 2), value, number = 8 * 7 + 1;
    uint32_t hash;
    CHECK(t && names && t != names);
    f[0] = gc_alloc(m, pair);
    hash = gc_identity_hash(m, f[0]);
    CHECK(hash);
    CHECK(gc_table_get(m, t, f[0], &value) == 0);
    make_list(m, &f[1]);
    CHECK(gc_table_put(m, t, f[0], f[1]) == 0);
    CHECK(gc_table_count(t) == 1);
    f[1] = 0;
    gc_collect(heap);
    CHECK(gc_identity_hash(m, f[0]) == hash);
    CHECK(gc_table_get(m, t, f[0], &value) == 1);
    check_list(value);
    CHECK(gc_table_put(m, t, f[0], 13) == 0);
    CHECK(gc_table_get(m, t, f[0], &value) == 1 && value == 13);
    CHECK(gc_table_remove(m, t, f[0]) == 1 && gc_table_remove(m, t, f[0]) == 0);
    CHECK(gc_table_put(m, t, f[0], 13) == 0);
    f[0] = 0;
    gc_collect(heap);
    CHECK(gc_table_count(t) == 0);

    f[0] = gc_alloc(m, pair);
    gc_store(m, f[0], 1, number);
    CHECK(gc_intern_find(m, names, 5, same_number, &number) == 0);
    CHECK(gc_intern_add(m, names, 5, same_number, &number, f[0]) == f[0]);
    f[1] = gc_alloc(m, pair);
    CHECK(gc_intern_add(m, names, 5, same_number, &number, f[1]) == f[0]);
    gc_collect(heap);
    CHECK(gc_intern_find(m, names, 5, same_number, &number) == f[0]);
    CHECK(gc_intern_find(m, names, 6, same_number, &number) == 0);
    f[0] = 0;
    gc_collect(heap);
    CHECK(gc_intern_find(m, names, 5, same_number, &number) == 0 && gc_table_count(names) == 0);
    gc_drop_table(t);
    gc_drop_table(names);
    gc_pop(m, 2);
}

static void exhaustion(gc_mutator *m) {
    gc_word *f = gc_push(m, 1), next;
    while ((next = gc_alloc_array(m, GC_SHAPE_SLOTS, 1000))) {
        gc_store_element(m, next, 0, f[0]);
        f[0] = next;
    }
    CHECK_MESSAGE("the heap of 16777216 bytes is full");
    f[0] = 0;
    CHECK(gc_alloc(m, pair));                       /* a cycle makes room again */
    gc_pop(m, 1);
}

static void *poll_until_told(void *told) {
    gc_mutator *m = gc_attach(heap, "poller");
    CHECK(m && m->heap == heap && m->user == NULL && gc_current(heap) == m && added == m);
    m->user = told;
    gc_enter(m);
    while (!__atomic_load_n((int *)told, __ATOMIC_ACQUIRE)) gc_poll(m);
    gc_leave(m);
    return NULL;                                    /* ends attached: that detaches it */
}

static void second_thread(gc_mutator *m) {
    pthread_t thread;
    int told = 0, stopped = events[GC_MUTATOR_STOPPING];
    gc_leave(m);
    CHECK(pthread_create(&thread, NULL, poll_until_told, &told) == 0);
    while (__atomic_load_n(&events[GC_MUTATOR_STOPPING], __ATOMIC_RELAXED) < stopped + 3)
        gc_collect(heap);                           /* it stops for pauses although it only polls */
    __atomic_store_n(&told, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    gc_enter(m);
    CHECK(events[GC_MUTATOR_REMOVED] == 1 && events[GC_MUTATOR_ADDED] == 2);
}

/* The child has the heap, this thread's stack and its areas, and goes on collecting. */
static void forked(gc_mutator *m) {
    gc_word *f = gc_push(m, 1), area[1] = { 0 };
    const uint64_t count = 1;
    gc_roots *roots = gc_add_roots(m, area, &count, NULL);
    int status;
    pid_t child;
    make_list(m, &f[0]);
    make_list(m, &area[0]);
    child = fork();                                 /* RUNNING: allowed */
    CHECK(child >= 0);
    for (int i = 0; i < 3; i++) {
        gc_collect(heap);
        check_list(f[0]);
        check_list(area[0]);
    }
    if (child == 0) _exit(0);
    gc_leave(m);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    gc_enter(m);
    gc_remove_roots(m, roots);
    gc_pop(m, 1);
}

static void cycles_asked_for(gc_mutator *m) {
    uint64_t n = cycles();
    gc_request(heap);
    while (cycles() == n) gc_poll(m);
}

static void refusals(gc_mutator *m) {
    gc_shape_spec spec = { .name = "pair", .slots = "only" };
    CHECK(gc_define_shape(heap, &spec) == 0);
    CHECK_MESSAGE("gc_define_shape() may wait, and this thread is RUNNING");
    CHECK(gc_new_heap("", NULL) == NULL);
    CHECK_MESSAGE("gc_new_heap() may wait");
    CHECK(gc_close_heap(heap) != 0);
    CHECK_MESSAGE("gc_close_heap() may wait");
    CHECK(gc_attach(heap, "again") == NULL);
    CHECK_MESSAGE("attached to this heap already");
    CHECK(gc_set_listener(heap, listen, events) != 0);
    gc_leave(m);
    CHECK(gc_set_listener(heap, listen, events) != 0);
    CHECK_MESSAGE("one listener");
    CHECK(gc_define_shape(heap, &spec) == 0);
    CHECK_MESSAGE("ShapeError: shape 'pair': defined already");
    CHECK(gc_new_heap("capacity=lots", NULL) == NULL);
    CHECK_MESSAGE("OptionError");
    CHECK(gc_new_heap("capacity", NULL) == NULL);
    CHECK_MESSAGE("expected each option once, as name=value");
    CHECK(gc_new_heap("size=3", NULL) == NULL);
    CHECK_MESSAGE("unknown option 'size'");
    CHECK(gc_new_heap("capacity=4MiB", &(gc_tag_rule){ 8, 8 }) == NULL);
    CHECK_MESSAGE("covers address bits");
    spec = (gc_shape_spec){ .name = "items", .kind = GC_RAW_ARRAY };
    CHECK(gc_define_shape(heap, &spec) == 0);
    CHECK_MESSAGE("elements of 0 bytes");
    spec = (gc_shape_spec){ .name = "pair", .slots = "next number", .raw_bytes = 8 };
    CHECK(gc_define_shape(heap, &spec) == pair);
    gc_enter(m);
}

int main(int argc, char **argv) {
    gc_mutator *m;
    gc_shape_spec spec = { .name = "pair", .slots = "next number", .raw_bytes = 8 };
    (void)argc;
    heap = begin(argv, NULL);
    CHECK(heap->tag_mask == 7 && heap->tag_bits == 0);
    CHECK(gc_set_listener(heap, listen, events) == 0);
    pair = gc_define_shape(heap, &spec);
    CHECK(pair && heap->shapes[pair].bytes == 32 && heap->shapes[pair].slots == 2);
    spec = (gc_shape_spec){ .name = "blob", .kind = GC_RAW_ARRAY, .raw_bytes = 24 };
    blob = gc_define_shape(heap, &spec);
    CHECK(blob);
    m = gc_attach(heap, "main");
    CHECK(m && gc_current(heap) == m);
    gc_enter(m);
    shadow_stack(m);
    root_areas(m);
    handles(m);
    arrays(m);
    absurd_lengths(m);
    absurd_sizes(m);
    publishing(m);
    pinned(m);
    guardians(m);
    tables(m);
    exhaustion(m);
    second_thread(m);
    forked(m);
    cycles_asked_for(m);
    refusals(m);
    gc_leave(m);
    gc_detach(m);
    CHECK(gc_current(heap) == NULL);
    CHECK(events[GC_MUTATOR_REMOVED] == 2);
    CHECK(events[GC_MUTATOR_STOPPING] && events[GC_MUTATOR_STOPPING] == events[GC_MUTATOR_RESTARTED]);
    CHECK(events[GC_REQUESTING_STOP] && events[GC_REQUESTING_STOP] == events[GC_MUTATORS_STOPPED]);
    CHECK(events[GC_REQUESTING_STOP] >= events[GC_RESTARTING_MUTATORS]);
    CHECK(events[GC_MARKED] && events[GC_FLIPPED] && events[GC_RELOCATED]);
    return end(heap);
}
