/* A small Scheme whose every value lives in a gcheap heap, in C.
 *
 *     cc -O2 scheme.c -o scheme $(gcheap config --cflags --libs) && ./scheme [python]
 *
 * Two threads run the same program, in one heap, while a third one moves their objects; each
 * checks its results.  What to look at: frames of the shadow stack in eval() and parse(), the root
 * area of a thread, the intern table of symbols, and gc_leave() around output. */
#include "gcheap_python.h"            /* first: Python.h wants to be */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values: 0 is the empty list; 8n+1 the number n, 8n+3 primitive n, 5 is true: tagged, so no
 * references (the heap's rule: a reference has its low three bits clear).  The rest are addresses. */
enum { NIL = 0, TRUE = 5, ROUNDS = 60 };
#define NUMBER(n) (((gc_word)(int64_t)(n) << 3) | 1)
#define INTEGER(v) ((int64_t)(v) >> 3)
#define IS(v, s) ((v) && !((v) & 7) && gc_shape_of(v) == (s))

static gc_heap *heap;
static gc_shape pair, closure, symbol, string;
static gc_table *symbols;

enum { GLOBALS, QUOTE, IF, LAMBDA, DEFINE, ROOTS };
typedef struct { gc_mutator *m; gc_word root[ROOTS]; const char *at; } vm;

static void fail(const char *what) { fprintf(stderr, "scheme: %s\n", what); exit(1); }

static gc_word check(gc_word obj) { if (!obj) fail(gc_error_message()); return obj; }

/* A frame that holds what must survive the next allocation. */
static gc_word *frame(vm *v, int words) {
    gc_word *f = gc_push(v->m, words);
    if (!f) fail("the shadow stack is full: recursion too deep");
    return f;
}
static gc_word leave(vm *v, int words, gc_word result) { gc_pop(v->m, words); return result; }

#define CAR(p) gc_load(p, 0)
#define CDR(p) gc_load(p, 1)

static gc_word cons(vm *v, gc_word a, gc_word d) {
    gc_word *f = frame(v, 2), p;
    f[0] = a, f[1] = d;                     /* gc_alloc() may move what a and d named */
    p = check(gc_alloc(v->m, pair));
    gc_store(v->m, p, 0, f[0]);
    gc_store(v->m, p, 1, f[1]);
    return leave(v, 2, p);
}

static gc_word text(vm *v, gc_shape shape, const char *bytes, size_t n) {
    gc_word s = check(gc_alloc_array(v->m, shape, n));
    memcpy(gc_elements(s), bytes, n);
    return s;
}

struct name { const char *bytes; size_t n; };
static int same(void *context, gc_mutator *m, gc_word obj) {
    struct name *name = context;
    (void)m;
    return gc_length(obj) == name->n && !memcmp(gc_elements(obj), name->bytes, name->n);
}
static gc_word intern(vm *v, const char *bytes, size_t n) {
    struct name name = { bytes, n };
    uint64_t hash = 14695981039346656037u;  /* FNV-1a */
    gc_word s;
    for (size_t i = 0; i < n; i++) hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    s = gc_intern_find(v->m, symbols, hash, same, &name);
    return s ? s : check(gc_intern_add(v->m, symbols, hash, same, &name, text(v, symbol, bytes, n)));
}
static gc_word named(vm *v, const char *name) { return intern(v, name, strlen(name)); }

/* ---- reading ---- */

static gc_word parse(vm *v);
static gc_word parse_list(vm *v) {
    gc_word *f;
    while (*v->at == ' ' || *v->at == '\n') v->at++;
    if (*v->at == ')') { v->at++; return NIL; }
    f = frame(v, 1);
    f[0] = parse(v);
    gc_word rest = parse_list(v);           /* before f[0] is looked at: it may have moved */
    return leave(v, 1, cons(v, f[0], rest));
}
static gc_word parse(vm *v) {
    const char *start;
    while (*v->at == ' ' || *v->at == '\n') v->at++;
    if (*v->at == '(') { v->at++; return parse_list(v); }
    if (*v->at == '"') {
        start = ++v->at;
        while (*v->at != '"') v->at++;
        return text(v, string, start, v->at++ - start);
    }
    for (start = v->at; *v->at && !strchr(" \n()", *v->at);) v->at++;
    if (*start >= '0' && *start <= '9') return NUMBER(atoll(start));
    return intern(v, start, v->at - start);
}

/* ---- evaluation ---- */

static const char *primitives[] = { "+", "-", "*", "<", "=", "cons", "car", "cdr", "null?", "append",
                                    "length", "eq?", NULL };

static gc_word apply_primitive(vm *v, int64_t which, gc_word args) {
    gc_word a = CAR(args), b = CDR(args) ? CAR(CDR(args)) : NIL, *f, s;
    if (which <= 4 && !((a & 7) == 1 && (b & 7) == 1)) fail("arithmetic wants numbers");
    if ((which == 6 || which == 7) && !IS(a, pair)) fail("car and cdr want a pair");
    if (which == 9 && !(IS(a, string) && IS(b, string))) fail("append wants strings");
    switch (which) {
    case 0: return NUMBER(INTEGER(a) + INTEGER(b));
    case 1: return NUMBER(INTEGER(a) - INTEGER(b));
    case 2: return NUMBER(INTEGER(a) * INTEGER(b));
    case 3: return INTEGER(a) < INTEGER(b) ? TRUE : NIL;
    case 4: return a == b ? TRUE : NIL;
    case 5: return cons(v, a, b);
    case 6: return CAR(a);
    case 7: return CDR(a);
    case 8: return a == NIL ? TRUE : NIL;
    case 9:
        f = frame(v, 2), f[0] = a, f[1] = b;
        s = check(gc_alloc_array(v->m, string, gc_length(a) + gc_length(b)));
        memcpy(gc_elements(s), gc_elements(f[0]), gc_length(f[0]));
        memcpy((char *)gc_elements(s) + gc_length(f[0]), gc_elements(f[1]), gc_length(f[1]));
        return leave(v, 2, s);
    case 10: return NUMBER(gc_length(a));
    default: return a == b ? TRUE : NIL;
    }
}

static gc_word find(vm *v, gc_word name, gc_word env) {     /* the pair (name . value) */
    for (int global = 0; global < 2; global++, env = v->root[GLOBALS])
        for (; env; env = CDR(env))
            if (CAR(CAR(env)) == name) return CAR(env);
    fail("a name has no value");
    return NIL;
}

static gc_word eval(vm *v, gc_word expression, gc_word env) {
    enum { X, ENV, HEAD, ARGS, LAST, WORDS };
    gc_word *f = frame(v, WORDS), cell;
    f[X] = expression, f[ENV] = env;
    for (;;) {
        gc_poll(v->m);
        if (IS(f[X], symbol)) return leave(v, WORDS, CDR(find(v, f[X], f[ENV])));
        if (!IS(f[X], pair)) return leave(v, WORDS, f[X]);
        f[HEAD] = CAR(f[X]);
        if (f[HEAD] == v->root[QUOTE]) return leave(v, WORDS, CAR(CDR(f[X])));
        if (f[HEAD] == v->root[IF]) {
            cell = eval(v, CAR(CDR(f[X])), f[ENV]);
            f[X] = cell ? CAR(CDR(CDR(f[X]))) : CAR(CDR(CDR(CDR(f[X]))));
            continue;
        }
        if (f[HEAD] == v->root[LAMBDA]) {
            cell = check(gc_alloc(v->m, closure));
            gc_store(v->m, cell, 0, CAR(CDR(f[X])));
            gc_store(v->m, cell, 1, CAR(CDR(CDR(f[X]))));
            gc_store(v->m, cell, 2, f[ENV]);
            return leave(v, WORDS, cell);
        }
        if (f[HEAD] == v->root[DEFINE]) {
            cell = eval(v, CAR(CDR(CDR(f[X]))), f[ENV]);
            cell = cons(v, CAR(CDR(f[X])), cell);
            v->root[GLOBALS] = cons(v, cell, v->root[GLOBALS]);
            return leave(v, WORDS, NIL);
        }
        f[HEAD] = eval(v, f[HEAD], f[ENV]);
        f[ARGS] = f[LAST] = NIL;
        for (f[X] = CDR(f[X]); f[X]; f[X] = CDR(f[X])) {
            cell = eval(v, CAR(f[X]), f[ENV]);
            cell = cons(v, cell, NIL);
            if (f[LAST]) gc_store(v->m, f[LAST], 1, cell); else f[ARGS] = cell;
            f[LAST] = cell;
        }
        if ((f[HEAD] & 7) == 3)
            return leave(v, WORDS, apply_primitive(v, INTEGER(f[HEAD]), f[ARGS]));
        if (!IS(f[HEAD], closure)) fail("what is called is no function");
        f[ENV] = gc_load(f[HEAD], 2);
        for (f[X] = gc_load(f[HEAD], 0); f[X]; f[X] = CDR(f[X]), f[ARGS] = CDR(f[ARGS])) {
            cell = cons(v, CAR(f[X]), CAR(f[ARGS]));
            f[ENV] = cons(v, cell, f[ENV]);
        }
        f[X] = gc_load(f[HEAD], 1);         /* a tail call is the next turn */
    }
}

/* ---- the program ---- */

static const char *program =
    "(define range (lambda (n l) (if (= n 0) l (range (- n 1) (cons n l)))))"
    "(define map (lambda (f l) (if (null? l) l (cons (f (car l)) (map f (cdr l))))))"
    "(define sum (lambda (l s) (if (null? l) s (sum (cdr l) (+ s (car l))))))"
    "(define adder (lambda (k) (lambda (x) (+ x k))))"
    "(define repeat (lambda (s n) (if (= n 0) s (repeat (append s \"gc\") (- n 1)))))"
    "(define kept (range 5000 (quote ())))";

static gc_word run(vm *v, const char *source) {
    gc_word value = NIL;
    for (v->at = source; *v->at; ) value = eval(v, parse(v), NIL);
    return value;
}

static void *thread(void *name) {
    static const uint64_t count = ROOTS;
    vm v = { .m = gc_attach(heap, name) };
    if (!v.m) fail(gc_error_message());
    gc_enter(v.m);
    gc_roots *roots = gc_add_roots(v.m, v.root, &count, NULL);
    if (!roots) fail(gc_error_message());
    v.root[QUOTE] = named(&v, "quote"), v.root[IF] = named(&v, "if");
    v.root[LAMBDA] = named(&v, "lambda"), v.root[DEFINE] = named(&v, "define");
    for (int i = 0; primitives[i]; i++) {
        gc_word cell = cons(&v, named(&v, primitives[i]), ((gc_word)i << 3) | 3);
        v.root[GLOBALS] = cons(&v, cell, v.root[GLOBALS]);
    }
    run(&v, program);
    for (int round = 0; round < ROUNDS; round++) {
        char source[80];
        snprintf(source, sizeof source, "(sum (map (adder %d) kept) 0)", round);
        if (run(&v, source) != NUMBER(5000 * 5001 / 2 + 5000 * round)) fail("a wrong sum");
        if (run(&v, "(length (repeat \"\" 100))") != NUMBER(200)) fail("a wrong length");
    }
    if (run(&v, "(eq? (quote kept) (quote kept))") != TRUE) fail("a symbol is there twice");
    gc_remove_roots(v.m, roots);
    gc_leave(v.m);                          /* output may block */
    printf("%s: %d sums are right\n", (const char *)name, ROUNDS);
    gc_detach(v.m);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[2];
    gc_statistics s;
    if (gc_start(argc > 1 ? argv[1] : NULL) != 0) return 1;
    if (!(heap = gc_new_heap(argc > 2 ? argv[2] : "capacity=32MiB", NULL))) fail(gc_error_message());
    pair = gc_define_shape(heap, &(gc_shape_spec){ .name = "pair", .slots = "car cdr" });
    closure = gc_define_shape(heap, &(gc_shape_spec){ .name = "closure", .slots = "params body env" });
    symbol = gc_define_shape(heap, &(gc_shape_spec){ .name = "symbol", .kind = GC_RAW_ARRAY,
                                                     .raw_bytes = 1 });
    string = gc_define_shape(heap, &(gc_shape_spec){ .name = "string", .kind = GC_RAW_ARRAY,
                                                     .raw_bytes = 1 });
    if (!pair || !closure || !symbol || !string) fail(gc_error_message());
    if (!(symbols = gc_new_table(heap))) fail(gc_error_message());
    if (pthread_create(&threads[0], NULL, thread, "first")
        || pthread_create(&threads[1], NULL, thread, "second")) fail("no thread");
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    gc_collect(heap);                       /* nobody is attached: everything is garbage */
    gc_get_statistics(heap, &s);
    printf("%llu cycles, %llu moved objects, %llu bytes live\n", (unsigned long long)s.cycles,
           (unsigned long long)s.relocations, (unsigned long long)s.live);
    if (!s.relocations || s.live) fail("the collector did not do its work");
    gc_drop_table(symbols);
    if (gc_close_heap(heap) != 0) fail(gc_error_message());
    return gc_stop();
}
