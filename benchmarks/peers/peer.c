/* The peer program in C, for three ways to manage memory:
 *
 *     cc -O2 -DGCHEAP peer.c -o peer-gcheap $(gcheap config --cflags --libs)
 *     cc -O2 -DBDWGC peer.c -o peer-bdwgc -lgc
 *     cc -O2 peer.c -o peer-pool          no collector: what dies is freed by hand, onto free lists
 *
 *     ./peer-X churn|trees|full LIVE CAPACITY COUNT SECONDS SEED
 *
 * The others (peer.go, Peer.java, peer.ml, peer.py) do the same, operation by operation.  What the
 * operations are, and what is printed, is in docs/reference/bench-peers.md.
 *
 * Objects are three words (two links, an id) and none, two or four words of filler. */
#ifdef GCHEAP
#include "gcheap_python.h"      /* first: Python.h wants to be */
#endif
#ifdef BDWGC
#include <gc/gc.h>
#endif
#include "record.h"

typedef uint64_t word;
enum { TREE_NODES = 511, TREE_BYTES = 511 * 48, CLASSES = 3, WALK = 8, YOUNG = 8, RING = 1024,
       ARRAY_BYTES = 1024, ARRAY_WORDS = 126, ARRAY_EVERY = 22, SAMPLE = 16, GENERATION_BITS = 24,
       PLACE_BITS = 9, STEP_LEVELS = 6, MIN_DEPTH = 4, LEAF_NODE_BYTES = 32 };
#define GENERATION(id) ((id) & ((1 << GENERATION_BITS) - 1))
#define YOUNG_ID ((word)1 << 61)
#define PRIME 2147483647u

/* ---- memory: an allocation may move everything that is not in a frame -------------------------- */

#ifdef GCHEAP
static gc_heap *heap;
static gc_mutator *m;
static gc_shape shape[CLASSES], words_shape;

static uint64_t reach_ns[MOST_PAUSES], reaches;

static void timed(void *data, gc_heap *h, const gc_event *event) {
    static uint64_t asked, stopped;     /* by whoever stops the world, one at a time */
    if (event->kind == GC_REQUESTING_STOP) asked = now_ns();
    else if (event->kind == GC_MUTATORS_STOPPED) {
        stopped = now_ns();
        if (reaches < MOST_PAUSES) reach_ns[reaches++] = stopped - asked;
    }
    else if (event->kind == GC_RESTARTING_MUTATORS) note_pause(now_ns() - stopped);
    (void)data, (void)h;
}
/* What the C interface does not tell.  Counters need no numpy; the histogram does, 12 MB that are not
 * the heap's: so it is looked at once, at the end, after the peak was read. */
static const char *account =
    "from gcheap.options import resolve\n"
    "print(f'settings backend={heap.backend} faults={heap.fault_mode} '\n"
    "      f'mark_threads={resolve({})[\"mark_threads\"]}', flush=True)\n"
    "def begin():\n"
    "    global before\n"
    "    before = heap.stats()\n"
    "def end():\n"
    "    global after\n"
    "    after = heap.stats()\n"
    "def tell():\n"
    "    if 'after' not in globals():\n"
    "        return\n"
    "    stalls, ns = after.stalls - before.stalls, after.stall_ns - before.stall_ns\n"
    "    print('stalls', stalls, min(after.stall_max_ns, ns), ns)\n"
    "    with open('/proc/self/status') as status:\n"
    "        peak, = (line.split()[1] for line in status if line.startswith('VmHWM'))\n"
    "    print('peak_rss', int(peak) * 1024)\n"
    "    faults = heap.histogram('fault')\n"
    "    print('faults', after.faults - before.faults, after.fault_waits - before.fault_waits,\n"
    "          faults.percentile(0.99) or 0, faults.max_ns, flush=True)\n";

