"""The whole graph as arrays, taken in one pause: what a heap snapshot is written from.

Objects are numbered by address order, so that no address has to leave the heap and no table from
address to number is needed: the number is the rank in the set of what was seen, which is counted
once per RANK_WORDS words of bits and by popcount within (Jacobson 1989).
"""
from gcheap.core.addresses cimport GROUP_WORDS, set_has, set_next
from gcheap.core.failpoint cimport FP_MEMORY_INSPECT, failpoint
from gcheap.core.inspect cimport (
    Inspection, begin_inspection, counts_as_root, each_ephemeron, end_inspection, reach_roots,
    read_all_roots, traverse)
from gcheap.core.layout cimport (
    AddressSet, HeapState, MutatorState, OBSERVER_CURSOR, ShapeInfo, WORD, word)
from gcheap.core.native cimport load64_relaxed, popcount
from gcheap.core.mapping cimport map_memory, unmap_memory
from gcheap.core.objects cimport (
    header_words, is_reference, object_bytes, object_slots, shape_of_header)
from gcheap.core.roots cimport ROOT_SHADOW, Root
from gcheap.core.words cimport Words, words_free, words_push
from libc.errno cimport ENOMEM, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    RANK_WORDS = 8              # one cache line of bits

cdef struct Numbering:
    AddressSet* members
    uint64_t* before            # members in all lines of bits below
    uint64_t bytes

cdef struct Taking:
    Inspection* k
    Graph* graph
    Numbering numbers
    uint32_t kind               # of the last root, and whose
    MutatorState* mutator


# ---- numbers -----------------------------------------------------------------------------

cdef int number(Numbering* n, AddressSet* members) noexcept nogil:
    """Counts the members of a set.  Returns an errno."""
    cdef uint64_t words = members.span // (64 * WORD), group, i, sum = 0
    cdef int injected = <int>failpoint(FP_MEMORY_INSPECT)
    if injected:
        return injected
    n.members = members
    n.bytes = words // RANK_WORDS * 8
    n.before = <uint64_t*>map_memory(n.bytes, True)
    if n.before == NULL:
        return errno
    for group in range(words // GROUP_WORDS):
        if members.groups[group]:
            for i in range(group * GROUP_WORDS, (group + 1) * GROUP_WORDS):
                if i % RANK_WORDS == 0:
                    n.before[i // RANK_WORDS] = sum
                sum += popcount(members.bits[i])
    return 0


cdef inline uint64_t number_of(Numbering* n, word obj) noexcept nogil:
    """How many members lie below one of them."""
    cdef uint64_t index = (obj - n.members.low) // WORD, w = index // 64, i
    cdef uint64_t rank = n.before[w // RANK_WORDS]
    for i in range(w // RANK_WORDS * RANK_WORDS, w):
        rank += popcount(n.members.bits[i])
    return rank + popcount(n.members.bits[w] & ((<uint64_t>1 << (index % 64)) - 1))


# ---- nodes, edges, roots -----------------------------------------------------------------

cdef void take_value(void* context, word target) noexcept nogil:
    cdef Taking* t = <Taking*>context
    if not words_push(&t.graph.edges,
                      <uint64_t>EDGE_WEAK_TABLE << EDGE_SLOT | number_of(&t.numbers, target)):
        t.k.error = ENOMEM


cdef void take_node(Taking* t, word obj) noexcept nogil:
    cdef uint32_t shape = shape_of_header(load64_relaxed(<word*>obj))
    cdef ShapeInfo* info = &t.k.heap.shapes[shape]
    cdef word* slots = <word*>obj + header_words(info)
    cdef uint64_t i, count = object_slots(info, obj), before = t.graph.edges.count
    cdef bint done = True
    for i in range(count):
        if is_reference(info.tag_mask, info.tag_bits, slots[i]):
            done = done and words_push(
                &t.graph.edges,
                i << EDGE_SLOT | number_of(&t.numbers, slots[i] & ~info.tag_mask))
    each_ephemeron(t.k, obj, take_value, t)
    done = done and words_push(&t.graph.nodes, shape | object_bytes(info, obj) << 16)
    done = done and words_push(&t.graph.nodes, t.graph.edges.count - before)
    if not done:
        t.k.error = ENOMEM


cdef bint begin_group(Taking* t, const Root* root) noexcept nogil:
    cdef uint64_t name[4]
    cdef uint64_t i
    cdef Words* groups = &t.graph.groups
    cdef bint done
    t.kind = root.kind
    t.mutator = root.mutator
    name[0] = name[1] = name[2] = name[3] = 0
    done = words_push(groups, root.kind)
    if root.kind == ROOT_SHADOW:
        memcpy(name, root.mutator.name, sizeof(name))
        done = done and words_push(groups, <uint64_t>root.mutator.thread_id)
    else:
        done = done and words_push(groups, 0)
    for i in range(4):
        done = done and words_push(groups, name[i])
    return done


cdef void take_root(void* context, HeapState* h, const Root* root, word value) noexcept nogil:
    cdef Taking* t = <Taking*>context
    cdef Graph* g = t.graph
    # A guardian may have got something into its queue since the roots were reached.
    if t.k.error or not counts_as_root(t.k, root) or not set_has(&t.k.seen, value):
        return
    if g.groups.count == 0 or root.kind != t.kind or root.mutator != t.mutator:
        if not begin_group(t, root):
            t.k.error = ENOMEM
            return
    if not (words_push(&g.roots, (g.groups.count // GROUP_ROOTS - 1) << 32
                       | number_of(&t.numbers, value))
            and words_push(&g.roots, root.position)):
        t.k.error = ENOMEM


cdef int take_graph(HeapState* h, Graph* g) noexcept nogil:
    """Fills `g` with everything reachable.  Free it, also after an error."""
    cdef Inspection k
    cdef Taking t
    cdef word at
    cdef int error = begin_inspection(&k, h, OBSERVER_CURSOR)
    if error:
        return error
    reach_roots(&k)
    traverse(&k, NULL, NULL, NULL)
    t.k = &k
    t.graph = g
    t.numbers.before = NULL
    if k.error == 0:
        k.error = number(&t.numbers, &k.seen)
    if k.error == 0:
        read_all_roots(&k, take_root, &t)
    at = k.seen.low
    while k.error == 0:
        at = set_next(&k.seen, at, k.seen.low + k.seen.span)
        if at == 0:
            break
        take_node(&t, at)
        at += WORD
    if t.numbers.before != NULL:
        unmap_memory(<word>t.numbers.before, t.numbers.bytes)
    return end_inspection(&k)


cdef void free_graph(Graph* g) noexcept nogil:
    words_free(&g.nodes)
    words_free(&g.edges)
    words_free(&g.groups)
    words_free(&g.roots)
