/* Calls that the dispatch loop does not do by itself. */
#ifndef GCHEAP_LOX_CALLS_H
#define GCHEAP_LOX_CALLS_H
#include "properties.h"

/* A native gets its arguments at `arguments`, puts its result at arguments[-1], where the callee
 * is, and leaves the stack as it was.  0: it has failed and said why.  SAFEPOINT. */
typedef int (*lox_native)(lox_thread *t, uint32_t count, gc_word *arguments);
typedef struct lox_native_entry { const char *name; int32_t arity; lox_native call; } lox_native_entry;
static const lox_native_entry *native_entry(uint32_t which);

static int wrong_count(lox_thread *t, uint32_t wanted, uint32_t got) {
    return fail(t, "Expected %u arguments but got %u.", wanted, got);
}

/* A frame for `closure`, whose arguments are on the stack. */
static int call_closure(lox_thread *t, gc_word closure, uint32_t count) {
    const lox_code *code = (const lox_code *)element(closure, CLOSURE_CODE);
    gc_word *slots = top(t) - count - 1;
    if (code->arity != count) return wrong_count(t, code->arity, count);
    if (t->frame == t->frames + LOX_FRAMES - 1
        || code->need + (uint64_t)LOX_FRAMES * LOX_NEED
            > (uint64_t)(t->base + LOX_STACK - slots)) return fail(t, "Stack overflow.");
    *++t->frame = (lox_frame){ closure, code->words, slots, code };
    return 1;
}

/* An instance of the class at *callee, in its place.  SAFEPOINT. */
static int new_instance(lox_thread *t, gc_word *callee) {
    gc_word instance, layout;
    uint32_t capacity;
    push(t, acquired(slot_at(*callee, CLASS_LAYOUT)));
    capacity = numbers_of_layout(top(t)[-1])->capacity;
    instance = gc_alloc_array(t->m, LOX_INSTANCE, INSTANCE_FIELDS + capacity);
    if (!instance) return exhausted(t);
    instance = boxed(instance), layout = pop(t);
    *element_at(instance, INSTANCE_LAYOUT) = layout;
    for (uint32_t i = 0; i < capacity; i++)
        *element_at(instance, INSTANCE_FIELDS + i) = LOX_ABSENT;
    *callee = instance;
    return 1;
}

static int call_class(lox_thread *t, gc_word *callee, uint32_t count) {
    gc_word class = *callee, init;
    push(t, class);
    if (!new_instance(t, callee)) return 0;
    class = pop(t);
    init = acquired(slot_at(class, CLASS_INIT));
    if (init) return call_closure(t, init, count);
    return count ? wrong_count(t, 0, count) : 1;
}

/* Calls what lies below its arguments: pushes a frame, or leaves the result in their place. */
static int call_value(lox_thread *t, uint32_t count) {
    gc_word *callee = top(t) - count - 1;
    if (is_object(*callee)) switch (gc_shape_of(address_of(*callee))) {
    case LOX_CLOSURE: return call_closure(t, *callee, count);
    case LOX_CLASS: return call_class(t, callee, count);
    case LOX_BOUND: {
        gc_word bound = *callee;
        *callee = slot(bound, BOUND_RECEIVER);
        return call_closure(t, slot(bound, BOUND_METHOD), count);
    }
    case LOX_NATIVE: {
        const lox_native_entry *entry = native_entry(numbers_of_native(*callee)->which);
        if (entry->arity >= 0 && (uint32_t)entry->arity != count)
            return wrong_count(t, (uint32_t)entry->arity, count);
        if (!entry->call(t, count, callee + 1)) return 0;
        /* It may have been outside of the heap while the pause went by that ends programs. */
        if (stopped(t)) return 0;
        t->m->shadow_top = callee + 1;
        return 1;
    }
    default: break;
    }
    return fail(t, "Can only call functions and classes.");
}

/* ---- arrays -------------------------------------------------------------------------------------- */

static int array_index(lox_thread *t, gc_word array, gc_word index, uint64_t *i) {
    uint64_t length = array_length(array);
    *i = index_below(index, length);
    if (*i != UINT64_MAX) return 1;
    if (!is_number(index) || as_number(index) != floor(as_number(index)))
        return fail(t, "Array index must be a whole number.");
    return fail(t, "Array index %.17g out of bounds for length %llu.", as_number(index),
                (unsigned long long)length);
}

