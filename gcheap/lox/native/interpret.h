/* The dispatch loop.
 *
 * In registers: ip, sp (first unused word of the stack), slots (of the frame), k (its constants).
 * SAVE() puts them where pauses and slow paths look: before everything that may reach a safepoint.
 * LOAD() takes them from there.  The stack never moves; what its words name does, at safepoints.
 *
 * Safepoints of a program: calls, jumps back, and whatever allocates or prints. */
#ifndef GCHEAP_LOX_INTERPRET_H
#define GCHEAP_LOX_INTERPRET_H
#include "natives.h"

#define A(w) ((w) >> 8 & 0xFF)
#define B(w) ((w) >> 16 & 0xFF)
#define N(w) ((w) >> 8)

/* An object of `bytes` with room in the TLAB, or 0: no safepoint. */
static inline gc_word bump(gc_mutator *m, gc_shape shape, uint64_t bytes) {
    gc_word at = m->tlab_top;
    if (GC_UNLIKELY(bytes > m->tlab_end - at)) return 0;
    __atomic_store_n(&m->tlab_top, at + bytes, __ATOMIC_RELAXED);
    *(gc_word *)at = ((gc_word)shape << 8) | 1;
    return at;
}

/* An instance in the TLAB, boxed, or 0. */
static inline gc_word quick_instance(gc_mutator *m, gc_word class) {
    gc_word layout = acquired(slot_at(class, CLASS_LAYOUT));
    uint64_t capacity = numbers_of_layout(layout)->capacity;
    gc_word *at = (gc_word *)bump(m, LOX_INSTANCE, 8 * (FIELD_WORDS + capacity));
    if (GC_UNLIKELY(!at)) return 0;
    at[1] = INSTANCE_FIELDS + capacity;
    at[2 + INSTANCE_LAYOUT] = layout;
    for (uint64_t i = 0; i < capacity; i++) at[FIELD_WORDS + i] = LOX_ABSENT;
    return boxed((gc_word)at);
}

/* Runs until the outermost frame returns; its result is then on top of the stack.  0: it failed, or
 * was stopped; what is on the stack and in frames then is of no use. */
static int execute(lox_thread *t) {
    static const void *const labels[] = {
#define X(name) &&L_##name,
        LOX_OPCODES(X)
#undef X
    };
    gc_mutator *const m = t->m;
    lox_program *const p = t->program;
    gc_word *const globals = p->globals;
    const uint32_t *const pause = &m->heap->pause;
    char *const caches = (char *)t->caches;
    lox_frame *frame;
    const uint32_t *ip;
    gc_word *sp, *slots, *base;             /* base: where the callee's frame begins */
    const gc_word *k;
    const lox_code *code;                   /* the callee's */
    gc_word closure;
    uint32_t w;

#define SAVE() publish_state(t, frame, ip, sp)
#define LOAD() (frame = t->frame, ip = frame->ip, slots = frame->slots, \
                k = frame->code->constants, sp = m->shadow_top)
#define NEXT() do { w = *ip++; goto *labels[w & 0xFF]; } while (0)
#define DO(name) L_##name
#define SLOW(call) do { SAVE(); if (!(call)) return 0; LOAD(); NEXT(); } while (0)
#define POLL() do { \
        if (GC_UNLIKELY(__atomic_load_n(pause, __ATOMIC_RELAXED))) { \
            SAVE(); \
            gc_api->poll_slow(m); \
            if (stopped(t)) return 0; \
        } } while (0)
#define CACHE(n) ((lox_cache *)(caches + (uint64_t)(n) * 8))
#define SITE_NAME(n) (p->site_names[(n) / 3])

/* Numbers from a and b, or the error. */
#define NUMBERS(a, b, expression) do { \
        if (GC_UNLIKELY(!is_number(a) || !is_number(b))) { SAVE(); goto want_numbers; } \
        { double x = as_number(a), y = as_number(b); expression; } } while (0)
#define ARITHMETIC(operator) \
        NUMBERS(sp[-2], sp[-1], sp[-2] = of_number(x operator y)); sp--; NEXT()
#define ARITHMETIC_K(operator) \
        NUMBERS(sp[-1], k[A(w)], sp[-1] = of_number(x operator y)); NEXT()
