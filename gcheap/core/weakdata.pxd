"""The data model of what does not keep objects alive: weak references, weak tables, guardians.

All of it stands outside the heap, beside the handles, and hangs on one pointer of HeapState.
core/nonstrong.pyx has the protocol, and says who may write what when.
"""
from gcheap.core.layout cimport HeapState, word
from gcheap.core.segments cimport SEGMENTS
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    WEAK_SHARDS = 16
    CELL_DROPPED = 0x80000000   # WeakCell.link: free; the low bits link the chain

cdef enum Notice:               # WeakCell.notice
    NOTICE_NONE = 0
    NOTICE_WANTED = 1           # somebody asked to be told when the cell is cleared
    NOTICE_TAKEN = 2            # ... and was told

cdef struct WeakCell:           # one weak reference; see weak.pyx
    word target                 # atomic; 0: cleared
    uint32_t link               # atomic; 0: in use
    uint32_t notice             # atomic; Notice

cdef struct WeakTable
cdef struct WeakEntry:          # one entry of a weak table; see weaktable.pyx
    word key                    # atomic; held weakly; 0: the entry is free
    word value                  # atomic; null, tagged, or a reference that the key holds
    WeakEntry* next             # its bucket's chain, or the table's free entries
    WeakTable* table
    uint32_t hash               # atomic
    uint32_t unused

cdef struct WeakTable:
    uint32_t lock               # free entries and `high`; taken inside a shard's lock, if both
    uint32_t dropped            # atomic
    uint64_t count              # atomic: entries in use
    uint64_t high               # entries that exist, used or free
    WeakEntry* free
    WeakTable* next             # the heap's list
    void* entries[SEGMENTS]     # of WeakEntry

cdef struct WeakShard:          # a part of the index that all tables share: a linear hash table
    uint32_t lock
    uint32_t unused
    uint64_t buckets
    uint64_t entries            # atomic: stats() reads it
    void* chains[SEGMENTS]      # of WeakEntry*

cdef enum GuardState:           # GuardEntry.state; see guardian.pyx
    GUARD_FREE = 0
    GUARD_HELD = 1              # registered, not found unreachable
    GUARD_DUE = 2               # found unreachable by this cycle, not yet to be had
    GUARD_READY = 3             # in the queue

cdef struct GuardEntry:
    word object                 # weak while HELD; what is yielded, unless there is an agent
    word agent                  # a strong reference, or 0
    GuardEntry* next            # the queue, or the free entries
    uint32_t state
    uint32_t unused

cdef struct Guardian:
    uint32_t lock
    uint32_t dropped            # atomic
    uint32_t event              # futex word: bumped when something becomes READY
    uint32_t unused
    uint64_t held               # atomic counts
    uint64_t ready
    uint64_t high               # entries that exist
    GuardEntry* first           # queue of READY entries
    GuardEntry* last
    GuardEntry* free
    Guardian* next              # the heap's list
    void* entries[SEGMENTS]     # of GuardEntry

cdef struct WeakState:
    uint32_t blocked            # 1 from Mark End until what is unreached is cleared; atomic
    uint32_t cell_lock          # cell_free, cell_high
    uint32_t cell_free          # chain of free cells; 0: none
    uint32_t cell_dropped       # head of the lock-free chain of dropped cells
    uint32_t guardian_lock      # freeing dropped guardians; introspection reads their list
    uint32_t unused
    uint64_t cell_high          # cells that exist; index 0 is never used
    uint64_t tables             # WeakTable*; atomic: any thread pushes, the collector unlinks
    uint64_t guardians          # Guardian*; the same
    uint32_t notice_event       # futex word: bumped after a cycle that cleared a WANTED cell
    uint32_t notices            # collector only: how many such this cycle has cleared
    # Counters; atomic.
    uint64_t weak_refs          # in use now
    uint64_t guarded            # HELD registrations now
    uint64_t cleared            # weak references and table entries ever cleared
    uint64_t resurrected        # registrations ever found due
    uint64_t finalized          # callbacks ever run
    void* cells[SEGMENTS]       # of WeakCell
    WeakShard shard[WEAK_SHARDS]


cdef inline WeakState* weak_state(HeapState* h) noexcept nogil:
    return <WeakState*>h.weak