static int call_array(lox_thread *t, gc_word name, uint32_t count) {
    const gc_word *words = t->program->words;
    gc_word *array = top(t) - count - 1;
    uint64_t i;
    uint32_t wanted = name == words[WORD_GET] ? 1 : name == words[WORD_SET] ? 2 : 0;
    if (!wanted && name != words[WORD_LEN]) return undefined_property(t, name);
    if (count != wanted) return wrong_count(t, wanted, count);
    if (!wanted) {
        array[0] = of_number((double)array_length(array[0]));
    } else {
        if (!array_index(t, array[0], array[1], &i)) return 0;
        if (wanted == 1) {
            array[0] = acquired(element_at(array[0], 1 + i));
        } else {
            publish(t->m, array[0], element_at(array[0], 1 + i), array[2]);
            array[0] = array[2];
        }
    }
    t->m->shadow_top = array + 1;
    return 1;
}

/* ---- methods ------------------------------------------------------------------------------------- */

static inline int is_quick(gc_word closure, uint32_t count) {
    return ((const lox_code *)element(closure, CLOSURE_CODE))->quick_arity == count;
}

static int invoke(lox_thread *t, lox_cache *c, gc_word name, uint32_t count) {
    gc_word *receiver = top(t) - count - 1, layout, added, class, method;
    if (has_shape(*receiver, LOX_ARRAY)) return call_array(t, name, count);
    if (!has_shape(*receiver, LOX_INSTANCE)) return fail(t, "Only instances have methods.");
    layout = acquired(element_at(*receiver, INSTANCE_LAYOUT));
    added = find_field(layout, name);
    if (added) {
        gc_word *field = field_at(*receiver, offset_of(added));
        gc_word value = field ? acquired(field) : LOX_ABSENT;
        if (value != LOX_ABSENT) {
            fill_cache(c, layout, 0, offset_of(added));
            *receiver = value;
            return call_value(t, count);
        }
    }
    class = slot(layout, LAYOUT_CLASS);
    method = find_method(class, name);
    if (!method) return undefined_property(t, name);
    if (!added && is_complete(class) && is_quick(method, count)) fill_cache(c, layout, method, 0);
    return call_closure(t, method, count);
}

/* The superclass is on top of the stack; below it the arguments and the receiver. */
static int invoke_super(lox_thread *t, lox_cache *c, gc_word name, uint32_t count) {
    gc_word class = pop(t), method = find_method(class, name);
    if (!method) return undefined_property(t, name);
    if (is_complete(class) && is_quick(method, count)) fill_cache(c, class, method, 0);
    return call_closure(t, method, count);
}

/* The superclass on top of the stack, the receiver below it: a bound method for both. */
static int get_super(lox_thread *t, gc_word name) {
    gc_word method = find_method(pop(t), name);
    if (!method) return undefined_property(t, name);
    return bind(t, top(t) - 1, method);
}

/* ---- declarations -------------------------------------------------------------------------------- */

/* Never the high half of a reference. */
static inline uint32_t owner_number(lox_thread *t) { return t->number & 0x7FFFFFFF; }

static int make_class(lox_thread *t, gc_word *name, uint32_t capacity) {
    gc_word class = gc_alloc(t->m, LOX_CLASS);
    if (!class) return exhausted(t);
    push(t, boxed(class));
    *slot_at(top(t)[-1], CLASS_NAME) = *name;
    numbers_of_class(top(t)[-1])->owner = owner_number(t);
    return plant(t, top(t) - 1, capacity);
}

/* A class declaration reads its class from the variable again, where another thread may have put something
 * else. */
static int is_own_class(lox_thread *t, gc_word v) {
    if (has_shape(v, LOX_CLASS) && numbers_of_class(v)->owner == owner_number(t)
        && !is_complete(v)) return 1;
    return fail(t, "Another thread changed the variable of a class that was being declared.");
}

static int end_class(lox_thread *t) {
    gc_word class = pop(t);
    if (!is_own_class(t, class)) return 0;
    __atomic_store_n(&numbers_of_class(class)->complete, 1, __ATOMIC_RELEASE);
    return 1;
}

/* Stack: superclass, class; the class goes. */
static int inherit(lox_thread *t) {
    gc_word *two = top(t) - 2;
    uint64_t capacity;
    if (!is_own_class(t, two[1])) return 0;
    if (!has_shape(two[0], LOX_CLASS)) return fail(t, "Superclass must be a class.");
    capacity = (uint64_t)capacity_of(two[0]) + capacity_of(two[1]);
    if (!plant(t, two + 1, capacity < MOST_CAPACITY ? (uint32_t)capacity : MOST_CAPACITY)
        || !inherit_methods(t, two, two + 1)) return 0;
    pop(t);
    return 1;
}

/* Stack: class, method; the method goes. */
static int define_method(lox_thread *t, gc_word name) {
    if (!is_own_class(t, top(t)[-2]) || !add_method(t, top(t) - 2, name, top(t) - 1)) return 0;
    pop(t);
    return 1;
}
#endif
