/* Tables in the heap: open addressing with linear probing, at most three quarters full.
 *
 * Methods: (name, closure) in elements 2i and 2i + 1.  One thread fills a class's table, while it
 * runs the class declaration; others may read it meanwhile: a closure is stored before its name.
 *
 * Sets of layouts, by the name of their last field: one word for each, so that threads that
 * race can at most lose an entry, and what is lost is made again.
 *
 * Both grow into a new table, which is published whole. */
#ifndef GCHEAP_LOX_TABLES_H
#define GCHEAP_LOX_TABLES_H
#include "strings.h"

enum { TABLE_LEAST = 8 };               /* elements */

static inline uint64_t home_of(gc_word name, uint64_t places) {
    return spread(string_hash(name)) & (places - 1);
}

/* ---- methods ------------------------------------------------------------------------------------- */

/* The place of `name` in a table of pairs, or the free one where it belongs. */
static gc_word *pair_of(gc_word table, gc_word name) {
    uint64_t places = length_of(table) / 2;
    for (uint64_t i = home_of(name, places);; i = (i + 1) & (places - 1)) {
        gc_word *at = element_at(table, 2 * i), key = acquired(at);
        if (!key || key == name) return at;
    }
}

/* The method of a class by its name; 0: it has none. */
static gc_word find_method(gc_word class, gc_word name) {
    gc_word table = acquired(slot_at(class, CLASS_METHODS)), *at;
    if (!table) return 0;
    at = pair_of(table, name);
    return acquired(at) ? acquired(at + 1) : 0;
}

/* One thread writes it; the marker reads the word as a slot. */
static inline void count_methods(gc_word class, uint32_t count) {
    __atomic_store_n(&numbers_of_class(class)->methods, count, __ATOMIC_RELAXED);
}

/* Makes room in the table of the class at *class, which is a root, for one more.  SAFEPOINT. */
static int grow_methods(lox_thread *t, gc_word *class) {
    uint32_t count = numbers_of_class(*class)->methods;
    gc_word old = slot(*class, CLASS_METHODS), table;
    uint64_t length = old ? length_of(old) : 0;
    if (old && (count + 1) * 8 <= length * 3) return 1;
    table = gc_alloc_array(t->m, LOX_TABLE, length ? 2 * length : TABLE_LEAST);
    if (!table) return exhausted(t);
    table = boxed(table);
    old = slot(*class, CLASS_METHODS);
    for (uint64_t i = 0; i < length; i += 2)
        if (element(old, i)) {
            gc_word *at = pair_of(table, element(old, i));
            at[1] = element(old, i + 1), at[0] = element(old, i);       /* nobody else has it */
        }
    publish(t->m, *class, slot_at(*class, CLASS_METHODS), table);
    return 1;
}

/* *class and *method are roots.  SAFEPOINT. */
static int add_method(lox_thread *t, gc_word *class, gc_word name_constant, gc_word *method) {
    gc_word *at, table;
    push(t, name_constant);
    if (!grow_methods(t, class)) return 0;
    table = slot(*class, CLASS_METHODS);
    at = pair_of(table, top(t)[-1]);
    publish(t->m, table, at + 1, *method);
    if (!*at) {
        publish(t->m, table, at, top(t)[-1]);
        count_methods(*class, numbers_of_class(*class)->methods + 1);
    }
    if (top(t)[-1] == t->program->words[WORD_INIT])
        publish(t->m, *class, slot_at(*class, CLASS_INIT), *method);
    pop(t);
    return 1;
}

/* All methods of *from into *into, which has none.  SAFEPOINT. */
static int inherit_methods(lox_thread *t, gc_word *from, gc_word *into) {
    gc_word old = acquired(slot_at(*from, CLASS_METHODS)), table;
    uint64_t length;
    uint32_t count = 0;
    if (!old) return 1;
    length = length_of(old);
    push(t, old);
    table = gc_alloc_array(t->m, LOX_TABLE, length);
    if (!table) return exhausted(t);
    old = pop(t), table = boxed(table);
    for (uint64_t i = 0; i < length; i += 2) {
        gc_word key = acquired(element_at(old, i)), *at;
        if (!key) continue;
        at = element_at(table, i);
        at[0] = key, at[1] = element(old, i + 1), count++;
    }
    count_methods(*into, count);
    publish(t->m, *into, slot_at(*into, CLASS_METHODS), table);
    publish(t->m, *into, slot_at(*into, CLASS_INIT), acquired(slot_at(*from, CLASS_INIT)));
    return 1;
}

/* ---- sets of layouts ----------------------------------------------------------------------------- */

static inline gc_word layout_name(gc_word layout) { return slot(layout, LAYOUT_NAME); }

/* The place of the layout that adds `name`, or the free one where it belongs; NULL: there is none,
 * because threads that raced filled the table. */
static gc_word *layout_place(gc_word set, gc_word name) {
    uint64_t places = length_of(set), home = home_of(name, places);
    for (uint64_t i = 0; i < places; i++) {
        gc_word *at = element_at(set, (home + i) & (places - 1)), entry = acquired(at);
        if (!entry || layout_name(entry) == name) return at;
    }
    return NULL;
}

/* The layout of that name in a set; 0: it is not there. */
static gc_word layout_in(gc_word set, gc_word name) {
    gc_word *at = set ? layout_place(set, name) : NULL;
    return at ? acquired(at) : 0;
}

/* Adds *layout to the set in slot `which` of *owner; both are roots.  SAFEPOINT. */
static int add_to_set(lox_thread *t, gc_word *owner, uint64_t which, gc_word *layout) {
    gc_word set = acquired(slot_at(*owner, which)), old, *at;
    uint64_t length = set ? length_of(set) : 0, used = 0;
    for (uint64_t i = 0; i < length; i++) used += element(set, i) != 0;
    if ((used + 1) * 4 > length * 3) {
        set = gc_alloc_array(t->m, LOX_TABLE, length ? 2 * length : TABLE_LEAST);
        if (!set) return exhausted(t);
        set = boxed(set), old = acquired(slot_at(*owner, which));
        /* Another thread may have grown it further: what finds no place here is lost, no more. */
        for (uint64_t i = 0; old && i < length_of(old); i++) {
            gc_word entry = acquired(element_at(old, i));
            if (entry && (at = layout_place(set, layout_name(entry)))) *at = entry;
        }
        if ((at = layout_place(set, layout_name(*layout)))) *at = *layout;
        publish(t->m, *owner, slot_at(*owner, which), set);
        return 1;
    }
    if ((at = layout_place(set, layout_name(*layout)))) publish(t->m, set, at, *layout);
    return 1;
}
#endif
