/* The objects of a Lox program, and how they lie in the heap.
 *
 *     string      raw array    hash (8 bytes), characters
 *     function    fixed        name, code
 *     closure     slot array   function, code, cells of captured variables…
 *     cell        fixed        value of a variable that a closure captured
 *     class       fixed        methods, name, layout, init, numbers
 *     layout      fixed        class, parent, name, kids, index, numbers
 *     instance    slot array   layout, more, fields…
 *     fields      slot array   more, fields…
 *     bound       fixed        receiver, method
 *     table       slot array   open addressing; the length is a power of two
 *     native      fixed        arity and which, 1
 *     array       slot array   1, elements…
 *     thread      fixed        result, function, number
 *
 * "code" and numbers are plain words in slots: no references.  The word at offset 16 is a layout in instances and in
 * nothing else that a Lox variable can hold; every object has it, and in none it is 0.  So an inline
 * cache compares it before it knows what the object is (properties.h). */
#ifndef GCHEAP_LOX_OBJECTS_H
#define GCHEAP_LOX_OBJECTS_H
#include "value.h"

/* In the order in which open_program() defines them: the heap numbers shapes from 3. */
enum {
    LOX_STRING = 3, LOX_FUNCTION, LOX_CLOSURE, LOX_CELL, LOX_CLASS, LOX_LAYOUT, LOX_INSTANCE,
    LOX_BOUND, LOX_TABLE, LOX_NATIVE, LOX_ARRAY, LOX_THREAD, LOX_FIELDS
};

enum { CLOSURE_FUNCTION, CLOSURE_CODE, CLOSURE_CELLS };         /* elements */
enum { CLASS_METHODS, CLASS_NAME, CLASS_LAYOUT, CLASS_INIT, CLASS_SLOTS };
enum { LAYOUT_CLASS, LAYOUT_PARENT, LAYOUT_NAME, LAYOUT_KIDS, LAYOUT_INDEX, LAYOUT_SLOTS };
enum { INSTANCE_LAYOUT, INSTANCE_MORE, INSTANCE_FIELDS };      /* elements */
enum { BOUND_RECEIVER, BOUND_METHOD, BOUND_SLOTS };
enum { THREAD_RESULT, THREAD_FUNCTION, THREAD_SLOTS };

/* Numbers lie in slots too, since their high bits are no reference's. */
typedef struct class_numbers {
    uint32_t methods;           /* in its table */
    uint32_t capacity;          /* fields that an instance has room for */
    uint32_t owner;             /* the thread that declares it; it alone changes methods */
    uint32_t complete;          /* not 0: its methods change no more */
} class_numbers;

typedef struct layout_numbers {
    uint32_t count;             /* fields of an instance of this layout */
    uint32_t capacity;          /* of them inside the instance; the rest in its chain */
} layout_numbers;

typedef struct native_numbers {
    int32_t arity;              /* -1: any */
    uint32_t which;
    uint64_t one;               /* 1: see above */
} native_numbers;

enum { CELL_BYTES = 16, BOUND_BYTES = 24 };

static inline int has_shape(gc_word v, gc_shape shape) {
    return is_object(v) && gc_shape_of(address_of(v)) == shape;
}

/* Elements and slots of a boxed object. */
static inline gc_word element(gc_word v, uint64_t i) { return gc_load_element(address_of(v), i); }
static inline gc_word *element_at(gc_word v, uint64_t i) {
    return (gc_word *)address_of(v) + 2 + i;
}
static inline gc_word slot(gc_word v, uint64_t i) { return gc_load(address_of(v), i); }
static inline gc_word *slot_at(gc_word v, uint64_t i) { return (gc_word *)address_of(v) + 1 + i; }
static inline uint64_t length_of(gc_word v) { return gc_length(address_of(v)); }

/* What another thread published (release), and all that was written before. */
static inline gc_word acquired(gc_word *at) { return gc_acquire_slot(at); }

/* Stores into an object that threads share, so that whoever acquires `value` sees what it names. */
static inline void publish(gc_mutator *m, gc_word obj, gc_word *at, gc_word value) {
    gc_publish_slot(m, address_of(obj), at, value);
}

/* The same if `expected` is still there; 0: it is not. */
static inline int exchange(gc_mutator *m, gc_word obj, gc_word *at, gc_word expected,
                           gc_word value) {
    return gc_replace_slot(m, address_of(obj), at, expected, value);
}

static inline class_numbers *numbers_of_class(gc_word v) {
    return gc_raw(address_of(v), CLASS_SLOTS);
}
static inline layout_numbers *numbers_of_layout(gc_word v) {
    return gc_raw(address_of(v), LAYOUT_SLOTS);
}
static inline native_numbers *numbers_of_native(gc_word v) { return gc_raw(address_of(v), 0); }
static inline uint64_t *number_of_thread(gc_word v) { return gc_raw(address_of(v), THREAD_SLOTS); }

/* Strings: the characters, their count, the hash (48 bits, and HASH_STORED to make it no 0; no boxed
 * reference looks like it). */
#define HASH_STORED ((uint64_t)1 << 48)
static inline char *characters(gc_word v) { return (char *)gc_elements(address_of(v)) + 8; }
static inline uint64_t character_count(gc_word v) { return length_of(v) - 8; }
static inline uint64_t string_hash(gc_word v) {
    return *(uint64_t *)gc_elements(address_of(v)) ^ HASH_STORED;
}

/* Arrays of Lox: element 0 is no element. */
static inline uint64_t array_length(gc_word v) { return length_of(v) - 1; }
#endif
