"""Marking by several threads.  See mark_team.pyx."""
from gcheap.core.layout cimport HeapState, word
from gcheap.core.mark cimport Marker
from gcheap.core.native cimport load32_relaxed, load64_relaxed
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    MOST_MARKERS = 64           # with the collector
    PARCEL = 510                # entries: a page

cdef struct Parcel:             # entries of mark stacks on their way to another thread
    uint64_t count
    word entry[PARCEL]

cdef struct Member:             # a thread that marks beside the collector
    Marker marker
    MarkTeam* team
    unsigned long thread
    word memory                 # atomic: its stack, and behind it its totals by shape

cdef struct MarkTeam:
    HeapState* heap
    uint32_t most               # members: the option mark_threads
    uint32_t lock               # futex mutex: everything below but what is called atomic
    uint32_t members            # atomic: the collector, and the threads that exist
    uint32_t waiting            # of these, who has no entry, and looks for some
    uint32_t parcels            # at most `waiting`
    uint32_t wanted             # atomic: waiting - parcels
    uint32_t event              # futex word: changed when there is something to wake up for
    uint32_t sleepers           # atomic: threads asleep on it
    uint32_t stop               # atomic: marking is given up, entries are dropped
    uint32_t yields             # this marking is given up when a fork waits
    uint32_t end                # the threads are to end
    uint32_t unused
    uint64_t marked_bytes       # atomic: of objects marked by others than the collector, ever
    Member* member              # most - 1
    Parcel* parcel              # most

cdef bint new_team(HeapState* h, uint32_t threads) noexcept nogil    # False: no memory
cdef bint trace_together(Marker* k, bint yields) noexcept nogil      # False: a fork waits
cdef void gather_marks(Marker* k) noexcept nogil
cdef void stop_team(HeapState* h) noexcept nogil
cdef void forget_team(HeapState* h) noexcept nogil
cdef uint64_t resident_stacks(HeapState* h) noexcept nogil


cdef inline uint32_t marker_threads(HeapState* h) noexcept nogil:
    """Threads that mark beside the collector, as of now."""
    return load32_relaxed(&(<MarkTeam*>h.team).members) - 1 if h.team != NULL else 0


cdef inline uint64_t marker_bytes(HeapState* h) noexcept nogil:
    return load64_relaxed(&(<MarkTeam*>h.team).marked_bytes) if h.team != NULL else 0
