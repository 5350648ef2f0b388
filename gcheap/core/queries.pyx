"""Questions about the graph: who is there, who holds whom, what hangs on whom.

Each makes one pause (inspect.pyx) and answers in native arrays; the face turns them into Python
objects afterwards.  `handle` is that of the Ref asked about: it does not count as a root, because
it would explain everything.
"""
from gcheap.core.frozen cimport freeze_members
from gcheap.core.inspect cimport (
    EPHEMERON, Inspection, begin_inspection, counts_as_root, end_inspection, observe, reach,
    reach_roots, read_all_roots, traverse)
from gcheap.core.layout cimport (
    HeapState, OBSERVER_CURSOR, OBSERVER_REF, ShapeInfo, word)
from gcheap.core.native cimport load64_relaxed
from gcheap.core.objects cimport (
    header_words, is_reference, object_bytes, object_slots, shape_of_header)
from gcheap.core.roots cimport Root, handle_value
from gcheap.core.words cimport Words, words_free, words_push
from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset


# ---- counts ------------------------------------------------------------------------------

cdef struct Counts:
    uint64_t* objects           # by shape
    uint64_t* nbytes


cdef void count_object(void* context, Inspection* k, word obj, uint32_t shape,
                       uint64_t nbytes) noexcept nogil:
    cdef Counts* counts = <Counts*>context
    counts.objects[shape] += 1
    counts.nbytes[shape] += nbytes


cdef int count_by_shape(HeapState* h, uint64_t* objects, uint64_t* nbytes) noexcept nogil:
    """Adds what is reachable to two arrays of MAX_SHAPES."""
    cdef Inspection k
    cdef Counts counts
    cdef int error = begin_inspection(&k, h, OBSERVER_CURSOR)
    if error:
        return error
    counts.objects = objects
    counts.nbytes = nbytes
    reach_roots(&k)
    traverse(&k, count_object, NULL, &counts)
    return end_inspection(&k)


# ---- who holds an object -----------------------------------------------------------------

cdef struct Holders:
    Inspection* k
    word target
    Words* objects              # address, slot
    Words* roots                # RootFound
    bint first                  # the first root is enough


cdef bint push_root(const Root* root, Words* roots) noexcept nogil:
    cdef RootFound found
    cdef uint64_t words[ROOT_WORDS]
    cdef uint64_t i
    memset(&found, 0, sizeof(found))
    found.kind = root.kind
    found.position = root.position
    if root.mutator != NULL:
        found.thread_id = root.mutator.thread_id
        memcpy(found.name, root.mutator.name, sizeof(found.name))
    memcpy(words, &found, sizeof(found))
    for i in range(ROOT_WORDS):
        if not words_push(roots, words[i]):
            return False
    return True


cdef void root_of_target(void* context, HeapState* h, const Root* root,
                         word value) noexcept nogil:
    cdef Holders* f = <Holders*>context
    if value != f.target or not counts_as_root(f.k, root) or (f.first and f.roots.count):
        return
    if not push_root(root, f.roots):
        f.k.error = ENOMEM


cdef void edge_to_target(void* context, Inspection* k, word obj, uint64_t slot,
                         word target) noexcept nogil:
    cdef Holders* f = <Holders*>context
    if target == f.target and not (words_push(f.objects, obj) and words_push(f.objects, slot)):
        k.error = ENOMEM


cdef int find_referrers(HeapState* h, uint32_t handle, Words* holders,
                        Words* roots) noexcept nogil:
    """Every reachable object with a slot that holds the object of `handle` (`where`: the slot),
    and every root that names it.  It may be held by what only it reaches."""
    cdef Inspection k
    cdef Holders f
    cdef Words objects
    cdef uint64_t i
    cdef int error = begin_inspection(&k, h, OBSERVER_REF)
    if error:
        return error
    memset(&objects, 0, sizeof(objects))
    f.k = &k
    f.target = handle_value(h, handle)[0]
    f.objects = &objects
    f.roots = roots
    f.first = False
    k.own = handle
    read_all_roots(&k, root_of_target, &f)
    reach_roots(&k)
    reach(&k, f.target)
    traverse(&k, NULL, edge_to_target, &f)
    for i in range(0, objects.count - objects.count % 2, 2):
        observe(&k, objects.at[i], objects.at[i + 1], OBSERVER_REF, holders)
    words_free(&objects)
    return end_inspection(&k)


# ---- what hangs on an object -------------------------------------------------------------

cdef struct Sum:
    uint64_t objects
    uint64_t nbytes


cdef void add_up(void* context, Inspection* k, word obj, uint32_t shape,
                 uint64_t nbytes) noexcept nogil:
    cdef Sum* sum = <Sum*>context
    sum.objects += 1
    sum.nbytes += nbytes


