"""The page map: what each unit of a heap holds now.  See pagemap.pyx."""
from gcheap.core.layout cimport HeapState
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef enum MapState:             # UnitRow.state
    MAP_EMPTY = 0               # nothing
    MAP_USED = 1                # objects
    MAP_UNCLAIMED = 2           # to-space, from here to MAP_PLACED: as UnitState has it
    MAP_PLACED = 6
    MAP_SOURCE = 7              # from-space that some unit still reads
    MAP_EVACUATED = 8           # read by nobody any more: a buffer to be had
    MAP_TAKEN = 9               # somebody's buffer, or moved away

cdef enum MapOwner:             # UnitRow.by
    MAP_NOBODY = 0
    MAP_COMPACTOR = 1
    MAP_MUTATOR = 2

cdef struct UnitRow:
    uint32_t unit               # index within its half
    uint8_t space               # 0: small objects, then 1 + large space
    uint8_t half
    uint8_t current             # 1: the half that mutators allocate in
    uint8_t state               # MapState
    uint8_t by                  # MapOwner
    uint8_t unused[3]
    int32_t live_bytes          # -1: not known

# The writers' side: the collector alone, in plan and in the flip.
cdef void begin_map(HeapState* h) noexcept nogil
cdef void end_map(HeapState* h) noexcept nogil
cdef void forget_units(HeapState* h, uint64_t first, uint64_t count) noexcept nogil

# The readers' side: any thread.
cdef uint64_t map_rows(HeapState* h) noexcept nogil
cdef uint64_t read_map(HeapState* h, UnitRow* rows, uint64_t room) noexcept nogil
