"""Waiting for the kernel to have memory.  See memory_wait.pyx."""
from gcheap.core.layout cimport HeapState
from libc.stdint cimport uint32_t, uint64_t

cdef struct MemoryWait:         # one thread's, on its stack
    uint64_t since_ns           # the first refusal of an unbroken row; 0: none
    uint32_t told               # 1: counted in HeapState.starving


cdef inline void begin_wait(MemoryWait* w) noexcept nogil:
    w.since_ns = 0
    w.told = 0


cdef void await_memory(HeapState* h, MemoryWait* w) noexcept nogil
cdef void end_wait(HeapState* h, MemoryWait* w) noexcept nogil