cdef int measure_retained(HeapState* h, uint32_t handle, uint64_t* objects,
                          uint64_t* nbytes, uint64_t* own) noexcept nogil:
    """What would be unreachable if the object of `handle` were gone, itself included.

    First everything that is reached without it, then what is reached from it besides; so each
    object is visited once.
    """
    cdef Inspection k
    cdef Sum sum
    cdef word target
    cdef int error = begin_inspection(&k, h, OBSERVER_REF)
    if error:
        return error
    target = handle_value(h, handle)[0]
    k.own = handle
    k.avoided = target
    reach_roots(&k)
    traverse(&k, NULL, NULL, NULL)
    k.avoided = 0
    sum.objects = sum.nbytes = 0
    reach(&k, target)
    traverse(&k, add_up, NULL, &sum)
    objects[0] = sum.objects
    nbytes[0] = sum.nbytes
    own[0] = object_bytes(&h.shapes[shape_of_header(load64_relaxed(<word*>target))], target)
    return end_inspection(&k)


# ---- why an object lives -----------------------------------------------------------------

cdef struct Search:
    word target
    uint64_t place              # 1 + the place of the object that holds it; 0: not found


cdef void look_for(void* context, Inspection* k, word obj, uint64_t slot,
                   word target) noexcept nogil:
    cdef Search* s = <Search*>context
    if target == s.target and not k.done:
        s.place = k.place
        k.done = True


cdef uint64_t slot_of(HeapState* h, word obj, word target) noexcept nogil:
    """The first slot of `obj` that holds `target`, or EPHEMERON: a weak table does."""
    cdef ShapeInfo* shape = &h.shapes[shape_of_header(load64_relaxed(<word*>obj))]
    cdef word* slots = <word*>obj + header_words(shape)
    cdef uint64_t i, count = object_slots(shape, obj)
    for i in range(count):
        if (is_reference(shape.tag_mask, shape.tag_bits, slots[i])
                and slots[i] & ~shape.tag_mask == target):
            return i
    return EPHEMERON


cdef void tell_path(Inspection* k, Words* path, uint64_t longest, Words* steps,
                    uint64_t* skipped) noexcept nogil:
    """Steps of a path that is given from its end; of a long one the middle is left out."""
    cdef uint64_t i, n = path.count, head = n, tail = 0
    if n > longest:
        head = longest // 2
        tail = longest - head
        skipped[0] = n - longest
    for i in range(n):
        if i < head or i >= n - tail:
            observe(k, path.at[n - 1 - i],
                    slot_of(k.heap, path.at[n - i], path.at[n - 1 - i]) if i else 0,
                    OBSERVER_REF, steps)


cdef int find_path(HeapState* h, uint32_t handle, uint64_t longest, Words* root,
                   Words* steps, uint64_t* skipped) noexcept nogil:
    """A shortest path to the object of `handle`: its root, then each object on it with the slot
    of the one before that holds it, the object itself last.  No root: nothing holds it.

    A path of more than `longest` (at least 2) objects is told without its middle.
    """
    cdef Inspection k
    cdef Search s
    cdef Holders f
    cdef Words path             # from the object back to the one that a root names
    cdef uint64_t place
    cdef int error = begin_inspection(&k, h, OBSERVER_REF)
    if error:
        return error
    memset(&path, 0, sizeof(path))
    skipped[0] = 0
    k.own = handle
    k.keep = True
    s.target = handle_value(h, handle)[0]
    s.place = 0
    f.k = &k
    f.target = s.target
    f.roots = root
    f.first = True
    read_all_roots(&k, root_of_target, &f)
    if root.count == 0:
        reach_roots(&k)
        traverse(&k, NULL, look_for, &s)
    if (root.count or s.place) and not words_push(&path, s.target):
        k.error = ENOMEM
    place = s.place
    while place and k.error == 0:
        f.target = k.queue.at[place - 1]
        if not words_push(&path, f.target):
            k.error = ENOMEM
        place = k.parents.at[place - 1]
    if s.place and k.error == 0:
        read_all_roots(&k, root_of_target, &f)
    tell_path(&k, &path, longest, steps, skipped)
    words_free(&path)
    return end_inspection(&k)


# ---- freezing ----------------------------------------------------------------------------

cdef int freeze_reachable(HeapState* h, uint64_t* count) noexcept nogil:
    """Freezes everything that is reachable now; how many objects are frozen then."""
    cdef Inspection k
    cdef int error = begin_inspection(&k, h, OBSERVER_CURSOR)
    if error:
        return error
    reach_roots(&k)
    traverse(&k, NULL, NULL, NULL)
    if k.error == 0:
        k.error = freeze_members(h, &k.seen, k.queue.count)
        count[0] = k.queue.count
    return end_inspection(&k)
