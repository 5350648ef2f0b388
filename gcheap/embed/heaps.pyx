"""Heaps and shapes for native code: what needs Python, behind functions that do not show it.

A heap of native code is a `gcheap.Heap` that this module keeps until it is closed; so everything
that looks at heaps works on it.  A heap that Python made is known here while its object lives.
"""
import weakref

from cpython.exc cimport PyErr_SetObject
from cpython.ref cimport Py_INCREF, PyObject
from gcheap.core.layout cimport (
    HeapState, Listener, SHAPE_FIXED, SHAPE_SLOT_ARRAY)
from gcheap.core.native cimport load64_acquire, mutex_lock, mutex_unlock, store64_release
from gcheap.embed.mutators cimport TagRule, complain, refuse_running
from gcheap.errors import HeapClosed, OptionError
from gcheap.face.heap import Heap, core_of
from gcheap.face.shape cimport Shape, define_array, define_shape
from gcheap.face.shape import check_tag
from gcheap.face.state cimport HeapCore
from libc.stdint cimport uint32_t, uint64_t, uintptr_t

_kept = {}                              # address -> Heap that native code made
_known = weakref.WeakValueDictionary()  # address -> Heap


cdef void explain(error) noexcept:
    """The exception as this thread's message."""
    text = f"{type(error).__name__}: {error}".encode()
    complain(<const char*>text)


cdef object heap_at(HeapState* h):
    heap = _known.get(<uintptr_t>h)
    if heap is None:
        raise HeapClosed("no open heap of native code has this address")
    return heap


cdef object rule(const TagRule* tag):
    return None if tag == NULL else (tag.mask, tag.bits)


def _given(text):
    """{"capacity": "64MiB", …} of "capacity=64MiB …"."""
    options = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or name in options:
            raise OptionError(f"heap options {text!r}: expected each option once, as name=value, "
                              f"separated by blanks; {word!r} is not that")
        options[name] = value
    return options


cdef object tagged_heap(dict options, tag):
    """A Heap whose rule for shadow stacks, root areas and arrays of slots is `tag`; None: the
    default."""
    cdef HeapCore core
    heap = Heap(**options)
    core = core_of(heap)
    if tag is not None:
        core.h.tag_mask, core.h.tag_bits = check_tag("slots", tag)
        core.h.shapes[SHAPE_SLOT_ARRAY].tag_mask = core.h.tag_mask
        core.h.shapes[SHAPE_SLOT_ARRAY].tag_bits = core.h.tag_bits
    return heap


cdef HeapState* make_heap_nogil(const char* options, const TagRule* tag) noexcept with gil:
    try:
        heap = tagged_heap(_given((b"" if options == NULL else <bytes>options).decode()),
                           rule(tag))
        _known[heap.native()] = _kept[heap.native()] = heap
        return <HeapState*><uintptr_t>heap.native()
    except BaseException as error:
        explain(error)
        return NULL


cdef HeapState* gc_new_heap(const char* options, const TagRule* tag) noexcept nogil:
    """See gcheap.h.  NULL: OptionError and what else gcheap.Heap() raises."""
    if refuse_running(b"gc_new_heap()"):
        return NULL
    return make_heap_nogil(options, tag)


cdef int close_heap(HeapState* h) noexcept with gil:
    try:
        heap = heap_at(h)
        heap.close()
        del _known[<uintptr_t>h]
        _kept.pop(<uintptr_t>h, None)
        return 0
    except BaseException as error:
        explain(error)
        return -1


cdef int gc_close_heap(HeapState* h) noexcept nogil:
    """See gcheap.h."""
    if refuse_running(b"gc_close_heap()"):
        return -1
    return close_heap(h)


cdef uint32_t make_shape(HeapState* h, const ShapeSpec* spec) noexcept with gil:
    cdef Shape shape
    try:
        name = (<bytes>spec.name).decode()
        if spec.kind == SHAPE_FIXED:
            slots = () if spec.slots == NULL else (<bytes>spec.slots).decode().split()
            raw = [("raw", "u1", (spec.raw_bytes,))] if spec.raw_bytes else ()
            shape = define_shape(core_of(heap_at(h)), name, slots, raw, rule(spec.tag))
        else:
            shape = define_array(core_of(heap_at(h)), name, spec.kind, spec.raw_bytes,
                                 rule(spec.tag))
        return shape.id
    except BaseException as error:
        explain(error)
        return 0


cdef uint32_t gc_define_shape(HeapState* h, const ShapeSpec* spec) noexcept nogil:
    """See gcheap.h.  0: ShapeError."""
    if refuse_running(b"gc_define_shape()"):
        return 0
    return make_shape(h, spec)


cdef int gc_set_listener(HeapState* h, Listener listener, void* data) noexcept nogil:
    """See gcheap.h.  -1: it has one, or a thread is attached."""
    cdef int error = 0
    if refuse_running(b"gc_set_listener()"):
        return -1
    mutex_lock(&h.list_lock)
    if load64_acquire(<uint64_t*>&h.listener) or h.mutators != NULL:
        complain(b"gc_set_listener: a heap gets one listener, before the first thread attaches")
        error = -1
    else:
        h.listener_data = data
        # Release: who sees the listener sees its data.
        store64_release(<uint64_t*>&h.listener, <uint64_t>listener)
    mutex_unlock(&h.list_lock)
    return error


cdef HeapState* gc_heap_of_object(PyObject* heap) noexcept with gil:
    """The native heap of a gcheap.Heap."""
    try:
        address = (<object>heap).native() if isinstance(<object>heap, Heap) else None
        if address is None:
            raise TypeError(f"expected a gcheap.Heap, got {<object>heap!r}")
        _known[address] = <object>heap
        return <HeapState*><uintptr_t>address
    except BaseException as error:
        PyErr_SetObject(type(error), error)
        return NULL


cdef PyObject* gc_object_of_heap(HeapState* h) noexcept with gil:
    """The gcheap.Heap of a native heap: a new reference."""
    try:
        heap = heap_at(h)
        Py_INCREF(heap)
        return <PyObject*>heap
    except BaseException as error:
        PyErr_SetObject(type(error), error)
        return NULL
