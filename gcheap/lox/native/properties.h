/* Fields and methods: layouts, and the caches of instructions.
 *
 * A layout says which field lies where.  Those of a class are a tree: its root has no field, and each
 * child adds one (the maps of Self; Chambers, Ungar and Lee, OOPSLA 1989).  An instance begins at its
 * class's root and moves to a child when it gets a field that it has not:
 *
 *     root ──x──> (x) ──y──> (x, y)         instance: layout, more, x, y
 *          └─y──> (y)
 *
 * The fields of the first `capacity` numbers lie in the instance, the others in a chain of arrays,
 * each twice the one before.  A tree has one capacity.  When an instance outgrows it, its class begins
 * a new tree with more.
 *
 * Races.  An instance's layout only moves to a child, by compare-and-exchange once threads exist, and a
 * field never changes its place.  So no thread takes a field for another, and no store is lost.  A
 * new field is LOX_ABSENT until its value is stored.
 *
 * A lox_cache belongs to one instruction and one thread.  Its words are roots: an entry follows the
 * objects that it names, and keeps them alive until it is overwritten.
 *
 *     instruction              key          target                 offset
 *     get, set                 layout       0                      of the field
 *     set of a new field       layout       its child              of the field
 *     invoke, get of a method  layout       closure                0
 *     super                    superclass   closure                0 */
#ifndef GCHEAP_LOX_PROPERTIES_H
#define GCHEAP_LOX_PROPERTIES_H
#include "tables.h"

#define IN_CHAIN ((uint64_t)1 << 32)      /* the rest is the number within the chain */
enum { FIELD_WORDS = 2 + INSTANCE_FIELDS, MOST_CAPACITY = 64, UNINDEXED = 8, CHAIN_LEAST = 8 };

/* Fields that instances of the class have room for: of the newest of its trees. */
static inline uint32_t capacity_of(gc_word class) {
    return __atomic_load_n(&numbers_of_class(class)->capacity, __ATOMIC_RELAXED);
}

/* A root for a tree.  SAFEPOINT. */
static gc_word new_layout(lox_thread *t, uint32_t count, uint32_t capacity) {
    gc_word layout = gc_alloc(t->m, LOX_LAYOUT);
    if (!layout) return 0;
    *numbers_of_layout(boxed(layout)) = (layout_numbers){ count, capacity };
    return boxed(layout);
}

/* Gives the class at *class, a root, a new tree.  SAFEPOINT. */
static int plant(lox_thread *t, gc_word *class, uint32_t capacity) {
    gc_word layout = new_layout(t, 0, capacity);
    if (!layout) return exhausted(t);
    *slot_at(layout, LAYOUT_CLASS) = *class;
    __atomic_store_n(&numbers_of_class(*class)->capacity, capacity, __ATOMIC_RELAXED);
    publish(t->m, *class, slot_at(*class, CLASS_LAYOUT), layout);
    return 1;
}

/* The layout that added `name` to `layout`; 0: it has no such field. */
static gc_word find_field(gc_word layout, gc_word name) {
    while (numbers_of_layout(layout)->count) {
        gc_word index = acquired(slot_at(layout, LAYOUT_INDEX));
        if (index) return layout_in(index, name);
        if (layout_name(layout) == name) return layout;
        layout = slot(layout, LAYOUT_PARENT);
    }
    return 0;
}

/* A chain of layouts that is long gets an index at its end.  *layout is a root.  SAFEPOINT. */
static int index_chain(lox_thread *t, gc_word *layout) {
    uint32_t count = numbers_of_layout(*layout)->count, steps = 0;
    uint64_t length = TABLE_LEAST;
    gc_word at = *layout, index;
    while (numbers_of_layout(at)->count && !slot(at, LAYOUT_INDEX))
        steps++, at = slot(at, LAYOUT_PARENT);
    if (steps <= UNINDEXED || steps <= count / 4) return 1;
    while (count * 4 > length * 3) length *= 2;
    index = gc_alloc_array(t->m, LOX_TABLE, length);
    if (!index) return exhausted(t);
    index = boxed(index);
    for (at = *layout; numbers_of_layout(at)->count; at = slot(at, LAYOUT_PARENT))
        *layout_place(index, layout_name(at)) = at;
    publish(t->m, *layout, slot_at(*layout, LAYOUT_INDEX), index);
    return 1;
}

