# cython: nonecheck=True
"""`Heap.page_map`: the state of each unit as a structured array."""
from gcheap.core.pagemap cimport UnitRow, map_rows, read_map
from gcheap.face.state cimport HeapCore
from gcheap.late import np
from libc.stdint cimport uint64_t, uintptr_t

UNIT_FIELDS = {
    "names": ["unit", "space", "half", "current", "state", "by", "live_bytes"],
    "formats": ["u4", "u1", "u1", "?", "u1", "u1", "i4"],
    "offsets": [0, 4, 5, 6, 7, 8, 12], "itemsize": sizeof(UnitRow)}
SPARE_ROWS = 64                 # what may be handed out between counting and reading


def page_map(HeapCore core not None):
    """See `Heap.page_map`."""
    cdef uint64_t count, room
    cdef uintptr_t at
    core.check_open()
    room = map_rows(core.h) + SPARE_ROWS
    while True:
        rows = np.zeros(room, UNIT_FIELDS)
        at = rows.ctypes.data
        # Again: numpy is Python, and another thread or a signal's handler may have closed the heap.
        # From here on nobody can: the GIL stays.
        core.check_open()
        count = read_map(core.h, <UnitRow*>at, room)
        if count <= room:
            return rows[:count].copy() if count < room // 2 else rows[:count]
        room = count + SPARE_ROWS