static void python(const char *call) {  /* outside the heap: a RUNNING mutator takes no GIL */
    gc_leave(m);
    fflush(stdout);
    PyGILState_STATE gil = PyGILState_Ensure();
    if (PyRun_SimpleString(call)) fail("gcheap's own account failed");
    PyGILState_Release(gil);
    gc_enter(m);
}
static void account_begins(void) { python("begin()"); reaches = 0; }
static void account_ends(void) { python("end()"); }
static void setup(uint64_t capacity) {
    static const char *names[] = { "node32", "node48", "node64" };
    char options[128];
    if (gc_start(getenv("PEER_PYTHON"))) fail("gcheap did not start");
    PyGILState_STATE gil = PyGILState_Ensure();
    PyRun_SimpleString("import gcheap; print('version', gcheap.__version__, flush=True)");
    PyGILState_Release(gil);
    snprintf(options, sizeof options, "capacity=%" PRIu64 " policy=fixed stall_warning_ms=0", capacity);
    if (!(heap = gc_new_heap(options, NULL))) fail(gc_error_message());
    if (gc_set_listener(heap, timed, NULL)) fail(gc_error_message());
    for (int i = 0; i < CLASSES; i++) {
        gc_shape_spec spec = { .name = names[i], .slots = "left right", .raw_bytes = 8 + 16 * i };
        if (!(shape[i] = gc_define_shape(heap, &spec))) fail(gc_error_message());
    }
    gc_shape_spec words = { .name = "words", .kind = GC_RAW_ARRAY, .raw_bytes = 8 };
    if (!(words_shape = gc_define_shape(heap, &words))) fail(gc_error_message());
    gil = PyGILState_Ensure();
    PyObject *names_of_main = PyModule_GetDict(PyImport_AddModule("__main__"));
    PyObject *object = gc_object_of_heap(heap);
    if (!object || PyDict_SetItemString(names_of_main, "heap", object) || PyRun_SimpleString(account))
        fail("gcheap's own account does not start");
    Py_DECREF(object);
    PyGILState_Release(gil);
    if (!(m = gc_attach(heap, "peer"))) fail(gc_error_message());
    gc_enter(m);
}
static void teardown(void) {
    gc_statistics s;
    for (uint64_t i = 0; i < reaches; i++) printf("reach %" PRIu64 "\n", reach_ns[i]);
    python("tell()");
    gc_leave(m);
    gc_get_statistics(heap, &s);
    printf("note cycles %" PRIu64 ", stalls %" PRIu64 ", faults %" PRIu64 "\n", s.cycles, s.stalls, s.faults);
    gc_detach(m);
    gc_close_heap(heap);
    gc_stop();
}
static word *push(int count) {
    word *frame = gc_push(m, count);
    if (!frame) fail("the shadow stack is full");
    return frame;
}
static inline void pop(int count) { gc_pop(m, count); }
static word need(word obj) { if (!obj) fail("out of memory: the heap is exhausted"); return obj; }
static inline word new_node(unsigned class) { return need(gc_alloc(m, shape[class])); }
static inline word new_words(void) { return need(gc_alloc_array(m, words_shape, ARRAY_WORDS)); }
static inline word new_table(uint64_t n) { return need(gc_alloc_array(m, GC_SHAPE_SLOTS, n)); }
static inline word link_of(word node, unsigned side) { return gc_load(node, side); }
static inline void set_link(word node, unsigned side, word to) { gc_store(m, node, side, to); }
static inline word *raw(word node) { return gc_raw(node, 2); }
static inline word *elements(word array) { return gc_elements(array); }
static inline word at(word table, uint64_t i) { return gc_load_element(table, i); }
static inline void put(word table, uint64_t i, word to) { gc_store_element(m, table, i, to); }
static inline void poll(void) { gc_poll(m); }
static inline void drop(word obj, unsigned class) { (void)obj, (void)class; }
static void collect(void) { gc_leave(m); gc_collect(heap); gc_enter(m); }
static void flush_out(void) { gc_leave(m); fflush(stdout); gc_enter(m); }

#else
static void account_begins(void) {}
static void account_ends(void) {}
#define MOST_FRAMES (1 << 16)
static word frames[MOST_FRAMES], *frame_top = frames;   /* static data: bdwgc looks there for roots */
static word *push(int count) {
    word *frame = frame_top;
    if (frame + count > frames + MOST_FRAMES) fail("the stack of frames is full");
    memset(frame, 0, count * sizeof *frame);
    frame_top += count;
    return frame;
}
static inline void pop(int count) {
    frame_top -= count;
    memset(frame_top, 0, count * sizeof *frame_top);
}
static inline word link_of(word node, unsigned side) { return ((word *)node)[side]; }
static inline void set_link(word node, unsigned side, word to) { ((word *)node)[side] = to; }
static inline word *raw(word node) { return (word *)node + 2; }
static inline word *elements(word array) { return (word *)array; }
static inline word at(word table, uint64_t i) { return ((word *)table)[i]; }
static inline void put(word table, uint64_t i, word to) { ((word *)table)[i] = to; }
static inline void poll(void) {}
static void flush_out(void) { fflush(stdout); }
#endif

