"""The index that all weak tables of a heap share: from a hash to the entries that have it.

Sixteen shards, each a linear hash table (Litwin 1980, "Linear Hashing") of its own: it grows by one
bucket at a time, so that no insertion does more than a bounded piece of work while a pause may
be waiting for it.  A chain holds entries of every table; buckets are never given back before
the heap is.  Locks and what an entry goes through: weaktable.pyx.
"""
from gcheap.core.layout cimport HeapState, word
from gcheap.core.native cimport (
    add64_relaxed, count_leading_zeros, load32_relaxed, mutex_lock, mutex_unlock,
    store32_relaxed, store64_relaxed, store64_release, sub64_relaxed)
from gcheap.core.segments cimport FIRST_SEGMENT, make_segment, segment_item
from gcheap.core.weakdata cimport WeakEntry, WeakShard, WeakTable
from libc.stdint cimport uint32_t, uint64_t


cdef inline WeakEntry** chain_of(WeakShard* s, uint32_t hash) noexcept nogil:
    """The bucket of `hash`: by as many bits as reach the last bucket, or one less."""
    cdef uint64_t bits = mixed(hash) << 4 >> 24     # below those that choose the shard
    cdef unsigned level = 63 - count_leading_zeros(s.buckets)
    cdef uint64_t i = bits & ((<uint64_t>2 << level) - 1)
    if i >= s.buckets:
        i = bits & ((<uint64_t>1 << level) - 1)
    return <WeakEntry**>segment_item(s.chains, i, sizeof(WeakEntry*))


cdef void add_bucket(WeakShard* s) noexcept nogil:
    """Splits the next bucket in turn.  Without memory the chains just grow longer."""
    cdef uint64_t low = s.buckets - (<uint64_t>1 << (63 - count_leading_zeros(s.buckets)))
    cdef WeakEntry** from_chain
    cdef WeakEntry** to_chain
    cdef WeakEntry* e
    cdef WeakEntry* following
    if not make_segment(s.chains, s.buckets, sizeof(WeakEntry*)):
        return
    from_chain = <WeakEntry**>segment_item(s.chains, low, sizeof(WeakEntry*))
    s.buckets += 1
    e = from_chain[0]
    from_chain[0] = NULL
    while e != NULL:
        following = e.next
        to_chain = chain_of(s, e.hash)
        e.next = to_chain[0]
        to_chain[0] = e
        e = following


cdef WeakEntry* first_of(WeakShard* s, uint32_t hash) noexcept nogil:
    return chain_of(s, hash)[0] if s.buckets else NULL


cdef WeakEntry* find_key(WeakShard* s, WeakTable* t, uint32_t hash, word key) noexcept nogil:
    cdef WeakEntry* e = first_of(s, hash)
    while e != NULL and (e.key != key or e.table != t):
        e = e.next
    return e


cdef WeakEntry* link_entry(WeakShard* s, WeakTable* t, uint32_t hash, word key,
                           word value) noexcept nogil:
    """A new entry, in its chain; NULL: no memory.  Under the shard's lock."""
    cdef WeakEntry* e
    cdef WeakEntry** chain
    if s.buckets == 0:
        if not make_segment(s.chains, 0, sizeof(WeakEntry*)):
            return NULL
        s.buckets = FIRST_SEGMENT
    mutex_lock(&t.lock)
    e = t.free
    if e != NULL:
        t.free = e.next
    elif make_segment(t.entries, t.high, sizeof(WeakEntry)):
        e = <WeakEntry*>segment_item(t.entries, t.high, sizeof(WeakEntry))
        store64_release(&t.high, t.high + 1)
    mutex_unlock(&t.lock)
    if e == NULL:
        return NULL
    if s.entries >= 2 * s.buckets:
        add_bucket(s)
    chain = chain_of(s, hash)
    e.table = t
    store32_relaxed(&e.hash, hash)
    store64_relaxed(&e.value, value)
    e.next = chain[0]
    store64_release(&e.key, key)        # last: a scan that sees the key sees the rest
    chain[0] = e
    store64_relaxed(&s.entries, s.entries + 1)
    add64_relaxed(&t.count, 1)
    return e


cdef bint unlink_entry(WeakShard* s, WeakEntry* e, word key) noexcept nogil:
    """Takes `e` out of its chain and frees it, if it is in it and still has `key`.  Under the
    shard's lock; `e` may have become another entry since the caller looked."""
    cdef uint32_t hash = load32_relaxed(&e.hash)
    cdef WeakEntry** link
    cdef WeakTable* t
    if s.buckets == 0:
        return False
    link = chain_of(s, hash)
    while link[0] != e:
        if link[0] == NULL:
            return False
        link = &link[0].next
    if e.key != key:
        return False
    t = e.table
    link[0] = e.next
    store64_relaxed(&s.entries, s.entries - 1)
    mutex_lock(&t.lock)
    store64_relaxed(&e.key, 0)
    store64_relaxed(&e.value, 0)
    e.next = t.free
    t.free = e
    mutex_unlock(&t.lock)
    sub64_relaxed(&t.count, 1)
    return True


cdef bint remove_entry(HeapState* h, WeakEntry* e, word key) noexcept nogil:
    """The same, found by a scan of its table."""
    cdef WeakShard* s = shard_of(h, load32_relaxed(&e.hash))
    cdef bint removed
    mutex_lock(&s.lock)
    removed = shard_of(h, load32_relaxed(&e.hash)) == s and unlink_entry(s, e, key)
    mutex_unlock(&s.lock)
    return removed