#define ARITHMETIC_L(operator) \
        NUMBERS(sp[-1], slots[A(w)], sp[-1] = of_number(x operator y)); NEXT()
#define PUSHED(a, b, operator) NUMBERS(a, b, *sp = of_number(x operator y)); sp++; NEXT()
#define COMPARE(truth) NUMBERS(sp[-2], sp[-1], sp[-2] = of_bool(truth)); sp--; NEXT()
/* The word after the instruction is what to jump over. */
#define BRANCH(condition) do { ip += 1 + ((condition) ? *ip : 0); } while (0)
#define COMPARE_BRANCH(a, b, condition) do { \
        int yes; NUMBERS(a, b, yes = (condition)); BRANCH(yes); } while (0)

    if (stopped(t)) return 0;           /* before it began; later, every pause looks */
    LOAD();
    NEXT();

DO(CONSTANT): *sp++ = k[A(w)]; NEXT();
DO(NIL): *sp++ = LOX_NIL; NEXT();
DO(TRUE): *sp++ = LOX_TRUE; NEXT();
DO(FALSE): *sp++ = LOX_FALSE; NEXT();
DO(POP): sp--; NEXT();

DO(GET_LOCAL): *sp++ = slots[A(w)]; NEXT();
DO(GET_LOCAL_2): sp[0] = slots[A(w)], sp[1] = slots[B(w)], sp += 2; NEXT();
DO(SET_LOCAL): slots[A(w)] = sp[-1]; NEXT();
DO(SET_LOCAL_POP): slots[A(w)] = *--sp; NEXT();

/* ---- captured variables: their stack words name cells ---- */
DO(BOX): {
    gc_word cell = bump(m, LOX_CELL, CELL_BYTES);
    if (GC_UNLIKELY(!cell)) {
        SAVE();
        cell = gc_alloc_sized(m, LOX_CELL, CELL_BYTES);
        if (!cell) return exhausted(t);
    }
    *slot_at(boxed(cell), 0) = slots[A(w)];
    slots[A(w)] = boxed(cell);
    NEXT();
}
DO(NEW_CELL): {
    gc_word cell = bump(m, LOX_CELL, CELL_BYTES);
    if (GC_UNLIKELY(!cell)) {
        SAVE();
        cell = gc_alloc_sized(m, LOX_CELL, CELL_BYTES);
        if (!cell) return exhausted(t);
    }
    *slot_at(boxed(cell), 0) = LOX_NIL;
    *sp++ = boxed(cell);
    NEXT();
}
DO(FILL_CELL): sp--; publish(m, sp[-1], slot_at(sp[-1], 0), sp[0]); NEXT();
DO(GET_CELL): *sp++ = acquired(slot_at(slots[A(w)], 0)); NEXT();
DO(SET_CELL): {
    gc_word cell = slots[A(w)];
    publish(m, cell, slot_at(cell, 0), sp[-1]);
    NEXT();
}
DO(GET_UPVALUE): {
    gc_word cell = element(frame->closure, CLOSURE_CELLS + A(w));
    *sp++ = acquired(slot_at(cell, 0));
    NEXT();
}
DO(SET_UPVALUE): {
    gc_word cell = element(frame->closure, CLOSURE_CELLS + A(w));
    publish(m, cell, slot_at(cell, 0), sp[-1]);
    NEXT();
}

/* ---- global variables ---- */
DO(GET_GLOBAL): {
    gc_word v = acquired(&globals[N(w)]);
    if (GC_UNLIKELY(v == LOX_ABSENT)) goto undefined_variable;
    *sp++ = v;
    NEXT();
}
DO(DEFINE_GLOBAL): __atomic_store_n(&globals[N(w)], *--sp, __ATOMIC_RELEASE); NEXT();
DO(SET_GLOBAL):
    if (GC_UNLIKELY(acquired(&globals[N(w)]) == LOX_ABSENT)) goto undefined_variable;
    __atomic_store_n(&globals[N(w)], sp[-1], __ATOMIC_RELEASE);
    NEXT();
DO(SET_GLOBAL_POP):
    if (GC_UNLIKELY(acquired(&globals[N(w)]) == LOX_ABSENT)) goto undefined_variable;
    __atomic_store_n(&globals[N(w)], *--sp, __ATOMIC_RELEASE);
    NEXT();