#ifdef BDWGC
static void event(GC_EventType what) {
    static uint64_t stopped;
    if (what == GC_EVENT_START) stopped = now_ns();
    else if (what == GC_EVENT_END) note_pause(now_ns() - stopped);
}
static void setup(uint64_t capacity) {
    GC_set_pages_executable(0);
    GC_INIT();
    GC_set_on_collection_event(event);
    GC_set_max_heap_size(capacity);
    GC_set_warn_proc(GC_ignore_warn_proc);
    GC_expand_hp(capacity - capacity / 8);
    printf("version %d.%d.%d\n", GC_get_version() >> 16, GC_get_version() >> 8 & 255,
           GC_get_version() & 255);
}
static void teardown(void) { printf("note collections %lu\n", (unsigned long)GC_get_gc_no()); }
static word need(void *obj) { if (!obj) fail("out of memory: the heap is exhausted"); return (word)obj; }
static inline word new_node(unsigned class) { return need(GC_MALLOC(24 + 16 * class)); }
static inline word new_words(void) { return need(GC_MALLOC_ATOMIC(8 * ARRAY_WORDS)); }
static inline word new_table(uint64_t n) { return need(GC_MALLOC(8 * n)); }
static inline void drop(word obj, unsigned class) { (void)obj, (void)class; }
static void collect(void) { GC_gcollect(); }
#endif

#if !defined GCHEAP && !defined BDWGC
enum { OF_WORDS = CLASSES };            /* free lists: one a node class, one of arrays */
static word freed[CLASSES + 1];
static const unsigned bytes_of[] = { 32, 48, 64, ARRAY_BYTES };
static char *fresh, *fresh_end;

static void setup(uint64_t capacity) { (void)capacity; printf("version free lists\n"); }
static void teardown(void) {}
static word take(unsigned class) {
    word obj = freed[class];
    if (obj) { freed[class] = *(word *)obj; return obj; }
    if (fresh + bytes_of[class] > fresh_end) {
        fresh = malloc(1 << 20);
        if (!fresh) fail("out of memory");
        fresh_end = fresh + (1 << 20);
    }
    obj = (word)fresh;
    fresh += bytes_of[class];
    return obj;
}
static inline word new_node(unsigned class) {
    word node = take(class);
    set_link(node, 0, 0), set_link(node, 1, 0);
    return node;
}
static inline word new_words(void) { return take(OF_WORDS); }
static word new_table(uint64_t n) {
    word *table = calloc(n, sizeof *table);
    if (!table) fail("out of memory");
    return (word)table;
}
static inline void drop(word obj, unsigned class) {
    if (obj) { *(word *)obj = freed[class]; freed[class] = obj; }
}
static void collect(void) {}
#endif

/* ---- data --------------------------------------------------------------------------------------- */

static uint32_t state;                  /* xorshift (G. Marsaglia, 2003) */
static inline uint32_t draw(void) {
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state;
}
static inline uint64_t pick(uint64_t n) { return (uint64_t)draw() * n >> 32; }

static inline unsigned class_of(uint64_t tree, uint64_t place) { return (tree + place) % CLASSES; }
static inline word key_of(uint64_t tree, uint64_t place) { return tree << PLACE_BITS | place; }
static inline word id_of(word node) { return raw(node)[0]; }
static inline void fill(word node, unsigned class, word id) {
    word *to = raw(node);
    to[0] = id;
    if (class) to[1] = id ^ 0xFFFF, to[2] = id + 1;
    if (class == 2) to[3] = id ^ 0xFF00, to[4] = id + 2;
}
static inline int filled(word node, unsigned class) {
    word *at = raw(node), id = at[0];
    return (!class || (at[1] == (id ^ 0xFFFF) && at[2] == id + 1))
        && (class < 2 || (at[3] == (id ^ 0xFF00) && at[4] == id + 2));
}
static inline int is(word node, word key) {
    if (node && id_of(node) >> GENERATION_BITS == key) return 1;
    r.failures++;
    return 0;
}
static void expect(int holds) { r.failures += !holds; }
static uint64_t hash;
static void fold(word id) { hash = (hash * 1000003 + id % PRIME) % PRIME; }

/* ---- churn ---------------------------------------------------------------------------------------- */

