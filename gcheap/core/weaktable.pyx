"""Weak tables: ephemeron tables by identity, and intern tables by contents.

An entry (key, value) of an ephemeron table keeps its value alive as long as its key is alive by
other means (Hayes 1997, "Ephemerons: a New Finalization Mechanism"); a value that refers to its
key does not keep the entry.  An intern table is the same thing hashed by the caller, without
values.

            WeakTable (one for each table)            index: 16 shards for the whole heap
         +-------------------------------+          +-------------------------------------+
         | entries, which never move;    |  next    | hash -> chain of entries, of every  |
         | free entries                  | <------- | table; a linear hash table          |
         +-------------------------------+          +-------------------------------------+

The index (weakindex.pyx) is the heap's and not each table's so that the *marker* finds all
entries of a key with one lookup: an object that was ever a key has HEADER_KEY in its header, and
the marker, when it traces such an object, marks the values of its entries as if they were slots
of the object. Marking ephemerons is linear that way, there is no fixpoint to iterate, and Mark
End has nothing left to scan. It is the key-to-ephemerons map of V8 and Whippet, kept instead of
rebuilt.

Keys are hashed by the identity hash in their header, so nothing is rehashed when objects move;
the flip rewrites the addresses in the entries.

Locks: a shard's, then a table's.  Both are held for a chain or an entry, by RUNNING threads
that pass no safepoint meanwhile, and by the collector when it does not wait for a pause; so
nobody sleeps on one for long, and a stopped world finds all of them free.  The fault path takes
none (I4): a page fault on a key's header under a lock cannot wait for the lock's next holder.
An entry is in use exactly while it is linked in its chain; `key` is stored last and cleared
first, so a scan of the table without the shard's lock sees whole entries.

What an entry's barrier is, and why inserting needs none, is said in nonstrong.pyx.
"""
from gcheap.core.identity cimport identity_hash
from gcheap.core.layout cimport HeapState, MutatorState, word
from gcheap.core.lockfree cimport push_link
from gcheap.core.mark cimport reached
from gcheap.core.native cimport (
    add64_relaxed, cas64, check_that, load32_acquire, load32_relaxed, load64_acquire,
    load64_relaxed, mutex_lock, mutex_unlock, store32_release, store32_relaxed, store64_relaxed)
from gcheap.core.objects cimport HEADER_KEY, is_reference
from gcheap.core.plan cimport forward
from gcheap.core.satb cimport log_target
from gcheap.core.segments cimport free_segments
from gcheap.core.weak cimport weak_load
from gcheap.core.weakdata cimport WeakEntry, WeakShard, WeakState, WeakTable, weak_state
from gcheap.core.weakindex cimport (
    entry_at, find_key, first_of, link_entry, remove_entry, shard_of, unlink_entry)
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    PIECE = 64                  # entries cleared between safepoints


# ---- tables --------------------------------------------------------------------------------

cdef inline word value_read(MutatorState* m, WeakEntry* e) noexcept nogil:
    """The value, to be handed to a mutator.  Its key is alive, so the value is or will be
    marked, unless marking is on and the entry goes before the marker comes: log it."""
    cdef HeapState* h = m.heap
    cdef word value = load64_relaxed(&e.value)
    if load32_relaxed(&h.marking) and is_reference(h.tag_mask, h.tag_bits, value):
        log_target(m, value & ~h.tag_mask)
    return value


cdef WeakTable* new_weak_table(HeapState* h) noexcept nogil:
    """An empty table; `drop_weak_table` ends it."""
    cdef WeakTable* t = <WeakTable*>calloc(1, sizeof(WeakTable))
    if t != NULL:
        push_link(&weak_state(h).tables, t, <uint64_t*>&t.next)
    return t


cdef void drop_weak_table(WeakTable* t) noexcept nogil:
    """Nobody uses the table any more; a later cycle frees it."""
    store32_release(&t.dropped, 1)


cdef uint64_t table_count(WeakTable* t) noexcept nogil:
    """Entries that were not removed or cleared."""
    return load64_relaxed(&t.count)


cdef bint table_get(MutatorState* m, WeakTable* t, word key, word* value) noexcept nogil:
    """Looks `key` up.  False: it has no entry."""
    cdef uint32_t hash = <uint32_t>(load64_relaxed(<word*>key) >> 32)
    cdef WeakShard* s = shard_of(m.heap, hash)
    cdef WeakEntry* e
    if hash == 0:
        return False            # never hashed, so in no table
    mutex_lock(&s.lock)
    e = find_key(s, t, hash, key)
    if e != NULL:
        value[0] = value_read(m, e)
    mutex_unlock(&s.lock)
    return e != NULL


