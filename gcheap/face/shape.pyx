# cython: nonecheck=True
"""Shapes: declared once, shared by all objects of one layout.

    header | refs[0] .. refs[n-1] | raw part, laid out by numpy.dtype
"""
import copy
import keyword

from gcheap.core.layout cimport (
    MAX_SHAPES, SHAPE_FIXED, SHAPE_RAW, SHAPE_SLOT_ARRAY, SHAPE_SLOTS, ShapeInfo)
from gcheap.core.native cimport store32_release
from gcheap.errors import ShapeError
from gcheap.late import np
from gcheap.face.state cimport HeapCore
from gcheap.face.values cimport value_code
from gcheap.options import format_size
from gcheap.text import shown, title
from libc.stdint cimport uint32_t, uint64_t

DEFAULT_TAG = (7, 0)
MAX_ITEM = 2**31                # bytes of an element, as numpy has it


cdef class Field:
    """One attribute of a shape: a slot, or a piece of the raw part."""

    def __repr__(self):
        return f"<field {self.name}: {'reference' if self.is_ref else self.dtype}>"


cdef class Shape:
    """The layout of objects; made by `Heap.shape`.

    `refs` are the names of the slots, `raw` the dtype of the raw part (None: none), `tag` the
    rule (mask, bits): a word w of a slot is a reference when ``w & mask == bits`` and
    ``w & ~mask != 0``; every other word is a tagged value, which the collector leaves alone.
    """

    def __cinit__(self, object seal=None):
        if seal is not SEAL:
            raise TypeError("shapes are made by Heap.shape(name, refs, raw)")

    @property
    def nbytes(self):
        """Bytes of one object, header included; of an array of length 0."""
        return self.size if self.kind == SHAPE_FIXED else 16

    cdef Field find(self, str name):
        return <Field>self.fields.get(name)

    def __repr__(self):
        return f"<gcheap.Shape {self.title}: refs={self.refs}, raw={self.raw}, {self.nbytes} bytes>"


cdef Field make_field(str name, bint is_ref, uint64_t offset, dtype):
    cdef Field f = Field.__new__(Field)
    f.name = name
    f.is_ref = is_ref
    f.offset = offset
    f.dtype = dtype
    f.size = 8 if is_ref else dtype.itemsize
    f.code = 0 if is_ref else value_code(dtype)
    return f


cdef object SEAL = object()    # what new_shape has and nobody else; as in mutator.pyx


cdef Shape new_shape(HeapCore core, str name, uint32_t kind, tag):
    cdef Shape shape
    shape = Shape.__new__(Shape, SEAL)
    shape.core = core
    shape.name = name
    shape.title = title(name)
    shape.kind = kind
    shape.fields = {}
    shape.refs = ()
    shape.tag = tag
    return shape


cdef int publish(HeapCore core, Shape shape) except -1:
    """Gives a shape its number and its native description.  Under core.guard."""
    cdef ShapeInfo* info
    if core.h.shape_count >= MAX_SHAPES:
        raise ShapeError(f"shape {shown(shape.name)}: a heap has at most {MAX_SHAPES} shapes")
    shape.id = core.h.shape_count
    info = &core.h.shapes[shape.id]
    info.kind = shape.kind
    info.refs = <uint32_t>len(shape.refs)
    info.bytes = shape.size
    info.item = shape.item
    info.tag_mask, info.tag_bits = shape.tag
    core.shapes.append(shape)
    store32_release(&core.h.shape_count, shape.id + 1)
    return 0


cdef object wrong(name, str what):
    return ShapeError(f"shape {shown(name)}: {what}")


def _names(name, refs):
    if not isinstance(name, str) or not name or "\0" in name:
        raise ShapeError(f"shape name {shown(name)}: expected a non-empty string without NUL")
    if isinstance(refs, str):
        raise wrong(name, f"refs={shown(refs)} is one string; expected a sequence of "
                          f"names, such as ({shown(refs)},)")
    try:
        refs = tuple(refs)
    except TypeError:
        raise wrong(name, f"refs={shown(refs)}: expected a sequence of names") from None
    for ref in refs:
        _check_name(name, ref)
    if len(set(refs)) != len(refs):
        raise wrong(name, f"a name occurs twice in refs={shown(refs)}")
    return refs


def _check_name(shape, name):
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or (
            name.startswith("__")):
        raise wrong(shape, f"{shown(name)} cannot be an attribute name")


def _raw_dtype(name, raw):
    if raw is None or (isinstance(raw, (list, tuple)) and not raw):
        return None
    try:
        # The names of fields can be changed in place.
        dtype = copy.deepcopy(np.dtype(raw))
    except MemoryError:
        raise
    except Exception as e:      # SyntaxError and others, of parts of numpy that read texts
        raise wrong(name, f"raw={shown(raw)} is nothing that numpy.dtype() takes: "
                          f"{title(str(e))}") from None
    if dtype.hasobject:
        raise wrong(name, f"raw={shown(raw)} holds Python objects; only plain data can "
                          f"live in the heap")
    return dtype


