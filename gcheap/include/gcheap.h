/* gcheap for C: a concurrent compacting heap for a language runtime.
 *
 * Pure C11 (GCC or Clang, Linux, 64 bits) without Python.h.  What runs often is inline here: bump
 * allocation, the write barrier, the safepoint poll, the shadow stack.  The rest is reached through
 * `gc_api`, a table that the Python package fills in: see gcheap_python.h, which starts gcheap in
 * a program with a main() of its own, and imports it in an extension module.
 *
 * Rules for mutators
 *
 *  1. A thread that touches objects is a mutator: gc_attach() ... gc_detach().
 *  2. It is RUNNING between gc_enter() and gc_leave().  A RUNNING thread must not block: no lock, no
 *     GIL, no Python, no input or output, no long system call.  Leave the heap around such things.
 *     Whoever stays RUNNING without a safepoint stops every other thread with the next pause.
 *  3. Functions marked SAFEPOINT may wait for a pause, and objects may have moved when they return.
 *     References that are needed afterwards live in roots: words of the shadow stack, root areas,
 *     handles, or slots of other objects.  Read them from there again; a copy in a C variable is
 *     stale.  Between safepoints addresses are stable.
 *  4. Slots are written through gc_store() and its like, which several threads may do at once; an
 *     object that another thread shall find by a slot is stored there by gc_publish() and its like,
 *     and read by gc_acquire().  Everything else is plain memory: reading slots, reading and writing
 *     raw bytes.
 *  5. Do not hand addresses of objects to system calls: a page that has not arrived is built for
 *     a thread that touches it, but not for the kernel (EFAULT).  Pinned arrays are the way.
 *
 * Objects: a header word, then slots, then raw bytes; arrays have their length in the word after
 * the header.  `gc_word` is an address or any other 64-bit value.  A slot, a word of the shadow stack
 * and a word of a root area hold a reference when (w & mask) == bits and (w & ~mask) != 0 under the
 * rule that applies; its address is w & ~mask, and the tag bits are kept when the object moves.
 * Every other word is left alone.  So NaN-boxing works: mask = bits = 0xFFFC000000000000.
 *
 * Errors: a function that returns a pointer gives NULL, one that returns a word, a shape, or a
 * handle 0, one that returns int a value that is not 0.  gc_error_message() then says what was
 * wrong, for the calling thread.
 */
#ifndef GCHEAP_H
#define GCHEAP_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GC_ABI 1                /* changes when anything below changes that was there before */

typedef uint64_t gc_word;
typedef uint32_t gc_handle;     /* 0: none */
typedef uint32_t gc_weak;       /* 0: none */
typedef uint32_t gc_shape;      /* 0: none */

typedef struct gc_mutator gc_mutator;
typedef struct gc_heap gc_heap;
typedef struct gc_roots gc_roots;
typedef struct gc_guardian gc_guardian;
typedef struct gc_table gc_table;

/* Which words are references: (w & mask) == bits and (w & ~mask) != 0.  `bits` lie within `mask`, and
 * `mask` within bits 0-2 and 48-63. */
typedef struct gc_tag_rule { uint64_t mask, bits; } gc_tag_rule;

enum { GC_SHAPE_SLOTS = 1,      /* predefined: arrays of slots under the heap's rule */
       GC_SHAPE_BYTES = 2 };    /* predefined: arrays of bytes */

enum { GC_FIXED = 0,            /* header, slots, raw bytes */
       GC_SLOT_ARRAY = 1,       /* header, length, slots */
       GC_RAW_ARRAY = 2 };      /* header, length, elements of plain data */

/* ---- what the inline functions read: the beginning of larger structures --------------------------- */

typedef struct gc_shape_info {
    uint64_t bytes;             /* GC_FIXED: of an object, header included */
    uint32_t kind;
    uint32_t slots;             /* GC_FIXED */
    uint64_t item;              /* GC_RAW_ARRAY: bytes of an element */
    uint64_t tag_mask, tag_bits;
} gc_shape_info;

struct gc_heap {
    uint32_t pause;             /* not 0: mutators must stop */
    uint32_t phase;
    uint32_t marking;           /* not 0: the write barrier logs */
    uint32_t reserved;
    const gc_shape_info *shapes;    /* by gc_shape */
    uint64_t tag_mask, tag_bits;    /* the heap's rule */
};

struct gc_mutator {
    gc_word tlab_top;           /* where the next object goes */
    gc_word tlab_end;
    gc_heap *heap;
    gc_word *shadow_top;        /* first unused word of the shadow stack */
    gc_word *shadow_end;
    void *user;                 /* yours */
};