/* ---- properties ---- */
DO(GET_LOCAL_PROPERTY): *sp++ = slots[A(w)];    /* and on */
DO(GET_PROPERTY): {
    uint32_t n = *ip++;
    lox_cache *c = CACHE(n);
    gc_word receiver = sp[-1];
    if (GC_LIKELY(is_object(receiver)
                  && acquired(element_at(receiver, INSTANCE_LAYOUT)) == c->key && !c->target)) {
        gc_word *field = field_at(receiver, c->offset);
        if (GC_LIKELY(field != NULL)) {
            gc_word v = acquired(field);
            if (GC_LIKELY(v != LOX_ABSENT)) {
                sp[-1] = v;
                NEXT();
            }
        }
    }
    SLOW(get_property(t, sp - 1, c, SITE_NAME(n)));
}
DO(SET_PROPERTY): {
    uint32_t n = *ip++;
    if (GC_LIKELY(quick_set(t, CACHE(n), sp[-2], sp[-1]))) {
        sp[-2] = sp[-1], sp--;
        NEXT();
    }
    SLOW(set_property(t, CACHE(n), &SITE_NAME(n)));
}
DO(SET_PROPERTY_POP): {
    uint32_t n = *ip++;
    if (GC_LIKELY(quick_set(t, CACHE(n), sp[-2], sp[-1]))) {
        sp -= 2;
        NEXT();
    }
    SAVE();
    if (!set_property(t, CACHE(n), &SITE_NAME(n))) return 0;
    LOAD();
    sp--;
    NEXT();
}
DO(GET_SUPER): SLOW(get_super(t, k[A(w)]));


/* ---- operators ---- */
DO(EQUAL): sp--, sp[-1] = of_bool(equal_values(sp[-1], sp[0])); NEXT();
DO(NOT_EQUAL): sp--, sp[-1] = of_bool(!equal_values(sp[-1], sp[0])); NEXT();
DO(EQUAL_K): sp[-1] = of_bool(equal_values(sp[-1], k[A(w)])); NEXT();
DO(NOT_EQUAL_K): sp[-1] = of_bool(!equal_values(sp[-1], k[A(w)])); NEXT();
DO(GREATER): COMPARE(x > y);
DO(LESS): COMPARE(x < y);
DO(NOT_GREATER): COMPARE(!(x > y));
DO(NOT_LESS): COMPARE(!(x < y));
DO(SUBTRACT): ARITHMETIC(-);
DO(MULTIPLY): ARITHMETIC(*);
DO(DIVIDE): ARITHMETIC(/);
DO(SUBTRACT_K): ARITHMETIC_K(-);
DO(MULTIPLY_K): ARITHMETIC_K(*);
DO(DIVIDE_K): ARITHMETIC_K(/);
DO(SUBTRACT_L): ARITHMETIC_L(-);
DO(SUBTRACT_LK): PUSHED(slots[A(w)], k[B(w)], -);
DO(SUBTRACT_LL): PUSHED(slots[A(w)], slots[B(w)], -);
DO(MULTIPLY_LL): PUSHED(slots[A(w)], slots[B(w)], *);
DO(ADD_K): *sp++ = k[A(w)]; goto add;
DO(ADD_L): *sp++ = slots[A(w)]; goto add;
DO(ADD_LK): sp[0] = slots[A(w)], sp[1] = k[B(w)], sp += 2; goto add;
DO(ADD_LL): sp[0] = slots[A(w)], sp[1] = slots[B(w)], sp += 2; goto add;
DO(ADD):
add: {
    gc_word a = sp[-2], b = sp[-1];
    if (GC_LIKELY(is_number(a) && is_number(b))) {
        sp[-2] = of_number(as_number(a) + as_number(b)), sp--;
        NEXT();
    }
    SAVE();
    if (!has_shape(a, LOX_STRING) || !has_shape(b, LOX_STRING))
        return fail(t, "Operands must be two numbers or two strings.");
    if (!concatenate(t)) return 0;
    LOAD();
    NEXT();
}
DO(NOT): sp[-1] = of_bool(is_falsey(sp[-1])); NEXT();
DO(NEGATE):
    if (GC_UNLIKELY(!is_number(sp[-1]))) {
        SAVE();
        return fail(t, "Operand must be a number.");
    }
    sp[-1] = of_number(-as_number(sp[-1]));
    NEXT();