def check_tag(name, tag):
    """(mask, bits) of a tag rule, or ShapeError."""
    try:
        mask, bits = (int(word.__index__()) for word in tag)
    except (AttributeError, TypeError, ValueError):
        raise wrong(name, f"tag={shown(tag)}: expected (mask, bits), two integers") from None
    if not 0 <= mask < 2**64 or bits & ~mask or bits < 0:
        raise wrong(name, f"tag=({mask:#x}, {bits:#x}): bits must lie within mask, and "
                          f"mask within 64 bits")
    if mask & 0x0000FFFFFFFFFFF8:
        raise wrong(name, f"tag mask {mask:#x} covers address bits; only bits 0-2 "
                          f"and 48-63 can carry a tag")
    return mask, bits


cdef Shape define_shape(HeapCore core, name, refs, raw, tag):
    cdef Shape shape
    cdef uint64_t offset
    refs = _names(name, refs)
    dtype = _raw_dtype(name, raw)
    tag = (core.h.tag_mask, core.h.tag_bits) if tag is None else check_tag(name, tag)
    shape = new_shape(core, name, SHAPE_FIXED, tag)
    shape.refs = refs
    shape.raw = dtype
    offset = 8
    for ref in refs:
        shape.fields[ref] = make_field(ref, True, offset, None)
        offset += 8
    if dtype is not None:
        pieces = ({"value": (dtype, 0)} if dtype.names is None else
                  {field: dtype.fields[field] for field in dtype.names})
        for field, where in pieces.items():
            _check_name(name, field)
            if where[0].itemsize == 0:
                raise wrong(name, f"raw field {shown(field)} has no bytes ({where[0]})")
            if field in shape.fields:
                raise wrong(name, f"{shown(field)} is both a reference and a raw field")
            shape.fields[field] = make_field(field, False, offset + where[1], where[0])
        offset += dtype.itemsize
    shape.size = max(16, (offset + 7) // 8 * 8)
    if shape.size > core.h.capacity:
        raise wrong(name, f"one object takes {format_size(shape.size)}, more than "
                          f"the heap's capacity of {format_size(core.h.capacity)}")
    return define(core, shape)


cdef Shape define_array(HeapCore core, name, uint32_t kind, item, tag):
    """A named shape of arrays: of slots under the rule `tag`, or raw ones of `item` bytes each."""
    cdef Shape shape
    _names(name, ())
    shape = new_shape(core, name, kind, (core.h.tag_mask, core.h.tag_bits) if tag is None
                      else check_tag(name, tag))
    shape.item = 8
    if kind == SHAPE_RAW:
        if not 0 < item <= MAX_ITEM:
            raise wrong(name, f"elements of {item} bytes; expected 1 to {MAX_ITEM}")
        shape.item = item
    return define(core, shape)


cdef int complete(Shape shape) except -1:
    """What Python sees of the elements of a raw array.  Not before it looks: native programs that
    define shapes need no numpy."""
    shape.raw = np.dtype(f"V{shape.item}" if shape.item > 1 else "u1")
    shape.element = make_field("element", False, 16, shape.raw)
    return 0


cdef Shape define(HeapCore core, Shape shape):
    """`shape`, published under its name; or the one of that name, if it is the same."""
    cdef Shape known
    with core.guard:
        core.check_open()
        known = core.shapes_by_name.get(shape.name)
        if known is not None:
            if ((known.kind, known.refs, known.tag, known.item)
                    == (shape.kind, shape.refs, shape.tag, shape.item)
                    and (shape.kind == SHAPE_RAW or (
                        (known.raw is None) == (shape.raw is None) and known.raw == shape.raw))):
                return known
            raise wrong(shape.name, f"defined already, as {known!r}; choose another name for "
                                    f"refs={shape.refs}, raw={shape.raw}, tag={shape.tag}")
        publish(core, shape)
        core.shapes_by_name[shape.name] = shape
    return shape


cdef Shape array_shape(HeapCore core, dtype):
    """The shape of raw arrays of `dtype`, one a heap."""
    cdef Shape shape
    dtype = _raw_dtype("array", dtype)
    if dtype is None or dtype.itemsize == 0:
        raise ShapeError(f"an array of {dtype} has elements without bytes")
    if dtype.subdtype is not None:
        base, dims = dtype.subdtype
        raise ShapeError(f"an array of {dtype}: elements are scalars or records; use an array of "
                         f"{base} with {int(np.prod(dims))} times as many elements")
    with core.guard:
        core.check_open()
        shape = core.array_shapes.get(dtype)
        if shape is None:
            shape = new_shape(core, f"array[{dtype}]", SHAPE_RAW, DEFAULT_TAG)
            shape.raw = dtype
            shape.item = dtype.itemsize
            shape.element = make_field("element", False, 16, dtype)
            publish(core, shape)
            core.array_shapes[dtype] = shape
    return shape


cdef Shape builtin_shape(HeapCore core, uint32_t id):
    """The slot array or the byte array shape."""
    cdef Shape shape = core.shapes[id]
    if shape is None:
        if id == SHAPE_SLOT_ARRAY:
            shape = new_shape(core, "slots", SHAPE_SLOTS,
                              (core.h.shapes[id].tag_mask, core.h.shapes[id].tag_bits))
            shape.item = 8
        else:
            shape = new_shape(core, "bytes", SHAPE_RAW, DEFAULT_TAG)
            shape.item = 1
            complete(shape)
        shape.id = id
        core.shapes[id] = shape
    return shape