/* ---- events --------------------------------------------------------------------------------------- */

enum {                          /* and who calls the listener */
    GC_REQUESTING_STOP = 0,     /* whoever stops mutators, before it asks them to */
    GC_MUTATORS_STOPPED = 1,    /* the same thread: nobody runs now */
    GC_RESTARTING_MUTATORS = 2, /* the same thread: mutators run again when the listener returns */
    GC_MARKED = 3,              /* collector, in Pause Mark End: marking is complete */
    GC_FLIPPED = 4,             /* collector, in Pause Relocate Start: roots hold new addresses */
    GC_RELOCATED = 5,           /* collector, while mutators run: every page is in its place */
    GC_MUTATOR_ADDED = 6,       /* the mutator's thread, in gc_attach() */
    GC_MUTATOR_STOPPING = 7,    /* the mutator's thread, when it waits for a pause; no root or
                                   object may be touched any more */
    GC_MUTATOR_RESTARTED = 8,   /* the mutator's thread, RUNNING again */
    GC_MUTATOR_REMOVED = 9      /* the mutator's thread, in gc_detach(), or at its end */
};

typedef struct gc_event {
    uint32_t kind;              /* GC_REQUESTING_STOP ... */
    uint32_t pause;             /* of the first five: which (0 mark start, 1 mark end, 2 relocate
                                   start, 3 verify, 4 full, 5 inspect, 6 fork) */
    uint64_t cycle;             /* of the first six */
    gc_mutator *mutator;        /* of the last four, else NULL */
} gc_event;

/* Called as stated above.  It must not block, enter a heap, touch objects or call any function
 * of this header.  It may be called on several threads at once. */
typedef void (*gc_listener)(void *data, gc_heap *heap, const gc_event *event);

/* ---- shapes, statistics ------------------------------------------------------------------------------ */

typedef struct gc_shape_spec {
    const char *name;           /* for reports and snapshots; unique in the heap */
    uint32_t kind;              /* GC_FIXED (0), GC_SLOT_ARRAY, GC_RAW_ARRAY */
    const char *slots;          /* GC_FIXED: their names, "car cdr"; NULL: none */
    size_t raw_bytes;           /* GC_FIXED: bytes after the slots; GC_RAW_ARRAY: of an element */
    const gc_tag_rule *tag;     /* NULL: the heap's rule */
} gc_shape_spec;

typedef struct gc_statistics {
    uint64_t capacity, used, live;  /* bytes of objects; `live` as the last cycle found them */
    uint64_t cycles, relocations;   /* finished; of them, those that moved objects */
    uint64_t moved, copied;         /* bytes placed by UFFDIO_MOVE, and by copying */
    uint64_t faults;                /* pages that mutators had to build themselves: how many times */
    uint64_t stalls;                /* allocations that waited for room */
} gc_statistics;

/* Whether `obj` is what the caller of gc_intern_* looks for: reads `obj`, and nothing else that
 * is this header's. */
typedef int (*gc_match)(void *context, gc_mutator *m, gc_word obj);

/* ---- the table ---------------------------------------------------------------------------------------- */

