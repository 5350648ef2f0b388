/* Output, buffered for each thread, and error messages.
 *
 * A thread writes outside the heap (a RUNNING thread must not block).  What it printed is written
 * when its buffer is full, up to the last whole line; before it starts or joins a thread; before an
 * error message; and at its end.  On a terminal, at the end of every line. */
#ifndef GCHEAP_LOX_OUTPUT_H
#define GCHEAP_LOX_OUTPUT_H
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "program.h"

/* All of it, or the errno. */
static int write_all(int fd, const char *bytes, uint64_t n) {
    while (n) {
        ssize_t written = write(fd, bytes, n);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return errno;
        bytes += written, n -= (uint64_t)written;
    }
    return 0;
}

/* Every thread ends where it looks next, without a message; who waits in join() looks now.  Any
 * thread that is not RUNNING. */
static void stop_program(lox_program *p) {
    pthread_mutex_lock(&p->lock);
    __atomic_store_n(&p->stop, 1, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&p->ended);
    pthread_mutex_unlock(&p->lock);
}

/* The first `n` bytes of the buffer.  Not RUNNING. */
static void write_output(lox_thread *t, uint64_t n) {
    int none = 0, error = n ? write_all(t->program->out, t->output, n) : 0;
    if (error) {                        /* nobody reads any more: every thread ends */
        __atomic_compare_exchange_n(&t->program->output_error, &none, error, 0, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
        stop_program(t->program);
    }
    memmove(t->output, t->output + n, t->output_length - n);
    t->output_length -= n;
}

/* SAFEPOINT: the thread leaves the heap meanwhile. */
static void flush_output(lox_thread *t) {
    if (!t->output_length) return;
    gc_leave(t->m);
    write_output(t, t->output_length);
    gc_enter(t->m);
}

/* Room for `n` bytes, at most LOX_OUTPUT / 2.  SAFEPOINT. */
static char *room_for(lox_thread *t, uint64_t n) {
    if (GC_UNLIKELY(t->output_length + n > LOX_OUTPUT)) {
        uint64_t whole = t->output_length;
        while (whole && t->output[whole - 1] != '\n') whole--;
        gc_leave(t->m);
        write_output(t, whole > LOX_OUTPUT / 2 ? whole : t->output_length);
        gc_enter(t->m);
    }
    return t->output + t->output_length;
}

static void put(lox_thread *t, const char *bytes, uint64_t n) {
    memcpy(room_for(t, n), bytes, n);
    t->output_length += n;
}

/* The string on top of the stack, in pieces: it moves between them. */
static void put_string(lox_thread *t) {
    uint64_t n = character_count(top(t)[-1]), at = 0;
    while (at < n) {
        uint64_t piece = n - at < LOX_OUTPUT / 2 ? n - at : LOX_OUTPUT / 2;
        char *into = room_for(t, piece);
        memcpy(into, characters(top(t)[-1]) + at, piece);
        t->output_length += piece, at += piece;
    }
}

static void put_function(lox_thread *t, gc_word closure) {
    const lox_code *code = (const lox_code *)element(closure, CLOSURE_CODE);
    if (!code->name) { put(t, "<script>", 8); return; }
    put(t, "<fn ", 4);
    for (uint64_t at = 0; at < code->name_length; at += LOX_OUTPUT / 2)     /* not in the heap */
        put(t, code->name + at, code->name_length - at < LOX_OUTPUT / 2 ? code->name_length - at
                                                                        : LOX_OUTPUT / 2);
    put(t, ">", 1);
}

static void put_named(lox_thread *t, gc_word name) {
    push(t, name);
    put_string(t);
    pop(t);
}

/* A value, without a newline.  SAFEPOINT. */
static void put_value(lox_thread *t, gc_word v) {
    char number[40];
    if (is_number(v)) {
        put(t, number, (uint64_t)snprintf(number, sizeof number, "%g", as_number(v)));
        return;
    }
    if (!is_object(v)) {
        if (v == LOX_NIL) put(t, "nil", 3);
        else if (v == LOX_TRUE) put(t, "true", 4);
        else put(t, "false", 5);
        return;
    }
    switch (gc_shape_of(address_of(v))) {
    case LOX_STRING: put_named(t, v); break;
    case LOX_CLOSURE: put_function(t, v); break;
    case LOX_BOUND: put_function(t, slot(v, BOUND_METHOD)); break;
    case LOX_CLASS: put_named(t, slot(v, CLASS_NAME)); break;
    case LOX_INSTANCE:
        put_named(t, slot(slot(element(v, INSTANCE_LAYOUT), LAYOUT_CLASS), CLASS_NAME));
        put(t, " instance", 9);
        break;
    case LOX_NATIVE: put(t, "<native fn>", 11); break;
    case LOX_ARRAY: put(t, "<array>", 7); break;
    default: put(t, "<thread>", 8); break;
    }
}

static void print_value(lox_thread *t, gc_word v) {
    put_value(t, v);
    put(t, "\n", 1);
    if (GC_UNLIKELY(t->program->interactive)) flush_output(t);
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* Where every frame is, innermost first, as the book prints it.  Not RUNNING. */
static void write_trace(lox_thread *t, FILE *into) {
    for (lox_frame *frame = t->frame; frame >= t->frames; frame--) {
        const lox_code *code = frame->code;
        fprintf(into, "[line %u] in ", code->lines[frame->ip - code->words - 1]);
        if (code->name) {
            fwrite(code->name, 1, code->name_length, into);
            fputs("()\n", into);
        } else {
            fputs("script\n", into);
        }
    }
}

static int fail_text(lox_thread *t, const char *text, uint64_t n) {
    char *whole = NULL;
    size_t size = 0;
    FILE *into;
    gc_leave(t->m);
    write_output(t, t->output_length);
    into = open_memstream(&whole, &size);       /* one write: threads may fail together */
    if (into) {
        fwrite(text, 1, n, into);
        fputc('\n', into);
        write_trace(t, into);
        fclose(into);
        write_all(t->program->err, whole, size);
        free(whole);
    }
    gc_enter(t->m);
    return 0;
}

static int fail(lox_thread *t, const char *format, ...) {
    char text[512];
    va_list arguments;
    int n;
    va_start(arguments, format);
    n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return fail_text(t, text, n < (int)sizeof text ? (uint64_t)n : sizeof text - 1);
}

/* "before" NAME "after", with a name of any length and any bytes. */
static int fail_named(lox_thread *t, const char *before, gc_word name, const char *after) {
    uint64_t n = character_count(name), b = strlen(before), a = strlen(after);
    char *text = malloc(b + n + a);
    int result;
    if (!text) return fail(t, "Out of memory.");
    memcpy(text, before, b);
    memcpy(text + b, characters(name), n);
    memcpy(text + b + n, after, a);
    result = fail_text(t, text, b + n + a);
    free(text);
    return result;
}

static int exhausted(lox_thread *t) { return fail(t, "Out of memory: %s.", gc_error_message()); }

/* Ends the thread without a word: output failed, or Ctrl-C. */
static int stopped_program(const lox_program *p) {
    return GC_UNLIKELY(__atomic_load_n(&p->stop, __ATOMIC_RELAXED));
}
static int stopped(lox_thread *t) { return stopped_program(t->program); }
#endif