enum { TABLE, ARRAYS, RING_OF_YOUNG, PARENT, NODE, FRAME };
static word *f;                         /* the frame of the run */
static uint64_t trees, arrays, operations, young, replaced, arrays_replaced, until_array = ARRAY_EVERY;

static word build(uint64_t tree, uint64_t place) {
    unsigned class = class_of(tree, place);
    word *frame = push(1), node;
    frame[0] = new_node(class);
    fill(frame[0], class, key_of(tree, place) << GENERATION_BITS);
    if (2 * place < TREE_NODES)
        for (unsigned side = 0; side < 2; side++) {
            word child = build(tree, 2 * place + side);
            set_link(frame[0], side, child);
        }
    node = frame[0];
    pop(1);
    return node;
}

static void fill_words(word array, word id) {
    word *to = elements(array);
    for (word i = 0; i < ARRAY_WORDS; i++) to[i] = id + i;
}
static int words_hold(word array) {
    word *at = elements(array), differing = 0;
    for (word i = 0; i < ARRAY_WORDS; i++) differing |= at[i] ^ (at[0] + i);
    return !differing;
}

static inline void replace_node(int sampled) {
    uint64_t tree = pick(trees), place = 1 + pick(TREE_NODES);
    unsigned class = class_of(tree, place);
    int level = 63 - __builtin_clzll(place);
    word parent = 0, node = at(f[TABLE], tree), id, made;
    if (!is(node, key_of(tree, 1))) return;
    while (level > 0) {
        uint64_t here = place >> --level;
        parent = node;
        node = link_of(node, here & 1);
        if (!is(node, key_of(tree, here))) return;
    }
    if (sampled) expect(filled(node, class));
    f[PARENT] = parent, f[NODE] = node;
    made = new_node(class);
    parent = f[PARENT], node = f[NODE];
    set_link(made, 0, link_of(node, 0));
    set_link(made, 1, link_of(node, 1));
    id = id_of(node) + 1;
    fill(made, class, id);
    if (parent) set_link(parent, place & 1, made);
    else put(f[TABLE], tree, made);
    drop(node, class);
    replaced++;
}

static inline void walk(void) {
    uint64_t tree = pick(trees), place = 1;
    uint32_t bits = draw();
    word node = at(f[TABLE], tree);
    if (!is(node, key_of(tree, 1))) return;
    for (int i = 0; i < WALK; i++, bits >>= 1) {
        node = link_of(node, bits & 1);
        place = 2 * place + (bits & 1);
        if (!is(node, key_of(tree, place))) return;
    }
}

static inline void make_young(int sampled) {
    for (int i = 0; i < YOUNG; i++, young++) {
        unsigned class = young % CLASSES, old_class = (young + 2 * RING) % CLASSES;
        word old = at(f[RING_OF_YOUNG], young % RING), made;
        if (sampled && !i && young >= RING)
            expect(old && id_of(old) == (YOUNG_ID | (young - RING)) && filled(old, old_class));
        made = new_node(class);
        fill(made, class, YOUNG_ID | young);
#if !defined GCHEAP && !defined BDWGC
        if (old) drop(old, old_class);
#endif
        put(f[RING_OF_YOUNG], young % RING, made);
    }
}

static void replace_array(void) {
    uint64_t index = pick(arrays);
    word array = at(f[ARRAYS], index), id = elements(array)[0], made;
    expect(id >> GENERATION_BITS == index);
    if (arrays_replaced % SAMPLE == 0) expect(words_hold(array));
    made = new_words();
    fill_words(made, id + 1);
#if !defined GCHEAP && !defined BDWGC
    drop(array, OF_WORDS);
#endif
    put(f[ARRAYS], index, made);
    arrays_replaced++;
}

static void operate(void) {
    int sampled = operations % SAMPLE == 0;
    replace_node(sampled);
    walk();
    walk();
    make_young(sampled);
    if (!--until_array) until_array = ARRAY_EVERY, replace_array();
    operations++;
    poll();
}

/* Folds the ids of a tree in order; returns the sum of the generations. */
static uint64_t audit(word node, uint64_t tree, uint64_t place) {
    uint64_t sum;
    if (!is(node, key_of(tree, place))) return 0;
    expect(filled(node, class_of(tree, place)));
    fold(id_of(node));
    sum = GENERATION(id_of(node));
    if (2 * place < TREE_NODES)
        for (unsigned side = 0; side < 2; side++)
            sum += audit(link_of(node, side), tree, 2 * place + side);
    else
        expect(!link_of(node, 0) && !link_of(node, 1));
    return sum;
}