typedef struct gc_api_table {
    uint32_t abi, size;
    const char *(*error_message)(void);
    gc_heap *(*new_heap)(const char *options, const gc_tag_rule *tag);
    int (*close_heap)(gc_heap *);
    gc_shape (*define_shape)(gc_heap *, const gc_shape_spec *);
    int (*set_listener)(gc_heap *, gc_listener, void *);
    void (*collect)(gc_heap *);
    void (*request)(gc_heap *);
    void (*statistics)(gc_heap *, gc_statistics *);
    gc_mutator *(*attach)(gc_heap *, const char *);
    void (*detach)(gc_mutator *);
    gc_mutator *(*current)(gc_heap *);
    void (*enter)(gc_mutator *);
    void (*leave)(gc_mutator *);
    void (*poll_slow)(gc_mutator *);
    gc_word (*alloc_slow)(gc_mutator *, uint64_t, gc_word, uint64_t);
    gc_word (*alloc_array)(gc_mutator *, gc_shape, uint64_t);
    gc_word (*alloc_pinned)(gc_mutator *, gc_shape, uint64_t);
    void (*log_old)(gc_mutator *, gc_word, gc_word);
    uint32_t (*identity_hash)(gc_mutator *, gc_word);
    gc_roots *(*add_roots)(gc_mutator *, gc_word *, const uint64_t *, const gc_tag_rule *);
    void (*remove_roots)(gc_mutator *, gc_roots *);
    gc_handle (*new_handle)(gc_mutator *, gc_word);
    gc_word (*handle_load)(gc_mutator *, gc_handle);
    void (*handle_store)(gc_mutator *, gc_handle, gc_word);
    void (*drop_handle)(gc_heap *, gc_handle);
    gc_weak (*new_weak)(gc_mutator *, gc_word);
    gc_word (*weak_load)(gc_mutator *, gc_weak);
    void (*drop_weak)(gc_heap *, gc_weak);
    gc_guardian *(*new_guardian)(gc_heap *);
    void (*drop_guardian)(gc_guardian *);
    int (*guard)(gc_mutator *, gc_guardian *, gc_word, gc_word);
    gc_word (*guardian_poll)(gc_mutator *, gc_guardian *);
    gc_table *(*new_table)(gc_heap *);
    void (*drop_table)(gc_table *);
    int (*table_get)(gc_mutator *, gc_table *, gc_word, gc_word *);
    int (*table_put)(gc_mutator *, gc_table *, gc_word, gc_word);
    int (*table_remove)(gc_mutator *, gc_table *, gc_word);
    gc_word (*intern_find)(gc_mutator *, gc_table *, uint64_t, gc_match, void *);
    gc_word (*intern_add)(gc_mutator *, gc_table *, uint64_t, gc_match, void *, gc_word);
    uint64_t (*table_count)(gc_table *);
    gc_heap *(*heap_of_object)(void *);
    void *(*object_of_heap)(gc_heap *);
} gc_api_table;

/* One for each program or shared object, however many of its files include this header. */
__attribute__((weak, visibility("hidden"))) const gc_api_table *gc_api;

#define GC_LIKELY(x) __builtin_expect(!!(x), 1)
#define GC_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* What the last function that failed on this thread had to say. */
static inline const char *gc_error_message(void) { return gc_api->error_message(); }

/* ---- heaps: any thread that is not RUNNING; these take the GIL, held or not held by the caller ---- */

/* A heap.  `options` as gcheap.Heap has them, separated by blanks: "capacity=256MiB verify=2"; NULL or
 * "": from the GCHEAP_* variables and defaults.  `tag`: which words of shadow stacks and root areas,
 * and of slots of shapes that name no rule, are references; NULL: mask 7, bits 0. */
static inline gc_heap *gc_new_heap(const char *options, const gc_tag_rule *tag) {
    return gc_api->new_heap(options, tag);
}

/* Ends a heap: waits for RUNNING mutators to leave and for the cycle in flight, unmaps everything.
 * Detach every thread first: nobody may enter a closed heap, and the heap, its handles and guardians
 * may not be named again.  Not 0: it could not be (the calling thread is RUNNING). */
static inline int gc_close_heap(gc_heap *heap) { return gc_api->close_heap(heap); }

/* Declares a layout.  The same spec twice gives the same shape. */
static inline gc_shape gc_define_shape(gc_heap *heap, const gc_shape_spec *spec) {
    return gc_api->define_shape(heap, spec);
}

/* Sets the heap's listener, once, before a thread attaches.  A heap without one pays nothing. */
static inline int gc_set_listener(gc_heap *heap, gc_listener listener, void *data) {
    return gc_api->set_listener(heap, listener, data);
}

/* ---- cycles, statistics: any thread, no GIL -------------------------------------------------------- */

/* A full cycle that starts now; returns when it has ended.  SAFEPOINT when the caller is RUNNING. */
static inline void gc_collect(gc_heap *heap) { gc_api->collect(heap); }

/* Asks for a full cycle and does not wait. */
static inline void gc_request(gc_heap *heap) { gc_api->request(heap); }

static inline void gc_get_statistics(gc_heap *heap, gc_statistics *into) {
    gc_api->statistics(heap, into);
}

/* ---- mutators: no GIL ------------------------------------------------------------------------------- */

/* Makes the calling thread a mutator, not RUNNING yet.  `name` is how reports call it.  A thread that
 * ends is detached. */
static inline gc_mutator *gc_attach(gc_heap *heap, const char *name) {
    return gc_api->attach(heap, name);
}

/* Ends it; its shadow stack and root areas are roots no more.  Not RUNNING. */
static inline void gc_detach(gc_mutator *m) { gc_api->detach(m); }

/* The calling thread's mutator; NULL: it is not attached. */
static inline gc_mutator *gc_current(gc_heap *heap) { return gc_api->current(heap); }

