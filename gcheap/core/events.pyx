"""Rings of records: pauses, cycles, their phases, allocation stalls.  The collector writes, whoever
makes a pause of his own, and who has stalled; any thread copies; a futex mutex guards the rings,
taken by their writers outside of pauses only.
"""
from gcheap.core.native cimport mutex_lock, mutex_unlock
from gcheap.core.records cimport (
    CycleRecord, Events, Histogram, PauseRecord, PhaseRecord, RECORDS, StallRecord)
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy


cdef Histogram* new_histogram() noexcept nogil:
    return <Histogram*>calloc(1, sizeof(Histogram))


cdef void record_pause(Events* events, const PauseRecord* record) noexcept nogil:
    mutex_lock(&events.lock)
    events.pause[events.pauses % RECORDS] = record[0]
    events.pauses += 1
    mutex_unlock(&events.lock)


cdef void record_start(Events* events, const CycleRecord* record) noexcept nogil:
    """Shows what is known of a cycle when it starts."""
    mutex_lock(&events.lock)
    events.current = record[0]
    mutex_unlock(&events.lock)


cdef void record_cycle(Events* events, const CycleRecord* record) noexcept nogil:
    mutex_lock(&events.lock)
    events.cycle[events.cycles % RECORDS] = record[0]
    events.cycles += 1
    mutex_unlock(&events.lock)


cdef void record_phase(Events* events, const PhaseRecord* record) noexcept nogil:
    mutex_lock(&events.lock)
    events.phase[events.phases % RECORDS] = record[0]
    events.phases += 1
    mutex_unlock(&events.lock)


cdef void record_stall(Events* events, const StallRecord* record) noexcept nogil:
    mutex_lock(&events.lock)
    events.stall[events.stalls % RECORDS] = record[0]
    events.stalls += 1
    mutex_unlock(&events.lock)


cdef uint64_t copy_since(const void* ring, uint64_t written, uint64_t size, uint64_t* seen,
                         void* into, uint64_t room, uint64_t* lost) noexcept nogil:
    """Under the lock: up to `room` records after the first `seen`, oldest first; returns how many.
    What the ring has overwritten meanwhile is added to `lost`."""
    cdef uint64_t n = written - seen[0], i
    if n > RECORDS:
        lost[0] += n - RECORDS
        seen[0] += n - RECORDS
        n = RECORDS
    n = min(n, room)
    for i in range(n):
        memcpy(<char*>into + i * size,
               <const char*>ring + (seen[0] + i) % RECORDS * size, size)
    seen[0] += n
    return n


cdef uint64_t copy_ring(Events* events, const void* ring, const uint64_t* written, uint64_t size,
                        void* into) noexcept nogil:
    """The last records of `size` bytes, oldest first; returns how many."""
    cdef uint64_t n, oldest, to_end
    mutex_lock(&events.lock)
    n = min(written[0], <uint64_t>RECORDS)
    oldest = (written[0] - n) % RECORDS
    to_end = min(n, RECORDS - oldest)
    memcpy(into, <const char*>ring + oldest * size, to_end * size)
    memcpy(<char*>into + to_end * size, ring, (n - to_end) * size)
    mutex_unlock(&events.lock)
    return n


cdef uint64_t copy_pauses(Events* events, void* into) noexcept nogil:
    return copy_ring(events, events.pause, &events.pauses, sizeof(PauseRecord), into)


cdef uint64_t copy_cycles(Events* events, void* into) noexcept nogil:
    return copy_ring(events, events.cycle, &events.cycles, sizeof(CycleRecord), into)


cdef bint find_cycle(Events* events, uint64_t cycle, CycleRecord* into) noexcept nogil:
    """The record of a cycle, while the ring has it; of the one that runs, as of its start."""
    cdef uint64_t i, n
    cdef bint found = False
    mutex_lock(&events.lock)
    n = min(events.cycles, <uint64_t>RECORDS)
    for i in range(1, n + 1):
        into[0] = events.cycle[(events.cycles - i) % RECORDS]
        if into.cycle <= cycle:
            found = into.cycle == cycle
            break
    if not found and events.current.cycle == cycle:
        into[0] = events.current
        found = True
    mutex_unlock(&events.lock)
    return found


cdef uint64_t find_pauses(Events* events, uint64_t cycle, PauseRecord* into,
                          uint64_t room) noexcept nogil:
    """The last pauses (at most `room`) of a cycle, newest first, while the ring has them."""
    cdef uint64_t i, n, count = 0
    cdef PauseRecord* pause
    mutex_lock(&events.lock)
    n = min(events.pauses, <uint64_t>RECORDS)
    for i in range(1, n + 1):
        pause = &events.pause[(events.pauses - i) % RECORDS]
        if pause.cycle and pause.cycle < cycle or count == room:    # 0: of no cycle
            break
        if pause.cycle == cycle:
            into[count] = pause[0]
            count += 1
    mutex_unlock(&events.lock)
    return count