static uint64_t audit_all(void) {
    uint64_t nodes = 0, of_arrays = 0;
    hash = 0;
    for (uint64_t i = 0; i < trees; i++) {
        nodes += audit(at(f[TABLE], i), i, 1);
        poll();
    }
    for (uint64_t i = 0; i < arrays; i++) {
        word array = at(f[ARRAYS], i), id = elements(array)[0];
        expect(words_hold(array) && id >> GENERATION_BITS == i);
        fold(id);
        of_arrays += GENERATION(id);
    }
    for (uint64_t i = young < RING ? 0 : young - RING; i < young; i++)
        expect(id_of(at(f[RING_OF_YOUNG], i % RING)) == (YOUNG_ID | i));
    fold(young);
    expect(nodes == replaced && of_arrays == arrays_replaced);
    return hash;
}

static void churn(uint64_t live, uint64_t warm_up, double seconds) {
    word made;
    trees = live * 9 / 10 / TREE_BYTES, arrays = live / 10 / ARRAY_BYTES;
    f = push(FRAME);
    made = new_table(trees), f[TABLE] = made;
    made = new_table(arrays), f[ARRAYS] = made;
    made = new_table(RING), f[RING_OF_YOUNG] = made;
    for (uint64_t i = 0; i < trees; i++) made = build(i, 1), put(f[TABLE], i, made), poll();
    for (uint64_t i = 0; i < arrays; i++) {
        made = new_words();
        fill_words(made, i << GENERATION_BITS);
        put(f[ARRAYS], i, made);
    }
    while (warm_up--) operate();
    printf("checksum %" PRIu64 "\n", audit_all());
    flush_out();
    account_begins();
    r.pauses = 0;
    begin(seconds);
    do operate(); while (ended());
    account_ends();
    audit_all();
    pop(FRAME);
    print_run();
}

/* ---- trees: long-lived and short-lived, counted and checked --------------------------------------- */

static uint64_t serial, short_lived;
static int stopped, measuring;

static int step(void) {
    poll();
    if (measuring && !ended()) stopped = 1;
    return !stopped;
}

static void drop_tree(word node) {
#if !defined GCHEAP && !defined BDWGC
    if (!node) return;
    drop_tree(link_of(node, 0)), drop_tree(link_of(node, 1));
    drop(node, 0);
#else
    (void)node;
#endif
}

static word build_up(unsigned levels, uint64_t place) {
    word *frame = push(2), node = 0;
    if (levels > 1) {
        frame[0] = build_up(levels - 1, 2 * place);
        if (frame[0]) frame[1] = build_up(levels - 1, 2 * place + 1);
    }
    if (levels == 1 || frame[1]) {
        node = new_node(0);
        set_link(node, 0, frame[0]), set_link(node, 1, frame[1]);
        raw(node)[0] = serial << 32 | place;
        if (levels == STEP_LEVELS || (place == 1 && levels < STEP_LEVELS)) {
            frame[0] = node;
            node = step() ? frame[0] : 0;
        }
    }
    pop(2);
    return node;
}

static uint64_t count_small(word node, unsigned levels, uint64_t place) {
    if (!node || id_of(node) != (serial << 32 | place)) { r.failures++; return 0; }
    if (levels == 1) { expect(!link_of(node, 0) && !link_of(node, 1)); return 1; }
    return 1 + count_small(link_of(node, 0), levels - 1, 2 * place)
             + count_small(link_of(node, 1), levels - 1, 2 * place + 1);
}

static uint64_t count(word node, unsigned levels, uint64_t place) {
    uint64_t nodes;
    word *frame;
    if (levels <= STEP_LEVELS) { nodes = count_small(node, levels, place); step(); return nodes; }
    frame = push(1), frame[0] = node;
    expect(id_of(node) == (serial << 32 | place));
    nodes = 1 + count(link_of(node, 0), levels - 1, 2 * place);
    if (!stopped) nodes += count(link_of(frame[0], 1), levels - 1, 2 * place + 1);
    pop(1);
    return nodes;
}

static void fold_tree(word node, unsigned levels) {
    if (!node) return;
    fold(id_of(node));
    if (levels > 1) fold_tree(link_of(node, 0), levels - 1), fold_tree(link_of(node, 1), levels - 1);
}