cdef int table_put(MutatorState* m, WeakTable* t, word key, word value, bint replace,
                   word* old) noexcept nogil:
    """Sets the value of `key`, or, without `replace`, only if it has none.

    TABLE_INSERTED, TABLE_FOUND (then, without `replace`, old[0] is the value it has), or
    TABLE_NO_MEMORY.
    """
    cdef uint32_t hash = identity_hash(m, key, HEADER_KEY)
    cdef WeakShard* s = shard_of(m.heap, hash)
    cdef WeakEntry* e
    cdef int result = TABLE_FOUND
    if key - m.heap.base[m.heap.current] >= m.heap.half_bytes:
        store32_relaxed(&m.heap.large_keys, 1)      # the marker now reads their headers
    mutex_lock(&s.lock)
    e = find_key(s, t, hash, key)
    if e == NULL:
        e = link_entry(s, t, hash, key, value)
        result = TABLE_INSERTED if e != NULL else TABLE_NO_MEMORY
    elif replace:
        store64_relaxed(&e.value, value)
    else:
        old[0] = value_read(m, e)
    mutex_unlock(&s.lock)
    return result


cdef bint table_remove(MutatorState* m, WeakTable* t, word key, word* value) noexcept nogil:
    """Removes the entry of `key` and hands its value out.  False: it has none."""
    cdef uint32_t hash = <uint32_t>(load64_relaxed(<word*>key) >> 32)
    cdef WeakShard* s = shard_of(m.heap, hash)
    cdef WeakEntry* e
    if hash == 0:
        return False
    mutex_lock(&s.lock)
    e = find_key(s, t, hash, key)
    if e != NULL:
        value[0] = value_read(m, e)
        unlink_entry(s, e, key)
    mutex_unlock(&s.lock)
    return e != NULL


# ---- intern tables ---------------------------------------------------------------------------

cdef inline uint32_t folded(uint64_t hash) noexcept nogil:
    return <uint32_t>(hash ^ (hash >> 32))


cdef word find_match(MutatorState* m, WeakShard* s, WeakTable* t, uint32_t hash, WeakMatch match,
                     void* context) noexcept nogil:
    """Compares before it reads weakly: what does not match is not kept alive.  A candidate may
    be dead; its memory is whole until the flip, and it is gone from the table by then."""
    cdef WeakEntry* e = first_of(s, hash)
    cdef word obj
    while e != NULL:
        if e.table == t and e.hash == hash and match(context, m, e.key):
            obj = weak_load(m, &e.key)
            if obj:
                return obj
        e = e.next
    return 0


cdef word intern_find(MutatorState* m, WeakTable* t, uint64_t hash, WeakMatch match,
                      void* context) noexcept nogil:
    """The object in the table with this hash that `match` accepts; 0: none."""
    cdef WeakShard* s = shard_of(m.heap, folded(hash))
    cdef word obj
    mutex_lock(&s.lock)
    obj = find_match(m, s, t, folded(hash), match, context)
    mutex_unlock(&s.lock)
    return obj


cdef word intern_add(MutatorState* m, WeakTable* t, uint64_t hash, WeakMatch match, void* context,
                     word obj) noexcept nogil:
    """The object that is in the table already and matches, else `obj`, which now is.  Of several
    threads that add equal objects at once one wins, and all get its object."""
    cdef WeakShard* s = shard_of(m.heap, folded(hash))
    cdef word found
    mutex_lock(&s.lock)
    found = find_match(m, s, t, folded(hash), match, context)
    if found == 0 and link_entry(s, t, folded(hash), obj, 0) != NULL:
        found = obj
    mutex_unlock(&s.lock)
    return found


cdef bint intern_remove(MutatorState* m, WeakTable* t, uint64_t hash, word obj) noexcept nogil:
    """Takes `obj`, which the caller has in hand, out of the table."""
    cdef WeakShard* s = shard_of(m.heap, folded(hash))
    cdef WeakEntry* e
    mutex_lock(&s.lock)
    e = find_key(s, t, folded(hash), obj)
    if e != NULL:
        unlink_entry(s, e, obj)
    mutex_unlock(&s.lock)
    return e != NULL


# ---- all entries -----------------------------------------------------------------------------

