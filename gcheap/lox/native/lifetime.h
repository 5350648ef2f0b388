/* Programs from opening to closing: shapes, roots, loading of units, the run of a unit. */
#ifndef GCHEAP_LOX_LIFETIME_H
#define GCHEAP_LOX_LIFETIME_H
#include "interpret.h"

/* A constant, as the compiler hands it over; in memory of the caller's. */
typedef struct lox_literal {
    uint32_t kind;                      /* 0 number, 1 string, 2 function, 3 nil */
    double number;
    const char *bytes;
    uint64_t n;                         /* of `bytes`; which code of the unit */
} lox_literal;

static int define_shapes(gc_heap *heap) {
    static const gc_shape_spec specs[] = {
        { .name = "string", .kind = GC_RAW_ARRAY, .raw_bytes = 1 },
        { .name = "function", .slots = "name code" },
        { .name = "closure", .kind = GC_SLOT_ARRAY },
        { .name = "cell", .slots = "value" },
        { .name = "class", .slots = "methods name layout init numbers state" },
        { .name = "layout", .slots = "owner parent name kids index numbers" },
        { .name = "instance", .kind = GC_SLOT_ARRAY },
        { .name = "bound method", .slots = "receiver method" },
        { .name = "table", .kind = GC_SLOT_ARRAY },
        { .name = "native", .slots = "which one" },
        { .name = "array", .kind = GC_SLOT_ARRAY },
        { .name = "thread", .slots = "result function number" },
        { .name = "fields", .kind = GC_SLOT_ARRAY },
    };
    for (int i = 0; i < (int)(sizeof specs / sizeof *specs); i++)
        if (gc_define_shape(heap, &specs[i]) != (gc_shape)(LOX_STRING + i)) return 0;
    return heap->shapes[LOX_CELL].bytes == CELL_BYTES
        && heap->shapes[LOX_BOUND].bytes == BOUND_BYTES;
}

static gc_word *add_words(lox_thread *t, uint64_t most, const uint64_t *count) {
    gc_word *words = map_words(most * 8);
    if (words && gc_add_roots(t->m, words, count, NULL)) return words;
    if (words) munmap(words, most * 8);
    return NULL;
}

/* Not RUNNING; the calling thread becomes the main thread.  0: gc_error_message(). */
static int open_program(lox_program *p, gc_heap *heap, const char *name, int out, int err) {
    static const char *const words[] = { "init", "get", "set", "len" };
    lox_thread *t;
    gc_word script;
    memset(p, 0, sizeof *p);
    p->heap = heap, p->out = out, p->err = err;
    p->interactive = isatty(out) == 1;
    for (int i = 0; i < WORDS; i++) p->words[i] = LOX_NIL;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->ended, NULL);
    if (!define_shapes(heap) || !(p->strings = gc_new_table(heap))
        || !(t = new_thread(p))) return 0;
    if (!begin_thread(t, name)) { free_thread(t); return 0; }
    p->main = t;
    p->globals = add_words(t, LOX_GLOBALS, &p->global_count);
    p->global_names = add_words(t, LOX_GLOBALS, &p->global_count);
    p->site_names = add_words(t, LOX_SITES, &p->site_count);
    if (!p->globals || !p->global_names || !p->site_names
        || !gc_add_roots(t->m, p->words, &lox_words, NULL)) return 0;
    for (int i = 0; i < 4; i++)
        if (!(p->words[i] = intern(t, words[i], strlen(words[i])))) return 0;
    if (!(script = gc_alloc_array(t->m, LOX_CLOSURE, CLOSURE_CELLS))) return 0;
    *element_at(boxed(script), CLOSURE_FUNCTION) = LOX_NIL;
    p->words[WORD_SCRIPT] = boxed(script);
    gc_leave(t->m);
    return 1;
}

/* Not RUNNING, the main thread; after it no word of `p` is a root. */
static void close_program(lox_program *p) {
    wait_for_threads(p, 0);
    if (p->main) {
        gc_detach(p->main->m);
        if (p->globals) munmap(p->globals, LOX_GLOBALS * 8);
        if (p->global_names) munmap(p->global_names, LOX_GLOBALS * 8);
        if (p->site_names) munmap(p->site_names, LOX_SITES * 8);
        free_thread(p->main);
    }
    while (p->units) {
        lox_unit *unit = p->units;
        p->units = unit->next;
        free(unit->codes), free(unit->constants), free(unit);
    }
    if (p->strings) gc_drop_table(p->strings);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->ended);
}

/* A string as word *at of the program's; RUNNING. */
static int set_word(lox_thread *t, gc_word *at, const char *bytes, uint64_t n) {
    gc_word s = intern(t, bytes, n);
    if (s) *at = s;
    return s ? 1 : exhausted(t);
}