DO(PRINT):
    SAVE();
    print_value(t, sp[-1]);
    if (stopped(t)) return 0;
    sp--;
    NEXT();

/* ---- jumps ---- */
DO(JUMP): ip += N(w); NEXT();
DO(JUMP_IF_FALSE): if (is_falsey(sp[-1])) ip += N(w); NEXT();
DO(JUMP_IF_TRUE): if (!is_falsey(sp[-1])) ip += N(w); NEXT();
DO(POP_JUMP_IF_FALSE): if (is_falsey(*--sp)) ip += N(w); NEXT();
DO(POP_JUMP_IF_TRUE): if (!is_falsey(*--sp)) ip += N(w); NEXT();
DO(JUMP_UNLESS_LOCAL): BRANCH(is_falsey(slots[A(w)])); NEXT();
DO(JUMP_UNLESS_LESS): sp -= 2; COMPARE_BRANCH(sp[0], sp[1], !(x < y)); NEXT();
DO(JUMP_UNLESS_GREATER): sp -= 2; COMPARE_BRANCH(sp[0], sp[1], !(x > y)); NEXT();
DO(JUMP_IF_LESS): sp -= 2; COMPARE_BRANCH(sp[0], sp[1], x < y); NEXT();
DO(JUMP_IF_GREATER): sp -= 2; COMPARE_BRANCH(sp[0], sp[1], x > y); NEXT();
DO(JUMP_UNLESS_LESS_LK): COMPARE_BRANCH(slots[A(w)], k[B(w)], !(x < y)); NEXT();
DO(JUMP_UNLESS_GREATER_LK): COMPARE_BRANCH(slots[A(w)], k[B(w)], !(x > y)); NEXT();
DO(JUMP_UNLESS_LESS_LL): COMPARE_BRANCH(slots[A(w)], slots[B(w)], !(x < y)); NEXT();
DO(JUMP_UNLESS_EQUAL): sp -= 2; BRANCH(!equal_values(sp[0], sp[1])); NEXT();
DO(JUMP_IF_EQUAL): sp -= 2; BRANCH(equal_values(sp[0], sp[1])); NEXT();
DO(JUMP_UNLESS_EQUAL_K): sp--; BRANCH(!equal_values(sp[0], k[A(w)])); NEXT();
DO(JUMP_IF_EQUAL_K): sp--; BRANCH(equal_values(sp[0], k[A(w)])); NEXT();
DO(LOOP): ip -= N(w); POLL(); NEXT();

/* ---- calls ---- */
DO(CALL):
    base = sp - 1 - A(w);
    closure = *base;
call:
    if (GC_UNLIKELY(!is_object(closure))) goto slow_call;
    if (GC_LIKELY(gc_shape_of(address_of(closure)) == LOX_CLOSURE)) goto quick_call;
    if (gc_shape_of(address_of(closure)) == LOX_CLASS) {
        gc_word instance = quick_instance(m, closure);
        if (GC_UNLIKELY(!instance)) goto slow_call;
        closure = acquired(slot_at(closure, CLASS_INIT));
        if (closure || !A(w)) *base = instance;
        if (closure) goto quick_call;
        if (!A(w)) NEXT();
    }
slow_call:
    SLOW(call_value(t, A(w)));

quick_call:
    code = (const lox_code *)element(closure, CLOSURE_CODE);
    if (GC_UNLIKELY(code->quick_arity != A(w))) SLOW(call_closure(t, closure, A(w)));
enter:
    if (GC_UNLIKELY(frame == t->frames + LOX_FRAMES - 1)) {
        SAVE();
        return fail(t, "Stack overflow.");
    }
    frame->ip = ip;
    frame++;
    frame->closure = closure;
    frame->slots = slots = base;
    frame->code = code;
    ip = code->words;
    k = code->constants;
    POLL();
    NEXT();

