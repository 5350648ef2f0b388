# cython: nonecheck=True
"""Introspection, as Python sees it: native findings become Refs, tuples and arrays.

The pause is over before a Python object is made (core/inspect.pyx), so any thread may ask,
attached or not.
"""
import os

cimport cython
from gcheap.core.frozen cimport unfreeze_all
from gcheap.core.inspect cimport EPHEMERON, FOUND_WORDS, INSPECT_CLOSED, drop_observer
from gcheap.core.layout cimport (
    HeapState, MAX_SHAPES, MutatorState, RUNNING, SHAPE_FIXED)
from gcheap.core.native cimport load32_relaxed, mutex_lock, mutex_unlock
from gcheap.core.queries cimport (
    ROOT_WORDS, RootFound, count_by_shape, find_path, find_referrers, freeze_reachable,
    measure_retained)
from gcheap.core.roots cimport ROOT_AREA, ROOT_SHADOW
from gcheap.core.safepoint cimport thread_mutator
from gcheap.core.walk cimport Bookmark, walk_on
from gcheap.core.words cimport Words, words_free
from gcheap.errors import ForeignRef
from gcheap.late import np
from gcheap.face.ref cimport Ref, new_ref
from gcheap.face.shape cimport Shape, builtin_shape
from gcheap.face.state cimport HeapCore
from gcheap.face.values cimport whole_number
from gcheap.inspection import Path, Retained, Root, Step
from gcheap.text import shown
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

_KINDS = ("fixed", "slots", "raw")
_ROOTS = ("ref", "shadow stack", "frozen", "guardian", "root area")


# ---- every report ------------------------------------------------------------------------

cdef int check_may_stop(HeapCore core, str what) except -1:
    """A thread that is RUNNING would wait for itself."""
    cdef MutatorState* m
    core.check_open()
    m = thread_mutator(core.h)
    if m != NULL and load32_relaxed(&m.run) == RUNNING:
        raise RuntimeError(f"{what} stops all mutators, and this thread is running as one; call "
                           f"gc_leave before and gc_enter afterwards")
    return 0


cdef int check_inspected(HeapCore core, int error) except -1:
    if error == INSPECT_CLOSED:
        core.check_open()
    if error:
        raise MemoryError(f"gcheap: no memory to look at the heap ({os.strerror(error)})")
    return 0


def check_report(HeapCore core, int error):
    """Raises what a failed inspection means."""
    check_inspected(core, error)


cdef uint32_t handle_of(HeapCore core, ref, str what) except 0:
    if not isinstance(ref, Ref):
        raise TypeError(f"{what}: expected a Ref, got {shown(ref)}")
    if (<Ref>ref).core is not core:
        raise ForeignRef(f"{what}: {shown(ref)} belongs to another heap; ask that one")
    check_may_stop(core, what)
    return (<Ref>ref).handle


cdef Shape shape_by_id(HeapCore core, uint32_t id):
    return core.shapes[id] or builtin_shape(core, id)


cdef object place_name(Shape shape, uint64_t slot):
    if slot == EPHEMERON:
        return "(weak table)"
    return shape.refs[slot] if shape.kind == SHAPE_FIXED else slot


@cython.no_gc
cdef class _Findings:
    """Objects found, as native words; those not taken out are dropped at the end."""

    cdef HeapCore core
    cdef Words words
    cdef uint64_t taken         # words

    def __cinit__(self, HeapCore core):
        self.core = core

    def __dealloc__(self):
        while self.taken + FOUND_WORDS <= self.words.count:
            drop_observer(self.core.h, <uint32_t>self.words.at[self.taken])
            self.taken += FOUND_WORDS
        words_free(&self.words)

    cdef Ref take(self):
        """The next object; its `where` stands in the word before `taken` then."""
        cdef uint64_t first = self.words.at[self.taken]
        cdef uint64_t length = self.words.at[self.taken + 1]
        cdef Ref ref
        self.taken += FOUND_WORDS
        ref = new_ref(self.core, <uint32_t>first, <uint32_t>(first >> 32), length)
        ref.observer = True
        return ref

    cdef list take_all(self):
        refs = []
        while self.taken < self.words.count:
            refs.append(self.take())
        return refs

    cdef list take_pairs(self):
        """[(Ref, where), …]"""
        pairs = []
        while self.taken < self.words.count:
            ref = self.take()
            pairs.append((ref, self.words.at[self.taken - 1]))
        return pairs