/* Puts the child of the layout on top of the stack that adds the name below it in its place. */
static int step_to_child(lox_thread *t) {
    gc_word *name = top(t) - 2, *layout = top(t) - 1, child;
    layout_numbers numbers = *numbers_of_layout(*layout);
    child = layout_in(acquired(slot_at(*layout, LAYOUT_KIDS)), *name);
    if (!child) {
        child = new_layout(t, numbers.count + 1, numbers.capacity);
        if (!child) return exhausted(t);
        *slot_at(child, LAYOUT_CLASS) = slot(*layout, LAYOUT_CLASS);
        *slot_at(child, LAYOUT_PARENT) = *layout;
        *slot_at(child, LAYOUT_NAME) = *name;
        push(t, child);
        if (!index_chain(t, layout + 1)
            || !add_to_set(t, layout, LAYOUT_KIDS, layout + 1)) return 0;
        child = pop(t);
    }
    *layout = child;
    return 1;
}

static inline uint64_t offset_of(gc_word layout) {      /* of the field that it added */
    layout_numbers *n = numbers_of_layout(layout);
    uint32_t number = n->count - 1;
    return number < n->capacity ? FIELD_WORDS + number : IN_CHAIN | (number - n->capacity);
}

/* Field `number` of the chain; NULL: the chain is too short, and *link, of *owner, is where it ends. */
static gc_word *chained(gc_word instance, uint64_t number, gc_word *owner, gc_word **link,
                        uint64_t *room) {
    *owner = instance, *link = element_at(instance, INSTANCE_MORE);
    for (*room = CHAIN_LEAST;; *room *= 2) {
        gc_word fields = acquired(*link);
        if (!fields) return NULL;
        if (number < *room) return element_at(fields, 1 + number);
        number -= *room;
        *owner = fields, *link = element_at(fields, 0);
    }
}

/* Where a field is; NULL: nowhere yet, since another thread is about to make room for it. */
static inline gc_word *field_at(gc_word instance, uint64_t offset) {
    gc_word owner, *link;
    uint64_t room;
    if (GC_LIKELY(!(offset & IN_CHAIN))) return (gc_word *)address_of(instance) + offset;
    return chained(instance, offset ^ IN_CHAIN, &owner, &link, &room);
}

/* Makes the chain of *instance, a root, reach to field `number`.  SAFEPOINT. */
static int lengthen(lox_thread *t, gc_word *instance, uint64_t number) {
    gc_word owner, *link, fields;
    uint64_t room, wanted;
    while (!chained(*instance, number, &owner, &link, &room)) {
        wanted = room;
        fields = gc_alloc_array(t->m, LOX_FIELDS, 1 + wanted);
        if (!fields) return exhausted(t);
        for (uint64_t i = 0; i < wanted; i++) *element_at(boxed(fields), 1 + i) = LOX_ABSENT;
        /* Another thread may have done the same meanwhile. */
        if (!chained(*instance, number, &owner, &link, &room) && room == wanted)
            exchange(t->m, owner, link, 0, boxed(fields));
    }
    return 1;
}

static inline void fill_cache(lox_cache *c, gc_word key, gc_word target, uint64_t offset) {
    c->key = key, c->target = target, c->offset = offset;
}

/* What SET_PROPERTY does without a safepoint; 0: nothing, the cache does not know. */
static inline int quick_set(lox_thread *t, const lox_cache *c, gc_word receiver, gc_word value) {
    gc_word *at, *field;
    if (!is_object(receiver)) return 0;
    at = element_at(receiver, INSTANCE_LAYOUT);
    if (acquired(at) != c->key) return 0;
    if (c->target) {
        if (!__atomic_load_n(&t->program->threaded, __ATOMIC_RELAXED))
            publish(t->m, receiver, at, c->target);
        else if (!exchange(t->m, receiver, at, c->key, c->target))
            return 0;
    }
    field = field_at(receiver, c->offset);
    if (!field) return 0;
    publish(t->m, receiver, field, value);
    return 1;
}

