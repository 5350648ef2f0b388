/* Threads of Lox programs: each is a thread of the system and a mutator of the heap.
 *
 * A thread object in the heap has the function, the result, and a number.  The native lox_thread of
 * that number is in the program's list until the thread has ended; then the result is there.  So whoever
 * joins waits, outside the heap, until the number is in the list no more.
 *
 *     spawn   handle on the object -> pthread_create -> the new thread attaches, takes the object
 *             from the handle, calls the function, stores the result, detaches, leaves the list
 *     join    leaves the heap; waits on `ended`; enters; reads the result.  Threads may join each
 *             other: stop_program() wakes them
 */
#ifndef GCHEAP_LOX_THREADS_H
#define GCHEAP_LOX_THREADS_H
#include <signal.h>
#include <sys/mman.h>
#include "calls.h"

static int execute(lox_thread *t);

static void *map_words(uint64_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

enum { CACHE_BYTES = LOX_SITES * sizeof(lox_cache) };

static lox_thread *new_thread(lox_program *p) {
    lox_thread *t = map_words(sizeof *t);
    if (!t) return NULL;
    t->caches = map_words(CACHE_BYTES);
    if (!t->caches) { munmap(t, sizeof *t); return NULL; }
    t->program = p;
    t->frame = t->frames - 1;
    return t;
}

static void free_thread(lox_thread *t) {
    munmap(t->caches, CACHE_BYTES);
    munmap(t, sizeof *t);
}

/* Makes the calling thread the mutator of `t`, RUNNING.  0: it could not be; gc_error_message(). */
static int begin_thread(lox_thread *t, const char *name) {
    t->m = gc_attach(t->program->heap, name);
    if (!t->m) return 0;
    gc_enter(t->m);
    t->base = t->m->shadow_top;
    if (!gc_add_roots(t->m, (gc_word *)t->frames, &t->frame_words, NULL)
        || !gc_add_roots(t->m, (gc_word *)t->caches, &t->program->cache_words, NULL)) {
        gc_detach(t->m);
        return 0;
    }
    return 1;
}

/* Back to where no function runs. */
static void reset(lox_thread *t) {
    t->frame = t->frames - 1;
    t->frame_words = 0;
    t->m->shadow_top = t->base;
}

/* Calls the value at base[0], which has no arguments; the result is in its place.  0: it failed. */
static int call_at_base(lox_thread *t) {
    return call_value(t, 0) && (t->frame < t->frames || execute(t));
}

static void end_of_thread(lox_thread *t) {
    lox_program *p = t->program;
    pthread_mutex_lock(&p->lock);
    for (lox_thread **at = &p->spawned; *at; at = &(*at)->next)
        if (*at == t) { *at = t->next; break; }
    pthread_cond_broadcast(&p->ended);
    pthread_mutex_unlock(&p->lock);
    free_thread(t);                     /* `p` may be gone already */
}

static void *thread_main(void *data) {
    lox_thread *t = data;
    int done = 0;
    if (begin_thread(t, "lox")) {
        push(t, boxed(gc_handle_load(t->m, t->self)));
        gc_drop_handle(t->program->heap, t->self);
        t->base++;                      /* the object stays below what runs */
        push(t, slot(t->base[-1], THREAD_FUNCTION));
        done = !stopped(t) && call_at_base(t);
        if (done)
            publish(t->m, t->base[-1], slot_at(t->base[-1], THREAD_RESULT), t->base[0]);
        t->base--;
        gc_leave(t->m);
        write_output(t, t->output_length);
        gc_detach(t->m);
    } else {
        char line[300];
        int n = snprintf(line, sizeof line, "Cannot start a thread: %s.\n", gc_error_message());
        write_all(t->program->err, line, n < (int)sizeof line ? (uint64_t)n : sizeof line - 1);
        gc_drop_handle(t->program->heap, t->self);
    }
    if (!done) __atomic_store_n(&t->program->failed, 1, __ATOMIC_RELAXED);
    end_of_thread(t);
    return NULL;
}

/* Starts `t` with every signal blocked but the heap's SIGBUS: signals are the embedder's. */
static int start_thread(lox_thread *t) {
    pthread_t id;
    pthread_attr_t attributes;
    sigset_t all, before;
    int error;
    sigfillset(&all);
    sigdelset(&all, SIGBUS), sigdelset(&all, SIGSEGV);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&id, &attributes, thread_main, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

static int native_spawn(lox_thread *t, uint32_t count, gc_word *a) {
    lox_program *p = t->program;
    lox_thread *made;
    gc_word object;
    int error;
    (void)count;
    if (!has_shape(a[0], LOX_CLOSURE) && !has_shape(a[0], LOX_CLASS)
        && !has_shape(a[0], LOX_BOUND) && !has_shape(a[0], LOX_NATIVE))
        return fail(t, "Can only call functions and classes.");
    object = gc_alloc(t->m, LOX_THREAD);
    if (!object) return exhausted(t);
    a[-1] = boxed(object);
    *slot_at(a[-1], THREAD_FUNCTION) = a[0];
    *slot_at(a[-1], THREAD_RESULT) = LOX_NIL;
    made = new_thread(p);
    if (!made || !(made->self = gc_new_handle(t->m, object))) {
        if (made) free_thread(made);
        return fail(t, "Cannot start a thread: no memory.");
    }
    __atomic_store_n(&p->threaded, 1, __ATOMIC_RELAXED);    /* ordered by pthread_create */
    gc_leave(t->m);
    write_output(t, t->output_length);
    pthread_mutex_lock(&p->lock);
    made->number = ++p->thread_count;
    made->next = p->spawned;
    p->spawned = made;
    pthread_mutex_unlock(&p->lock);
    gc_enter(t->m);
    /* Relaxed: it is one of the slots that the marker reads. */
    __atomic_store_n(number_of_thread(a[-1]), made->number, __ATOMIC_RELAXED);
    gc_leave(t->m);
    error = start_thread(made);
    if (error) {
        gc_drop_handle(p->heap, made->self);
        end_of_thread(made);
    }
    gc_enter(t->m);
    return error ? fail(t, "Cannot start a thread: %s.", strerror(error)) : 1;
}

/* Waits until thread `number` has ended, or the program is stopped; 0: until every one has.  Not
 * RUNNING. */
static void wait_for_threads(lox_program *p, uint64_t number) {
    lox_thread *at;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        for (at = p->spawned; at && number && at->number != number; at = at->next) {}
        if (!at || (number && stopped_program(p))) break;
        pthread_cond_wait(&p->ended, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

static int native_join(lox_thread *t, uint32_t count, gc_word *a) {
    uint64_t number;
    (void)count;
    if (!has_shape(a[0], LOX_THREAD)) return fail(t, "Can only join threads.");
    number = __atomic_load_n(number_of_thread(a[0]), __ATOMIC_RELAXED);
    if (number == t->number && number) return fail(t, "A thread cannot join itself.");
    gc_leave(t->m);
    write_output(t, t->output_length);
    wait_for_threads(t->program, number);
    gc_enter(t->m);
    a[-1] = acquired(slot_at(a[0], THREAD_RESULT));
    return 1;
}
#endif
