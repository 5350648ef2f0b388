"""Warnings of mutators that keep a pause waiting.  See watchdog.pyx."""
from gcheap.core.layout cimport HeapState, MutatorState
from gcheap.core.records cimport PauseRecord
from libc.stdint cimport uint32_t, uint64_t

cdef uint64_t wait_for_stop(HeapState* h, MutatorState* m, const PauseRecord* pause,
                            uint32_t seen, uint64_t warn_after) noexcept nogil
