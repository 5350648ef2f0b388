"""Rings of pause and cycle records.  The collector writes, any thread copies; a futex mutex
guards the rings, taken by the collector outside of pauses only."""
from gcheap.core.layout cimport CycleRecord, Events, Histogram, PauseRecord, RECORDS
from gcheap.core.native cimport mutex_lock, mutex_unlock
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc


cdef Histogram* new_histogram() noexcept nogil:
    return <Histogram*>calloc(1, sizeof(Histogram))


cdef void record_pause(Events* events, const PauseRecord* record) noexcept nogil:
    mutex_lock(&events.lock)
    events.pause[events.pauses % RECORDS] = record[0]
    events.pauses += 1
    mutex_unlock(&events.lock)


cdef void record_cycle(Events* events, const CycleRecord* record) noexcept nogil:
    mutex_lock(&events.lock)
    events.cycle[events.cycles % RECORDS] = record[0]
    events.cycles += 1
    mutex_unlock(&events.lock)


cdef uint64_t copy_pauses(Events* events, PauseRecord* into) noexcept nogil:
    """The last records, oldest first, into an array of RECORDS; returns how many."""
    cdef uint64_t i, n, first
    mutex_lock(&events.lock)
    n = min(events.pauses, <uint64_t>RECORDS)
    first = events.pauses - n
    for i in range(n):
        into[i] = events.pause[(first + i) % RECORDS]
    mutex_unlock(&events.lock)
    return n


cdef uint64_t copy_cycles(Events* events, CycleRecord* into) noexcept nogil:
    """The last records, oldest first, into an array of RECORDS; returns how many."""
    cdef uint64_t i, n, first
    mutex_lock(&events.lock)
    n = min(events.cycles, <uint64_t>RECORDS)
    first = events.cycles - n
    for i in range(n):
        into[i] = events.cycle[(first + i) % RECORDS]
    mutex_unlock(&events.lock)
    return n
