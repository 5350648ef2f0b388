"""Every HeapState of this process, in the order in which they were made: what a fork walks.

A heap is listed from when it has its locks, and no descriptor yet, until its memory is freed,
closed or not: a thread may still end, and so take the lock of its list of mutators, long after the
heap was closed.
No RUNNING mutator and no collector ever takes this lock, so a fork may hold it throughout.
"""
from gcheap.core.layout cimport HeapState
from gcheap.core.native cimport mutex_lock, mutex_unlock
from libc.stdint cimport uint32_t

cdef uint32_t list_lock = 0
cdef HeapState* first = NULL
cdef HeapState* last = NULL


cdef void enlist_heap(HeapState* h) noexcept nogil:
    global first, last
    mutex_lock(&list_lock)
    h.previous_live = last
    h.next_live = NULL
    if last == NULL:
        first = h
    else:
        last.next_live = h
    last = h
    mutex_unlock(&list_lock)


cdef void strike_heap(HeapState* h) noexcept nogil:
    """Takes a heap off the list, if it is there.  Waits while a fork is going on."""
    global first, last
    mutex_lock(&list_lock)
    if h.previous_live != NULL:
        h.previous_live.next_live = h.next_live
    elif first == h:
        first = h.next_live
    if h.next_live != NULL:
        h.next_live.previous_live = h.previous_live
    elif last == h:
        last = h.previous_live
    mutex_unlock(&list_lock)


cdef void lock_heaps() noexcept nogil:
    mutex_lock(&list_lock)


cdef void unlock_heaps() noexcept nogil:
    mutex_unlock(&list_lock)


cdef HeapState* first_heap() noexcept nogil:
    return first


cdef HeapState* last_heap() noexcept nogil:
    return last