/* ---- get, set -------------------------------------------------------------------------------------- */

static int undefined_property(lox_thread *t, gc_word name) {
    return fail_named(t, "Undefined property '", name, "'.");
}

/* A bound method in place of the receiver at *receiver.  SAFEPOINT. */
static int bind(lox_thread *t, gc_word *receiver, gc_word method) {
    gc_word bound;
    push(t, method);
    bound = gc_alloc_sized(t->m, LOX_BOUND, BOUND_BYTES);
    if (!bound) return exhausted(t);
    *slot_at(boxed(bound), BOUND_METHOD) = pop(t);
    *slot_at(boxed(bound), BOUND_RECEIVER) = *receiver;
    *receiver = boxed(bound);
    return 1;
}

/* Whether the methods of a class may be kept in a cache: they change no more. */
static inline int is_complete(gc_word class) {
    return __atomic_load_n(&numbers_of_class(class)->complete, __ATOMIC_ACQUIRE) != 0;
}

/* Replaces the receiver at *at by its property.  What the cache does not know.  SAFEPOINT. */
static int get_property(lox_thread *t, gc_word *at, lox_cache *c, gc_word name) {
    gc_word layout, added, *field, value, method, class;
    if (!has_shape(*at, LOX_INSTANCE)) return fail(t, "Only instances have properties.");
    layout = acquired(element_at(*at, INSTANCE_LAYOUT));
    added = find_field(layout, name);
    if (added) {
        field = field_at(*at, offset_of(added));
        value = field ? acquired(field) : LOX_ABSENT;
        if (value != LOX_ABSENT) {
            fill_cache(c, layout, 0, offset_of(added));
            *at = value;
            return 1;
        }
    }
    class = slot(layout, LAYOUT_CLASS);
    method = find_method(class, name);
    if (!method) return undefined_property(t, name);
    if (!added && is_complete(class)) fill_cache(c, layout, method, 0);
    return bind(t, at, method);
}

/* The instance below the top of the stack gets what is on top; both go, the value stays. */
static int set_property(lox_thread *t, lox_cache *c, gc_word *name) {
    gc_word *at = top(t) - 2, layout, added, child;
    uint64_t offset;
    if (!has_shape(*at, LOX_INSTANCE)) return fail(t, "Only instances have fields.");
    for (;;) {
        gc_word *field;
        layout = acquired(element_at(*at, INSTANCE_LAYOUT));
        added = find_field(layout, *name);
        if (added) {
            offset = offset_of(added);
            field = field_at(*at, offset);
            if (!field) {
                if (!lengthen(t, at, offset & ~IN_CHAIN)) return 0;
                continue;
            }
            publish(t->m, *at, field, at[1]);
            fill_cache(c, layout, 0, offset);
            break;
        }
        push(t, *name), push(t, layout);
        if (!step_to_child(t)) return 0;
        child = top(t)[-1];
        offset = offset_of(child);
        if (offset & IN_CHAIN) {
            if (!lengthen(t, at, offset & ~IN_CHAIN)) return 0;
            child = top(t)[-1];
            if (offset == IN_CHAIN) {       /* the first that finds no room inside */
                gc_word class = slot(child, LAYOUT_CLASS);
                uint32_t capacity = numbers_of_layout(child)->capacity;
                if (capacity_of(class) == capacity && capacity < MOST_CAPACITY) {
                    push(t, class);
                    if (!plant(t, top(t) - 1, capacity < 4 ? 4 : 2 * capacity)) return 0;
                    pop(t);
                    child = top(t)[-1];
                }
            }
        }
        layout = slot(child, LAYOUT_PARENT);
        t->m->shadow_top -= 2;
        if (!exchange(t->m, *at, element_at(*at, INSTANCE_LAYOUT), layout, child)) continue;
        publish(t->m, *at, field_at(*at, offset), at[1]);
        if (!(offset & IN_CHAIN)) fill_cache(c, layout, child, offset);    /* there is room */
        break;
    }
    at[0] = at[1];
    pop(t);
    return 1;
}
#endif
