"""Native threads of a heap.  See threads.pyx."""

ctypedef void* (*thread_main)(void*) noexcept nogil

cdef int start_thread(unsigned long* thread, const char* name, thread_main main,
                      void* argument) noexcept nogil                    # errno
cdef void join_thread(unsigned long* thread) noexcept nogil
