/* What the C programs of these tests share: a check, a start with a heap, an end without one. */
#ifndef CHECKING_H
#define CHECKING_H
#include "gcheap_python.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(fact)                                                                           \
    do {                                                                                      \
        if (!(fact)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s (last message: %s)\n", __FILE__, __LINE__,     \
                    #fact, gc_api ? gc_error_message() : "none");                             \
            exit(1);                                                                          \
        }                                                                                     \
    } while (0)

#define CHECK_MESSAGE(part) CHECK(strstr(gc_error_message(), part) != NULL)

/* argv: the Python interpreter, and the heap's options. */
static gc_heap *begin(char **argv, const gc_tag_rule *tag) {
    gc_heap *heap;
    CHECK(argv[1] && argv[2]);
    CHECK(gc_start(argv[1]) == 0);
    heap = gc_new_heap(argv[2], tag);
    CHECK(heap);
    return heap;
}

static int end(gc_heap *heap) {
    CHECK(gc_close_heap(heap) == 0);
    CHECK(gc_stop() == 0);
    puts("done");
    return 0;
}
#endif