/* Into the heap and out of it.  gc_leave() ... gc_enter() is the blocked region around whatever may
 * wait; pauses do not wait for it.  gc_enter() is a SAFEPOINT. */
static inline void gc_enter(gc_mutator *m) { gc_api->enter(m); }
static inline void gc_leave(gc_mutator *m) { gc_api->leave(m); }

/* SAFEPOINT.  One load and one branch.  Loops that do not allocate need one. */
static inline void gc_poll(gc_mutator *m) {
    if (GC_UNLIKELY(__atomic_load_n(&m->heap->pause, __ATOMIC_RELAXED)))
        gc_api->poll_slow(m);
}

/* ---- allocation: RUNNING, SAFEPOINT; zeroed; 0: the heap is exhausted ---------------------------- */

/* An object of a fixed shape whose size the caller knows: `bytes` is gc_shape_info.bytes, or the process
 * ends, at the latest when the TLAB is full. */
static inline gc_word gc_alloc_sized(gc_mutator *m, gc_shape shape, uint64_t bytes) {
    gc_word at = m->tlab_top, header = ((gc_word)shape << 8) | 1;
    if (GC_UNLIKELY(bytes > m->tlab_end - at))
        return gc_api->alloc_slow(m, bytes, header, 0);
    __atomic_store_n(&m->tlab_top, at + bytes, __ATOMIC_RELAXED);
    *(gc_word *)at = header;
    return at;
}

/* An object of a fixed shape. */
static inline gc_word gc_alloc(gc_mutator *m, gc_shape shape) {
    return gc_alloc_sized(m, shape, m->heap->shapes[shape].bytes);
}

/* An array of `length` elements, any number. */
static inline gc_word gc_alloc_array(gc_mutator *m, gc_shape shape, uint64_t length) {
    const gc_shape_info *info = &m->heap->shapes[shape];
    uint64_t item = info->kind == GC_SLOT_ARRAY ? 8 : info->item;
    uint64_t bytes = 16 + ((item * length + 7) & ~(uint64_t)7);
    gc_word at = m->tlab_top;
    if (GC_UNLIKELY(length >= (uint64_t)1 << 24 || bytes > m->tlab_end - at))
        return gc_api->alloc_array(m, shape, length);
    __atomic_store_n(&m->tlab_top, at + bytes, __ATOMIC_RELAXED);
    ((gc_word *)at)[0] = ((gc_word)shape << 8) | 1;
    ((gc_word *)at)[1] = length;
    return at;
}

/* A raw array that never moves and takes whole pages: gc_elements() may be given to system calls. */
static inline gc_word gc_alloc_pinned(gc_mutator *m, gc_shape shape, uint64_t length) {
    return gc_api->alloc_pinned(m, shape, length);
}

/* ---- objects: RUNNING; no safepoints ------------------------------------------------------------- */

static inline gc_shape gc_shape_of(gc_word obj) {
    return (gc_shape)(__atomic_load_n((const gc_word *)obj, __ATOMIC_RELAXED) >> 8) & 0xFFFF;
}

/* Stores `value` into the slot at `slot`, which is one of the object at `obj`: a load, a branch, a
 * store.  While marking is on, the old value is logged (snapshot at the beginning). */
static inline void gc_store_slot(gc_mutator *m, gc_word obj, gc_word *slot, gc_word value) {
    if (GC_UNLIKELY(__atomic_load_n(&m->heap->marking, __ATOMIC_RELAXED)))
        gc_api->log_old(m, obj, __atomic_load_n(slot, __ATOMIC_RELAXED));
    __atomic_store_n(slot, value, __ATOMIC_RELAXED);
}

/* Slot `index` of an object of a fixed shape. */
static inline gc_word gc_load(gc_word obj, uint64_t index) {
    return __atomic_load_n((gc_word *)obj + 1 + index, __ATOMIC_RELAXED);
}
static inline void gc_store(gc_mutator *m, gc_word obj, uint64_t index, gc_word value) {
    gc_store_slot(m, obj, (gc_word *)obj + 1 + index, value);
}

/* Element `index` of an array of slots; the caller has compared it with gc_length(). */
static inline gc_word gc_load_element(gc_word array, uint64_t index) {
    return __atomic_load_n((gc_word *)array + 2 + index, __ATOMIC_RELAXED);
}
static inline void gc_store_element(gc_mutator *m, gc_word array, uint64_t index, gc_word value) {
    gc_store_slot(m, array, (gc_word *)array + 2 + index, value);
}