DO(INVOKE): {
    uint32_t n = *ip++;
    lox_cache *c = CACHE(n);
    base = sp - 1 - A(w);
    if (GC_LIKELY(is_object(*base)
                  && acquired(element_at(*base, INSTANCE_LAYOUT)) == c->key)) {
        gc_word *field;
        closure = c->target;
        if (GC_LIKELY(closure)) {
            code = (const lox_code *)element(closure, CLOSURE_CODE);
            goto enter;
        }
        field = field_at(*base, c->offset);
        if (field && (closure = acquired(field)) != LOX_ABSENT) {
            *base = closure;
            goto call;
        }
    }
    SLOW(invoke(t, c, SITE_NAME(n), A(w)));
}
DO(SUPER_INVOKE): {
    uint32_t n = *ip++;
    lox_cache *c = CACHE(n);
    if (GC_LIKELY(sp[-1] == c->key)) {
        sp--;
        base = sp - 1 - A(w);
        closure = c->target;
        code = (const lox_code *)element(closure, CLOSURE_CODE);
        goto enter;
    }
    SLOW(invoke_super(t, c, SITE_NAME(n), A(w)));
}
/* The cache is that of an ordinary invocation, for receivers that are no arrays. */
DO(ARRAY_GET): {
    gc_word array = sp[-2];
    if (GC_LIKELY(has_shape(array, LOX_ARRAY))) {
        uint64_t i = index_below(sp[-1], array_length(array));
        if (GC_LIKELY(i != UINT64_MAX)) {
            ip++, sp--;
            sp[-1] = acquired(element_at(array, 1 + i));
            NEXT();
        }
    }
    goto *labels[OP_INVOKE];
}
DO(ARRAY_SET): {
    gc_word array = sp[-3];
    if (GC_LIKELY(has_shape(array, LOX_ARRAY))) {
        uint64_t i = index_below(sp[-2], array_length(array));
        if (GC_LIKELY(i != UINT64_MAX)) {
            gc_word v = sp[-1];
            ip++, sp -= 2;
            publish(m, array, element_at(array, 1 + i), v);
            sp[-1] = v;
            NEXT();
        }
    }
    goto *labels[OP_INVOKE];
}
DO(RETURN_LOCAL): *sp++ = slots[A(w)]; goto back;
DO(RETURN_NIL): *sp++ = LOX_NIL; goto back;
DO(RETURN):
back: {
    gc_word v = sp[-1];
    sp = slots;
    *sp++ = v;
    if (GC_UNLIKELY(frame == t->frames)) {
        t->frame = frame - 1;
        t->frame_words = 0;
        m->shadow_top = sp;
        return 1;
    }
    frame--;
    slots = frame->slots, ip = frame->ip, k = frame->code->constants;
    NEXT();
}

/* ---- declarations ---- */
DO(CLOSURE): {
    uint64_t cells = w >> 16, length = CLOSURE_CELLS + cells;
    gc_word *at = (gc_word *)bump(m, LOX_CLOSURE, 16 + 8 * length);
    gc_word function;
    if (GC_LIKELY(at != NULL)) {
        at[1] = length;
    } else {
        SAVE();
        at = (gc_word *)gc_alloc_array(m, LOX_CLOSURE, length);
        if (!at) return exhausted(t);
    }
    function = k[A(w)];
    at[2 + CLOSURE_FUNCTION] = function;
    at[2 + CLOSURE_CODE] = *(gc_word *)gc_raw(address_of(function), 1);
    for (uint64_t i = 0; i < cells; i++) {
        uint32_t from = *ip++;              /* 256: a local of this function, and which */
        at[2 + CLOSURE_CELLS + i] = from & 256 ? slots[from & 255]
                                               : element(frame->closure, CLOSURE_CELLS + from);
    }
    *sp++ = boxed((gc_word)at);
    NEXT();
}
DO(CLASS): {
    SAVE();
    *sp = k[A(w)], m->shadow_top++;
    if (!make_class(t, sp, B(w))) return 0;
    *sp = pop(t);
    LOAD();
    NEXT();
}
DO(INHERIT): SLOW(inherit(t));
DO(METHOD): SLOW(define_method(t, k[A(w)]));
DO(CLASS_END): SLOW(end_class(t));

want_numbers:
    return fail(t, "Operands must be numbers.");
undefined_variable:
    SAVE();
    return fail_named(t, "Undefined variable '", p->global_names[N(w)], "'.");
#undef SAVE
#undef LOAD
#undef NEXT
#undef DO
#undef SLOW
#undef POLL
#undef CACHE
}
#endif