cdef list take_roots(Words* words):
    cdef RootFound found
    cdef uint64_t i
    roots = []
    for i in range(words.count // ROOT_WORDS):
        memcpy(&found, &words.at[i * ROOT_WORDS], sizeof(found))
        if found.kind in (ROOT_SHADOW, ROOT_AREA):
            roots.append(Root(_ROOTS[found.kind], found.name.decode(errors="replace"),
                              found.thread_id, found.position))
        else:
            roots.append(Root(_ROOTS[found.kind]))
    words_free(words)
    return roots


# ---- the reports -------------------------------------------------------------------------

def census(HeapCore core):
    """See Heap.census."""
    cdef HeapState* h = core.h
    cdef uint64_t* objects
    cdef uint64_t* nbytes
    cdef uint32_t i
    cdef int error
    check_may_stop(core, "census()")
    objects = <uint64_t*>calloc(2 * MAX_SHAPES, sizeof(uint64_t))
    if objects == NULL:
        raise MemoryError
    nbytes = objects + MAX_SHAPES
    try:
        with nogil:
            error = count_by_shape(h, objects, nbytes)
        check_inspected(core, error)
        rows = [(shape_by_id(core, i).name, _KINDS[h.shapes[i].kind], objects[i], nbytes[i])
                for i in range(MAX_SHAPES) if objects[i]]
    finally:
        free(objects)
    rows.sort(key=lambda row: (-row[3], row[0]))
    width = max((len(row[0]) for row in rows), default=1)
    return np.array(rows, dtype=[("shape", f"U{width}"), ("kind", "U5"), ("objects", "u8"),
                                 ("bytes", "u8")])


def referrers(HeapCore core, ref):
    """See Heap.referrers."""
    cdef HeapState* h = core.h
    cdef uint32_t handle = handle_of(core, ref, "referrers()")
    cdef _Findings found = _Findings(core)
    cdef Words roots
    cdef int error
    memset(&roots, 0, sizeof(roots))
    with nogil:
        error = find_referrers(h, handle, &found.words, &roots)
    named = take_roots(&roots)
    check_inspected(core, error)
    holders = [(holder, place_name((<Ref>holder).layout, slot))
               for holder, slot in found.take_pairs()]
    return holders + [(root, None) for root in named]


def retained(HeapCore core, ref):
    """See Heap.retained."""
    cdef HeapState* h = core.h
    cdef uint32_t handle = handle_of(core, ref, "retained()")
    cdef uint64_t objects = 0, nbytes = 0, own = 0
    cdef int error
    with nogil:
        error = measure_retained(h, handle, &objects, &nbytes, &own)
    check_inspected(core, error)
    return Retained(objects, nbytes, own)


def why_alive(HeapCore core, ref, longest):
    """See Heap.why_alive."""
    cdef HeapState* h = core.h
    cdef uint32_t handle = handle_of(core, ref, "why_alive()")
    cdef _Findings found = _Findings(core)
    cdef Words roots
    cdef uint64_t skipped = 0, most
    cdef Shape holder = None
    cdef int error
    longest = whole_number(longest, "why_alive(): longest", "a number of steps")
    if not 2 <= longest < 2**63:
        raise ValueError(f"why_alive(): longest={shown(longest)}: expected a number of steps, at "
                         f"least 2")
    most = longest
    memset(&roots, 0, sizeof(roots))
    with nogil:
        error = find_path(h, handle, most, &roots, &found.words, &skipped)
    named = take_roots(&roots)
    check_inspected(core, error)
    if not named:
        return None
    path = Path(named, skipped)
    holder = None
    for step, slot in found.take_pairs():
        if skipped and len(path) == 1 + most // 2:
            holder = None       # it is one of those left out
        path.append(Step(place_name(holder, slot) if holder is not None else None, step))
        holder = (<Ref>step).layout
    return path


def walk(HeapCore core):
    """See Heap.walk."""
    check_may_stop(core, "walk()")
    return _walk(core)


def _walk(HeapCore core):
    cdef _Bookmarks marks = _Bookmarks(core)
    cdef list refs
    while not marks.over:
        refs = marks.next_chunk()
        refs.reverse()
        while refs:
            yield refs.pop()


@cython.no_gc
cdef class _Bookmarks:
    """Where a walk stands: two handles of its own, dropped at the end."""

    cdef HeapCore core
    cdef Bookmark mark
    cdef bint over

    def __cinit__(self, HeapCore core):
        self.core = core

    def __dealloc__(self):
        if self.mark.at:
            drop_observer(self.core.h, self.mark.at)
        if self.mark.end:
            drop_observer(self.core.h, self.mark.end)

    cdef list next_chunk(self):
        cdef HeapState* h = self.core.h
        cdef _Findings found = _Findings(self.core)
        cdef int error
        check_may_stop(self.core, "walk()")
        with nogil:
            error = walk_on(h, &self.mark, &found.words)
        check_inspected(self.core, error)
        self.over = found.words.count < self.mark.chunk * FOUND_WORDS or self.mark.chunk == 0
        return found.take_all()


# ---- freezing ----------------------------------------------------------------------------

def freeze(HeapCore core):
    """See Heap.freeze; the collection before it is the caller's."""
    cdef HeapState* h = core.h
    cdef uint64_t count = 0
    cdef int error
    check_may_stop(core, "freeze()")
    with nogil:
        error = freeze_reachable(h, &count)
    check_inspected(core, error)


def unfreeze(HeapCore core):
    """See Heap.unfreeze."""
    cdef HeapState* h = core.h
    core.check_open()
    with nogil:
        mutex_lock(&h.list_lock)
        if not load32_relaxed(&h.closed):
            unfreeze_all(h)
        mutex_unlock(&h.list_lock)
