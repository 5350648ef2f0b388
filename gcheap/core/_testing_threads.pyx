"""Hooks for tests: native threads that end in ways of their own, and what others wait for, held.
Not part of the public interface.

A thread attaches itself, as a runtime's own thread does, and ends without detaching: by
pthread_exit, or because somebody cancels it.
"""
from gcheap._fastpath cimport gc_alloc_array, gc_enter, gc_leave, gc_poll, gc_push
from gcheap.core.failpoint cimport FP_MUTATOR_RUNNING, failpoint
from gcheap.core.layout cimport HeapState, MutatorState, SHAPE_BYTES, word
from gcheap.core.native cimport (
    check_that, load32_acquire, load32_seq, mutex_lock, mutex_unlock, store32_release, thread_id)
from gcheap.core.pinned cimport take_pinned
from gcheap.core.roots cimport handle_value
from gcheap.core.safepoint cimport attach_mutator, drop_owner, thread_mutator
from gcheap.core.signals cimport unblock_sigbus
from gcheap.core.tlab cimport TAKEN
from gcheap.face.ref cimport Ref
from libc.errno cimport ETIMEDOUT
from libc.stdint cimport int64_t, uint32_t, uintptr_t
from libc.stdlib cimport calloc, free

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    int pthread_create(pthread_t*, void*, void* (*)(void*) noexcept nogil, void*)
    void pthread_exit(void*)
    int pthread_cancel(pthread_t)
    void pthread_testcancel()
    int pthread_setcanceltype(int, int*)
    int PTHREAD_CANCEL_ASYNCHRONOUS
    void* PTHREAD_CANCELED

cdef extern from *:
    """
    #include <pthread.h>
    #include <time.h>
    int pthread_timedjoin_np(pthread_t, void **, const struct timespec *);
    static int gcheap_join(pthread_t thread, void **result, int seconds) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += seconds;
        return pthread_timedjoin_np(thread, result, &until);
    }
    """
    int gcheap_join(pthread_t, void**, int) nogil

cdef enum:
    BYTES = 1000                # of an array that only the thread's shadow stack keeps
    WORDS = 8192                # the most that a thread reads

HOW = ("exit outside", "exit running", "poll", "poll async", "read async")

cdef struct Task:
    HeapState* heap
    uint32_t handle             # of what it reads
    uint32_t how
    uint32_t begun              # atomic
    uint32_t words
    int64_t id
    pthread_t thread
    word copy[WORDS]


cdef void* run(void* argument) noexcept nogil:
    cdef Task* task = <Task*>argument
    cdef MutatorState* m = NULL
    cdef word* source
    cdef word* root
    cdef uint32_t i
    cdef int before
    task.id = thread_id()
    if task.heap.server == NULL:
        unblock_sigbus()
    check_that(attach_mutator(task.heap, b"native", &m) == 0, b"a test's thread cannot attach",
               0, 0)
    drop_owner(m)                   # there is no Python object of it
    if task.how:
        gc_enter(m)
        root = gc_push(m, 1)
        root[0] = gc_alloc_array(m, SHAPE_BYTES, BYTES)
    if task.how == 3 or task.how == 4:
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before)
    store32_release(&task.begun, 1)
    if task.how == 1:
        failpoint(FP_MUTATOR_RUNNING)
    while task.how == 2:
        gc_poll(m)
        pthread_testcancel()
    while task.how == 3:
        gc_poll(m)
    while task.how == 4:            # until it is cancelled
        source = <word*>handle_value(task.heap, task.handle)[0]
        for i in range(task.words):
            task.copy[i] = source[i]
        gc_poll(m)
    pthread_exit(NULL)
    return NULL


cdef class NativeThread:
    """A thread attached to the heap of `index`, which ends without detaching.

    "exit outside"   at once, OUTSIDE
    "exit running"   RUNNING, after the failpoint "mutator.running"
    "poll"           RUNNING and polling, until it is cancelled
    "poll async"     the same, where a cancellation is served at any instruction
    "read async"     reads `words` words of `index` again and again, likewise
    """

    cdef Task* task
    cdef object index

    def __cinit__(self, Ref index, str how, uint32_t words=0):
        self.task = <Task*>calloc(1, sizeof(Task))
        self.task.heap = index.core.h
        self.task.handle = index.handle
        self.task.how = HOW.index(how)
        assert words <= WORDS
        self.task.words = words
        self.index = index
        assert pthread_create(&self.task.thread, NULL, run, self.task) == 0

    def __dealloc__(self):
        if self.task != NULL and self.task.thread == 0:
            free(self.task)

    @property
    def begun(self):
        """It is attached and, where it is to be, RUNNING."""
        return bool(load32_acquire(&self.task.begun))

    @property
    def id(self):
        """The kernel's number of the thread."""
        return self.task.id

    def cancel(self):
        pthread_cancel(self.task.thread)

    def join(self, int seconds):
        """Waits for the end, without the GIL; whether it was cancelled.  TimeoutError."""
        cdef void* result = NULL
        cdef int error
        with nogil:
            error = gcheap_join(self.task.thread, &result, seconds)
        if error == ETIMEDOUT:
            raise TimeoutError("the thread does not end")
        assert error == 0
        self.task.thread = 0
        return result == PTHREAD_CANCELED


def pausing(Ref index):
    """Whether a pause has been asked for in the heap of `index`."""
    return bool(load32_seq(&index.core.h.pause))


def hold(Ref index, str what, bint held):
    """Takes and gives back what threads of the heap of `index` wait for.

    "pinned"   the lock of the pinned arrays, as the sweeper has it
    "tlab"     the calling thread's TLAB is being replaced: stats() waits for the end of it
    """
    cdef HeapState* h = index.core.h
    cdef MutatorState* m = thread_mutator(h)
    if what == "tlab":
        store32_release(&m.tlab_changes, m.tlab_changes + 1)
    elif held:
        with nogil:
            mutex_lock(&h.pinned.lock)
    else:
        mutex_unlock(&h.pinned.lock)


def take_pinned_array(uintptr_t mutator):
    """Allocates a pinned array without the GIL; no handle keeps it.

    mutator   Mutator.native() of the calling thread
    """
    cdef MutatorState* m = <MutatorState*>mutator
    cdef int taken
    cdef word at
    with nogil:
        gc_enter(m)
        taken = take_pinned(m.heap, m, BYTES, SHAPE_BYTES, BYTES - 16, &at)
        gc_leave(m)
    assert taken == TAKEN
