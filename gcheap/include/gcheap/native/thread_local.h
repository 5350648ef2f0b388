/* The calling thread's list of mutators, and a hook for its end.  Included by one module.
 *
 * Initial-exec, so that the fault path reaches it without an allocation or a lock (I4). */
#ifndef GCHEAP_THREAD_LOCAL_H
#define GCHEAP_THREAD_LOCAL_H
#include <pthread.h>

static __thread void *gcheap_thread_head __attribute__((tls_model("initial-exec")));
static pthread_key_t gcheap_thread_key;

static inline void *thread_head_get(void) { return gcheap_thread_head; }

/* A thread with mutators carries a non-null key value, so that its end is noticed. */
static inline void thread_head_set(void *head) {
    gcheap_thread_head = head;
    pthread_setspecific(gcheap_thread_key, head);
}

static inline int thread_end_hook(void (*ended)(void *)) {
    return pthread_key_create(&gcheap_thread_key, ended);
}
#endif
