/* What is not in the heap: code, threads, and the words that are roots.
 *
 * A program is what threads of one run share.  A unit is what was compiled at once: a file, or a line of
 * the REPL.  Code never changes, and lives until the program is closed. */
#ifndef GCHEAP_LOX_PROGRAM_H
#define GCHEAP_LOX_PROGRAM_H
#include <pthread.h>
#include "objects.h"
#include "opcodes.h"

enum {
    LOX_FRAMES = 64,                    /* as in the book */
    LOX_GLOBALS = 1 << 20, LOX_SITES = 1 << 20,         /* most of them in one program */
    LOX_NEED = 1024,                    /* words of stack that every function may use */
    LOX_STACK = 1 << 19,
    LOX_OUTPUT = 1 << 16
};
enum { LOX_OK = 0, LOX_COMPILE_ERROR = 65, LOX_RUNTIME_ERROR = 70 };

typedef struct lox_code {
    const uint32_t *words;
    gc_word *constants;                 /* a root area of its unit's */
    uint32_t arity;
    uint32_t quick_arity;               /* arity; UINT32_MAX: needs more stack than LOX_NEED */
    uint32_t need;                      /* words of stack, arguments included */
    uint32_t cells;                     /* captured variables of a closure */
    uint32_t length;
    uint32_t constant_count;
    const uint32_t *lines;              /* by word */
    const char *name;                   /* of `name_length` bytes; NULL: the script */
    uint64_t name_length;
} lox_code;

typedef struct lox_unit {
    struct lox_unit *next;
    lox_code *codes;
    uint64_t code_count;
    gc_word *constants;
    uint64_t constant_count;
} lox_unit;

/* Registered whole as roots: the other words are no references under the tag rule. */
typedef struct lox_frame {
    gc_word closure;
    const uint32_t *ip;
    gc_word *slots;
    const lox_code *code;
} lox_frame;

/* Where a property was last found, for one instruction and one thread (properties.h). */
typedef struct lox_cache {
    gc_word key;                        /* layout, or superclass */
    gc_word target;                     /* method; or the layout that a new field leads to */
    uint64_t offset;                    /* of the field, in words from the object's address */
} lox_cache;

struct lox_program;

typedef struct lox_thread {
    gc_mutator *m;
    struct lox_program *program;
    lox_frame frames[LOX_FRAMES];
    lox_frame *frame;                   /* the running one; frames - 1: none */
    uint64_t frame_words;               /* of `frames` that are roots */
    gc_word *base;                      /* of its part of the shadow stack */
    lox_cache *caches;
    uint64_t number;                    /* 0: the main thread */
    struct lox_thread *next;            /* of those that were spawned and run */
    gc_handle self;                     /* the thread object, until it has begun */
    uint64_t output_length;
    char output[LOX_OUTPUT];
} lox_thread;

/* Strings and other objects that the VM itself names. */
enum { WORD_INIT, WORD_GET, WORD_SET, WORD_LEN, WORD_ARGUMENTS, WORD_SCRIPT, WORDS };

typedef struct lox_program {
    gc_heap *heap;
    uint64_t (*unused)(gc_mutator *);   /* bytes that its TLAB has left; its own thread */
    gc_table *strings;
    gc_word *globals, *global_names, *site_names;
    uint64_t global_count, site_count, cache_words;
    gc_word words[WORDS];
    lox_unit *units;
    lox_thread *main;
    uint32_t threaded;                  /* not 0: a thread was spawned, ever */
    uint32_t stop;                      /* not 0: every thread shall end (Ctrl-C, dead output) */
    uint32_t failed;                    /* not 0: a spawned thread had a run-time error */
    uint32_t interactive;               /* not 0: output is a terminal */
    int32_t output_error;               /* errno of output that failed */
    int out, err;
    pthread_mutex_t lock;               /* of what follows; never taken by a RUNNING thread */
    pthread_cond_t ended;
    lox_thread *spawned;
    uint64_t thread_count;              /* ever */
} lox_program;

static const uint64_t lox_words = WORDS;

/* What the dispatch loop keeps in registers, for functions that may reach a safepoint. */
static inline void publish_state(lox_thread *t, lox_frame *frame, const uint32_t *ip,
                                 gc_word *sp) {
    frame->ip = ip;
    t->frame = frame;
    t->frame_words = (uint64_t)(frame - t->frames + 1) * (sizeof(lox_frame) / 8);
    t->m->shadow_top = sp;
}

static inline void push(lox_thread *t, gc_word v) { *t->m->shadow_top++ = v; }
static inline gc_word pop(lox_thread *t) { return *--t->m->shadow_top; }
static inline gc_word *top(lox_thread *t) { return t->m->shadow_top; }

/* Prints a run-time error and where it happened; returns 0.  SAFEPOINT. */
static int fail(lox_thread *t, const char *format, ...) __attribute__((format(printf, 2, 3), cold));
/* The same for an allocation that found no room. */
static int exhausted(lox_thread *t) __attribute__((cold));
#endif