/* Between threads.  The loads and stores above are atomic and relaxed: no word is torn, but who reads
 * a reference that another thread stored may not see yet what that thread wrote to the object, its
 * header included.  Who reads by gc_acquire... what was stored by gc_publish... or gc_replace...
 * sees everything that the storing thread had written before: to the object, and to what it names.
 * On x86-64 the first two cost what the relaxed ones cost.
 *
 * Here the slot at `slot`, one of the object at `obj`: */
static inline gc_word gc_acquire_slot(const gc_word *slot) {
    return __atomic_load_n(slot, __ATOMIC_ACQUIRE);
}
static inline void gc_publish_slot(gc_mutator *m, gc_word obj, gc_word *slot, gc_word value) {
    if (GC_UNLIKELY(__atomic_load_n(&m->heap->marking, __ATOMIC_RELAXED)))
        gc_api->log_old(m, obj, __atomic_load_n(slot, __ATOMIC_RELAXED));
    __atomic_store_n(slot, value, __ATOMIC_RELEASE);
}
/* Publishes `value` if the slot holds `expected`, in one step, and acquires.  0: it does not, and
 * nothing is stored.  `expected` was read since the last safepoint. */
static inline int gc_replace_slot(gc_mutator *m, gc_word obj, gc_word *slot, gc_word expected,
                                  gc_word value) {
    if (GC_UNLIKELY(__atomic_load_n(&m->heap->marking, __ATOMIC_RELAXED)))
        gc_api->log_old(m, obj, expected);
    return __atomic_compare_exchange_n(slot, &expected, value, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}
/* ... slot `index` of an object of a fixed shape ... */
static inline gc_word gc_acquire(gc_word obj, uint64_t index) {
    return gc_acquire_slot((const gc_word *)obj + 1 + index);
}
static inline void gc_publish(gc_mutator *m, gc_word obj, uint64_t index, gc_word value) {
    gc_publish_slot(m, obj, (gc_word *)obj + 1 + index, value);
}
static inline int gc_replace(gc_mutator *m, gc_word obj, uint64_t index, gc_word expected,
                             gc_word value) {
    return gc_replace_slot(m, obj, (gc_word *)obj + 1 + index, expected, value);
}
/* ... and element `index` of an array of slots. */
static inline gc_word gc_acquire_element(gc_word array, uint64_t index) {
    return gc_acquire_slot((const gc_word *)array + 2 + index);
}
static inline void gc_publish_element(gc_mutator *m, gc_word array, uint64_t index, gc_word value) {
    gc_publish_slot(m, array, (gc_word *)array + 2 + index, value);
}
static inline int gc_replace_element(gc_mutator *m, gc_word array, uint64_t index, gc_word expected,
                                     gc_word value) {
    return gc_replace_slot(m, array, (gc_word *)array + 2 + index, expected, value);
}

/* Never changes, as little as the shape: both are seen with the object's publication. */
static inline uint64_t gc_length(gc_word array) { return ((const gc_word *)array)[1]; }

/* The raw bytes of an object with `slots` slots; the elements of a raw array. */
static inline void *gc_raw(gc_word obj, uint64_t slots) { return (gc_word *)obj + 1 + slots; }
static inline void *gc_elements(gc_word array) { return (gc_word *)array + 2; }

/* Drawn when first asked for, the same for ever after, never 0; not unique. */
static inline uint32_t gc_identity_hash(gc_mutator *m, gc_word obj) {
    return gc_api->identity_hash(m, obj);
}

/* ---- roots ---------------------------------------------------------------------------------------- */

/* A frame of `count` zeroed words on the shadow stack, under the heap's tag rule; NULL: the stack is
 * full (2^20 words), gc_error_message() says nothing.  No memory of the heap is touched.  A word
 * is written like any variable.  An interpreter may as well keep its value stack here and move
 * m->shadow_top itself: words below it are roots at every safepoint. */
static inline gc_word *gc_push(gc_mutator *m, uint64_t count) {
    gc_word *frame = m->shadow_top;
    if (GC_UNLIKELY(count > (uint64_t)(m->shadow_end - frame)))
        return NULL;
    for (uint64_t i = 0; i < count; i++)
        frame[i] = 0;
    m->shadow_top = frame + count;
    return frame;
}
static inline void gc_pop(gc_mutator *m, uint64_t count) { m->shadow_top -= count; }

/* Makes the first *count words at `base`, memory of the caller's, roots under `tag` (NULL: the heap's
 * rule): a value stack, globals, a constant table.  Each pause looks at *count words.  `base` may
 * be written, and *count changed, by RUNNING threads as by their own rules, at any time but during
 * a pause.  It ends with gc_remove_roots() on any RUNNING mutator, or with `m`.  RUNNING. */
static inline gc_roots *gc_add_roots(gc_mutator *m, gc_word *base, const uint64_t *count,
                                     const gc_tag_rule *tag) {
    return gc_api->add_roots(m, base, count, tag);
}
static inline void gc_remove_roots(gc_mutator *m, gc_roots *roots) {
    gc_api->remove_roots(m, roots);
}

/* A handle is a root of its own, for whoever is no mutator: `obj` is an address without a tag, not 0.
 * gc_drop_handle(): any thread, at any moment, lock-free; the others: RUNNING.
 * gc_handle_store() publishes, and gc_handle_load() acquires, whichever threads call them.
 * A handle is an index and costs a call; a mutator's own temporaries belong on its shadow stack. */
static inline gc_handle gc_new_handle(gc_mutator *m, gc_word obj) {
    return gc_api->new_handle(m, obj);
}
static inline gc_word gc_handle_load(gc_mutator *m, gc_handle handle) {
    return gc_api->handle_load(m, handle);
}
static inline void gc_handle_store(gc_mutator *m, gc_handle handle, gc_word obj) {
    gc_api->handle_store(m, handle, obj);
}
static inline void gc_drop_handle(gc_heap *heap, gc_handle handle) {
    gc_api->drop_handle(heap, handle);
}

/* ---- what does not keep objects alive; addresses without tags; RUNNING but where stated --------- */

/* A weak reference; gc_weak_load() is 0 once the object has died.  Dropped by any thread. */
static inline gc_weak gc_new_weak(gc_mutator *m, gc_word obj) { return gc_api->new_weak(m, obj); }
static inline gc_word gc_weak_load(gc_mutator *m, gc_weak weak) {
    return gc_api->weak_load(m, weak);
}
static inline void gc_drop_weak(gc_heap *heap, gc_weak weak) { gc_api->drop_weak(heap, weak); }

/* A guardian hands registered objects back when nothing else reaches them; with an `agent` that is
 * handed back in the object's place, which dies.  Made and dropped by any thread. */
static inline gc_guardian *gc_new_guardian(gc_heap *heap) { return gc_api->new_guardian(heap); }
static inline void gc_drop_guardian(gc_guardian *guardian) { gc_api->drop_guardian(guardian); }
static inline int gc_guard(gc_mutator *m, gc_guardian *guardian, gc_word obj, gc_word agent) {
    return gc_api->guard(m, guardian, obj, agent);
}
static inline gc_word gc_guardian_poll(gc_mutator *m, gc_guardian *guardian) {
    return gc_api->guardian_poll(m, guardian);
}

/* A weak table is either an ephemeron table, from objects by identity to words ... */
static inline gc_table *gc_new_table(gc_heap *heap) { return gc_api->new_table(heap); }
static inline void gc_drop_table(gc_table *table) { gc_api->drop_table(table); }
/* 1: found. */
static inline int gc_table_get(gc_mutator *m, gc_table *table, gc_word key, gc_word *value) {
    return gc_api->table_get(m, table, key, value);
}
/* Not 0: no memory.  `value`: 0 or a reference, or a word that is none under mask 7, bits 0. */
static inline int gc_table_put(gc_mutator *m, gc_table *table, gc_word key, gc_word value) {
    return gc_api->table_put(m, table, key, value);
}
/* 1: it was there. */
static inline int gc_table_remove(gc_mutator *m, gc_table *table, gc_word key) {
    return gc_api->table_remove(m, table, key);
}
/* ... or an intern table, of weakly held objects by the caller's hash and comparison. */
static inline gc_word gc_intern_find(gc_mutator *m, gc_table *table, uint64_t hash, gc_match match,
                                     void *context) {
    return gc_api->intern_find(m, table, hash, match, context);
}
/* The equal object that is there, or `obj`, which is there now; 0: no memory. */
static inline gc_word gc_intern_add(gc_mutator *m, gc_table *table, uint64_t hash, gc_match match,
                                    void *context, gc_word obj) {
    return gc_api->intern_add(m, table, hash, match, context, obj);
}
/* Entries, those of dead objects that no cycle has found yet included.  Any thread. */
static inline uint64_t gc_table_count(gc_table *table) { return gc_api->table_count(table); }

#ifdef __cplusplus
}
#endif
#endif