cdef uint64_t table_scan(MutatorState* m, WeakTable* t, uint64_t* cursor, word* keys, word* values,
                         uint64_t room) noexcept nogil:
    """Up to `room` entries from `cursor` on; fewer: that was the last of them.

    Between two calls the caller may pass safepoints.  An entry that is there all the time is
    found once; one that comes or goes meanwhile, once or not at all.
    """
    cdef uint64_t n = 0
    cdef WeakEntry* e
    mutex_lock(&t.lock)         # nothing is freed meanwhile
    while cursor[0] < t.high and n < room:
        e = entry_at(t, cursor[0])
        cursor[0] += 1
        if load64_acquire(&e.key) == 0:
            continue
        keys[n] = weak_load(m, &e.key)
        if keys[n]:
            values[n] = value_read(m, e)
            n += 1
    mutex_unlock(&t.lock)
    return n


cdef bint table_clear(MutatorState* m, WeakTable* t, uint64_t* cursor) noexcept nogil:
    """Removes the entries in one piece of the table; False when it was the last.  Safepoints
    may lie between two calls."""
    cdef uint64_t last = min(load64_acquire(&t.high), cursor[0] + PIECE)
    cdef WeakEntry* e
    cdef word key
    while cursor[0] < last:
        e = entry_at(t, cursor[0])
        key = load64_acquire(&e.key)
        if key:
            remove_entry(m.heap, e, key)
        cursor[0] += 1
    return cursor[0] < load64_acquire(&t.high)


# ---- the collector's side ----------------------------------------------------------------------

cdef uint64_t visit_values(HeapState* h, word key, word header, ValueVisitor visit,
                           void* context) noexcept nogil:
    """Visits the values of all entries of a key that the marker has reached; how many entries
    it looked at."""
    cdef uint32_t hash = <uint32_t>(header >> 32)
    cdef WeakShard* s = shard_of(h, hash)
    cdef WeakEntry* e
    cdef word value
    cdef uint64_t seen = 0
    mutex_lock(&s.lock)
    e = first_of(s, hash)
    while e != NULL:
        seen += 1
        if e.key == key and not load32_acquire(&e.table.dropped):
            value = load64_relaxed(&e.value)
            if is_reference(h.tag_mask, h.tag_bits, value):
                visit(context, value & ~h.tag_mask)
        e = e.next
    mutex_unlock(&s.lock)
    return seen


cdef uint64_t clear_table(HeapState* h, WeakTable* t, bint all_of_it) noexcept nogil:
    cdef uint64_t i, removed = 0
    cdef WeakEntry* e
    cdef word key
    for i in range(load64_acquire(&t.high)):
        e = entry_at(t, i)
        key = load64_acquire(&e.key)
        if key and (all_of_it or not reached(h, key)) and remove_entry(h, e, key):
            removed += 1
    return removed


cdef void unlink_table(WeakState* w, WeakTable* t) noexcept nogil:
    """Takes a table off the list, which others push on and only the collector takes from."""
    cdef WeakTable* before
    if cas64(&w.tables, <uint64_t>t, <uint64_t>t.next):
        return
    before = <WeakTable*>load64_acquire(&w.tables)
    while before.next != t:
        before = before.next
    before.next = t.next


cdef void clear_tables(HeapState* h) noexcept nogil:
    """Removes every entry whose key marking did not reach, and frees dropped tables.  Mutators
    may run."""
    cdef WeakState* w = weak_state(h)
    cdef WeakTable* t = <WeakTable*>load64_acquire(&w.tables)
    cdef WeakTable* following
    while t != NULL:
        following = t.next
        if load32_acquire(&t.dropped):
            clear_table(h, t, True)
            check_that(t.count == 0, b"a dropped weak table has entries left (count, high)",
                       t.count, t.high)
            unlink_table(w, t)
            free_segments(t.entries)
            free(t)
        else:
            add64_relaxed(&w.cleared, clear_table(h, t, False))
        t = following


cdef void forward_tables(HeapState* h, bint rehearse) noexcept nogil:
    """Inside a pause: rewrites every entry through forwarding.  One linear pass for each table."""
    cdef WeakTable* t = <WeakTable*>load64_acquire(&weak_state(h).tables)
    cdef WeakEntry* e
    cdef uint64_t i
    while t != NULL:
        if not load32_acquire(&t.dropped) and not rehearse:
            for i in range(t.high):
                e = entry_at(t, i)
                if e.key == 0:
                    continue
                e.key = forward(h, e.key)
                if is_reference(h.tag_mask, h.tag_bits, e.value):
                    e.value = forward(h, e.value & ~h.tag_mask) | h.tag_bits
        t = t.next
