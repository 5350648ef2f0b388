"""The index that all weak tables of a heap share.  See weakindex.pyx."""
from gcheap.core.layout cimport HeapState, word
from gcheap.core.segments cimport segment_item
from gcheap.core.weakdata cimport WeakEntry, WeakShard, WeakTable, weak_state
from libc.stdint cimport uint32_t, uint64_t

# Under the shard's lock.
cdef WeakEntry* first_of(WeakShard* s, uint32_t hash) noexcept nogil    # NULL: none
cdef WeakEntry* find_key(WeakShard* s, WeakTable* t, uint32_t hash, word key) noexcept nogil
cdef WeakEntry* link_entry(WeakShard* s, WeakTable* t, uint32_t hash, word key,
                           word value) noexcept nogil                   # NULL: no memory
cdef bint unlink_entry(WeakShard* s, WeakEntry* e, word key) noexcept nogil
# Takes the lock itself.
cdef bint remove_entry(HeapState* h, WeakEntry* e, word key) noexcept nogil


cdef inline uint64_t mixed(uint32_t hash) noexcept nogil:
    return hash * <uint64_t>0x9E3779B97F4A7C15     # Fibonacci hashing (Knuth, TAOCP 6.4)


cdef inline WeakShard* shard_of(HeapState* h, uint32_t hash) noexcept nogil:
    return &weak_state(h).shard[mixed(hash) >> 60]


cdef inline WeakEntry* entry_at(WeakTable* t, uint64_t index) noexcept nogil:
    return <WeakEntry*>segment_item(t.entries, index, sizeof(WeakEntry))