static int add_global(lox_thread *t, const char *name, uint64_t n) {
    lox_program *p = t->program;
    p->global_names[p->global_count] = LOX_NIL;
    p->globals[p->global_count] = LOX_ABSENT;
    return set_word(t, &p->global_names[p->global_count++], name, n);
}

static int add_site(lox_thread *t, const char *name, uint64_t n) {
    lox_program *p = t->program;
    p->site_names[p->site_count++] = LOX_NIL;
    p->cache_words = p->site_count * (sizeof(lox_cache) / 8);
    return set_word(t, &p->site_names[p->site_count - 1], name, n);
}

/* The natives are the first globals. */
static int add_natives(lox_thread *t) {
    for (uint32_t i = 0; i < LOX_NATIVE_COUNT; i++) {
        gc_word native;
        if (!add_global(t, lox_natives[i].name, strlen(lox_natives[i].name))) return 0;
        if (!(native = gc_alloc(t->m, LOX_NATIVE))) return exhausted(t);
        *numbers_of_native(boxed(native)) = (native_numbers){ lox_natives[i].arity, i, 1 };
        t->program->globals[i] = boxed(native);
    }
    return 1;
}

static int set_arguments(lox_thread *t, const lox_literal *arguments, uint64_t n) {
    gc_word *at = top(t);
    push(t, LOX_NIL);
    if (!make_array(t, at, n)) return 0;
    for (uint64_t i = 0; i < n; i++) {
        gc_word s = intern(t, arguments[i].bytes, arguments[i].n);
        if (!s) return exhausted(t);
        publish(t->m, *at, element_at(*at, 1 + i), s);
    }
    t->program->words[WORD_ARGUMENTS] = pop(t);
    return 1;
}

static int fill_constants(lox_thread *t, const lox_unit *unit, const lox_literal *literals) {
    for (uint64_t i = 0; i < unit->constant_count; i++) {
        const lox_literal *literal = &literals[i];
        if (literal->kind == 0) {
            unit->constants[i] = of_number(literal->number);
        } else if (literal->kind == 1) {
            if (!set_word(t, &unit->constants[i], literal->bytes, literal->n)) return 0;
        } else if (literal->kind == 2) {
            const lox_code *code = &unit->codes[literal->n];
            gc_word function = gc_alloc(t->m, LOX_FUNCTION);
            if (!function) return exhausted(t);
            *(const lox_code **)gc_raw(function, 1) = code;
            push(t, boxed(function));
            unit->constants[i] = boxed(function);
            if (code->name) {
                gc_word name = intern(t, code->name, code->name_length);
                if (!name) return exhausted(t);
                gc_store(t->m, address_of(top(t)[-1]), 0, name);
            }
            pop(t);
        }
    }
    return 1;
}

/* Fills in the constants of a unit, which is the program's then; 0: it is the caller's still.
 * RUNNING. */
static int load_unit(lox_thread *t, lox_unit *unit, const lox_literal *literals) {
    lox_program *p = t->program;
    gc_roots *roots;
    for (uint64_t i = 0; i < unit->constant_count; i++) unit->constants[i] = LOX_NIL;
    if (!(roots = gc_add_roots(t->m, unit->constants, &unit->constant_count, NULL)))
        return fail(t, "Out of memory: the system has none for the constants.");
    if (!fill_constants(t, unit, literals)) {
        gc_remove_roots(t->m, roots);
        return 0;
    }
    unit->next = p->units;
    p->units = unit;
    return 1;
}

/* The last globals and property accesses, of a unit that was not loaded, are none.  RUNNING. */
static void take_back(lox_program *p, uint64_t globals, uint64_t sites) {
    p->global_count = globals;
    p->site_count = sites;
    p->cache_words = sites * (sizeof(lox_cache) / 8);
}

/* Runs the last code of a unit, the script.  RUNNING.
 *
 * Its closure is always the same, so a line of a REPL needs no room in the heap to begin, and may
 * drop what fills it.  No program sees that closure: nothing in Lox names it. */
static int run_script(lox_thread *t, const lox_unit *unit) {
    const lox_code *code = &unit->codes[unit->code_count - 1];
    gc_word closure = t->program->words[WORD_SCRIPT];
    /* Relaxed: it is one of the slots that the marker reads, and no reference. */
    __atomic_store_n(element_at(closure, CLOSURE_CODE), (gc_word)code, __ATOMIC_RELAXED);
    push(t, closure);
    if (stopped(t)) return 0;
    return call_closure(t, closure, 0) && execute(t);
}
#endif