static void run_trees(uint64_t live, double seconds) {
    unsigned depth = MIN_DEPTH + 2;
    word *frame = push(2), made;
    while (2 * ((2ull << (depth + 1)) - 1) * LEAF_NODE_BYTES <= live) depth++;
    made = build_up(depth + 1, 1), frame[0] = made;
    account_begins();
    r.pauses = 0, measuring = 1;
    begin(seconds);
    while (!stopped)
        for (unsigned d = MIN_DEPTH; d <= depth && !stopped; d += 2)
            for (uint64_t i = 0; i < 1ull << (depth - d + MIN_DEPTH) && !stopped; i++) {
                serial = ++short_lived & 0xFFFFFFF;
                made = build_up(d + 1, 1), frame[1] = made;
                if (!made) break;
                uint64_t nodes = count(made, d + 1, 1);
                expect(stopped || nodes == (2ull << d) - 1);
                drop_tree(frame[1]);
            }
    account_ends();
    measuring = 0, serial = 0, stopped = 0;
    expect(count(frame[0], depth + 1, 1) == (2ull << depth) - 1);
    fold_tree(frame[0], depth + 1);
    pop(2);
    printf("checksum %" PRIu64 "\n", hash);
    print_run();
}

/* ---- full: half dead, node by node; then one forced collection ------------------------------------ */

static void build_pair(uint64_t tree, uint64_t place, word *into) {
    word *frame = push(4);
    for (int i = 0; i < 2; i++) {
        unsigned class = class_of(tree, place);
        frame[i] = new_node(class);
        fill(frame[i], class, key_of(tree + i, place) << GENERATION_BITS);
    }
    if (2 * place < TREE_NODES)
        for (unsigned side = 0; side < 2; side++) {
            build_pair(tree, 2 * place + side, frame + 2);
            set_link(frame[0], side, frame[2]), set_link(frame[1], side, frame[3]);
        }
    into[0] = frame[0], into[1] = frame[1];
    pop(4);
}

static uint64_t audit_even(word node, uint64_t tree, uint64_t place) {
    if (!is(node, key_of(tree, place))) return 0;
    expect(filled(node, class_of(tree, place)));
    fold(id_of(node));
    if (2 * place >= TREE_NODES) return 1;
    return 1 + audit_even(link_of(node, 0), tree, 2 * place)
             + audit_even(link_of(node, 1), tree, 2 * place + 1);
}

static void full(uint64_t live, uint64_t times) {
    uint64_t pairs = live / TREE_BYTES, pauses = 0;
    word *frame = push(3);
    while (times--) {
        word table = new_table(2 * pairs);
        frame[0] = table;
        collect();
        for (uint64_t i = 0; i < pairs; i++) {
            build_pair(2 * i, 1, frame + 1);
            put(frame[0], 2 * i, frame[1]), put(frame[0], 2 * i + 1, frame[2]);
            poll();
        }
        for (uint64_t i = 0; i < pairs; i++) put(frame[0], 2 * i + 1, 0);
        frame[1] = frame[2] = 0;
        r.pauses = pauses;              /* those of the timed collections alone */
        uint64_t start = now_ns();
        collect();
        printf("collection %" PRIu64 "\n", now_ns() - start);
        pauses = r.pauses;
        hash = 0;
        for (uint64_t i = 0; i < pairs; i++) {
            expect(audit_even(at(frame[0], 2 * i), 2 * i, 1) == TREE_NODES);
            poll();
        }
    }
    r.pauses = pauses;
    pop(3);
    printf("checksum %" PRIu64 "\nlive %" PRIu64 "\nfailures %" PRIu64 "\n",
           hash, pairs * TREE_BYTES, r.failures);
}

int main(int argc, char **argv) {
    if (argc != 7) fail("usage: peer churn|trees|full LIVE CAPACITY COUNT SECONDS SEED");
    uint64_t live = strtoull(argv[2], NULL, 10), times = strtoull(argv[4], NULL, 10);
    double seconds = strtod(argv[5], NULL);
    state = (uint32_t)strtoul(argv[6], NULL, 10) * 2654435761u | 1;
    setup(strtoull(argv[3], NULL, 10));
    if (!strcmp(argv[1], "churn")) churn(live, times, seconds);
    else if (!strcmp(argv[1], "trees")) run_trees(live, seconds);
    else if (!strcmp(argv[1], "full")) full(live, times);
    else fail("unknown mode");
    print_pauses();
    teardown();
    return r.failures != 0;
}
