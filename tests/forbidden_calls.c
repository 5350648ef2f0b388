/* Preloaded, so that I4 can be seen to be broken: wraps whatever handles SIGBUS, and ends the
 * process, saying why, when what I4 forbids is called while the handler runs, or errno comes out
 * changed.
 *
 * Only calls that go from one object file of the process to another can be seen here; those of
 * libc to itself cannot (as malloc's within printf, which nothing in a signal handler may call).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CANARY 4242

static __thread int inside __attribute__((tls_model("initial-exec")));
static void (*theirs)(int, siginfo_t *, void *);
static long handled_faults;

long handled(void) { return __atomic_load_n(&handled_faults, __ATOMIC_RELAXED); }

static void complain(const char *what) {
    const char *said[] = {"on a faulting thread: ", what, "\n"};
    inside = 0;
    for (int i = 0; i < 3; i++)
        if (write(2, said[i], strlen(said[i])) < 0) _exit(98);
    _exit(97);
}

static void around(int signal, siginfo_t *info, void *context) {
    int before = errno;
    errno = CANARY;
    inside++;
    theirs(signal, info, context);
    inside--;
    if (errno != CANARY) complain("errno");
    errno = before;
    __atomic_fetch_add(&handled_faults, 1, __ATOMIC_RELAXED);
}

typedef int sigaction_function(int, const struct sigaction *, struct sigaction *);

/* Who asks for the handler is told of the one that is wrapped. */
int sigaction(int number, const struct sigaction *new, struct sigaction *old) {
    static sigaction_function *real;
    if (!real) real = (sigaction_function *)dlsym(RTLD_NEXT, "sigaction");
    if (number != SIGBUS) return real(number, new, old);
    void (*was)(int, siginfo_t *, void *) = theirs;
    struct sigaction wrapped;
    if (new && (new->sa_flags & SA_SIGINFO)) {
        theirs = new->sa_sigaction;
        wrapped = *new;
        wrapped.sa_sigaction = around;
        new = &wrapped;
    }
    int status = real(number, new, old);
    if (old && (old->sa_flags & SA_SIGINFO) && old->sa_sigaction == around) old->sa_sigaction = was;
    return status;
}

#define FORBIDDEN(type, name, parameters, arguments)                                            \
    type name parameters {                                                                      \
        static type (*real) parameters;                                                         \
        if (inside) complain(#name);                                                            \
        if (!real) real = (type (*) parameters)dlsym(RTLD_NEXT, #name);                         \
        return real arguments;                                                                  \
    }

/* dlsym may allocate, so the allocator is not looked for by it. */
#define FORBIDDEN_ALLOCATOR(type, name, parameters, arguments)                                  \
    extern type __libc_##name parameters;                                                       \
    type name parameters {                                                                      \
        if (inside) complain(#name);                                                            \
        return __libc_##name arguments;                                                         \
    }

FORBIDDEN_ALLOCATOR(void *, malloc, (size_t n), (n))
FORBIDDEN_ALLOCATOR(void *, calloc, (size_t n, size_t size), (n, size))
FORBIDDEN_ALLOCATOR(void *, realloc, (void *p, size_t n), (p, n))
FORBIDDEN_ALLOCATOR(void, free, (void *p), (p))
FORBIDDEN(int, posix_memalign, (void **p, size_t a, size_t n), (p, a, n))
FORBIDDEN(int, pthread_mutex_lock, (pthread_mutex_t *m), (m))
FORBIDDEN(int, pthread_mutex_unlock, (pthread_mutex_t *m), (m))
FORBIDDEN(int, pthread_cond_wait, (pthread_cond_t *c, pthread_mutex_t *m), (c, m))
FORBIDDEN(int, pthread_cond_signal, (pthread_cond_t *c), (c))
FORBIDDEN(int, pthread_rwlock_rdlock, (pthread_rwlock_t *l), (l))
FORBIDDEN(int, pthread_rwlock_wrlock, (pthread_rwlock_t *l), (l))
FORBIDDEN(int, PyGILState_Ensure, (void), ())
FORBIDDEN(void *, PyEval_SaveThread, (void), ())
FORBIDDEN(void, PyEval_RestoreThread, (void *state), (state))
FORBIDDEN(void, PyErr_SetString, (void *type, const char *text), (type, text))
FORBIDDEN(void *, PyObject_Malloc, (size_t n), (n))
FORBIDDEN(void, _Py_Dealloc, (void *object), (object))

/* ---- handlers that break the rule, so that it is seen that this would be seen ---- */

#define HANDLER(name, body)                                                                     \
    static void name(int number, siginfo_t *info, void *context) {                              \
        (void)number; (void)info; (void)context;                                                \
        body;                                                                                   \
    }

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

HANDLER(allocates, free(malloc(8)))
HANDLER(locks, pthread_mutex_lock(&mutex))
HANDLER(takes_the_gil, PyGILState_Ensure())
HANDLER(changes_errno, errno = EINTR)
HANDLER(keeps_it, )

void handle_by(const char *how) {
    struct sigaction action = {.sa_flags = SA_SIGINFO, .sa_sigaction = keeps_it};
    if (!strcmp(how, "allocates")) action.sa_sigaction = allocates;
    if (!strcmp(how, "locks")) action.sa_sigaction = locks;
    if (!strcmp(how, "takes_the_gil")) action.sa_sigaction = takes_the_gil;
    if (!strcmp(how, "changes_errno")) action.sa_sigaction = changes_errno;
    sigaction(SIGBUS, &action, 0);
    raise(SIGBUS);
}
