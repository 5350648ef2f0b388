# cython: nonecheck=True
"""Refs: what Python holds instead of an address.

A `Ref` is an index into the heap's handle table.  It keeps its object alive; dropping it, on
any thread, at any time, drops the root.  The address is read from the table inside each
operation, while the mutator is RUNNING, and never leaves it.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from gcheap.core.barrier cimport store_slot
from gcheap.core.identity cimport identity_hash
from gcheap.core.inspect cimport drop_observer
from gcheap.core.layout cimport (
    MutatorState, SHAPE_BYTES, SHAPE_FIXED, SHAPE_RAW, SHAPE_SLOTS, word)
from gcheap.core.native cimport load64_relaxed
from gcheap.core.objects cimport is_reference, shape_of_header
from gcheap.core.pinned cimport is_pinned
from gcheap.core.roots cimport drop_handle, handle_value, take_handle
from gcheap.core.safepoint cimport leave_running
from gcheap.core.space cimport release_pinned
from gcheap.errors import ForeignRef
from gcheap.face.exactly import to_array
from gcheap.late import np
from gcheap.face.shape cimport Field, Shape, builtin_shape, complete
from gcheap.face.state cimport HeapCore
from gcheap.face.values cimport read_value, whole_number, write_value
from gcheap.text import shown
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    SMALL = 64                  # raw values up to this size go through the stack
    PIECE = 1 << 20             # bytes copied between safepoints


cdef class Tagged:
    """A tagged value: a 64-bit word in a slot that the shape's tag rule says is no reference.

    Under the default rule every word whose low three bits are not all zero is one.
    """

    def __cinit__(self, word):
        number = whole_number(word, "Tagged", "an integer")
        if not 0 <= number < 2**64:
            raise OverflowError(f"Tagged({shown(word)}): expected 0 to 2**64 - 1")
        self.word = number

    def __reduce__(self):
        return Tagged, (self.word,)

    def __eq__(self, other):
        return isinstance(other, Tagged) and self.word == (<Tagged>other).word

    def __hash__(self):
        return hash(self.word)

    def __repr__(self):
        return f"Tagged({self.word:#x})"


# ---- slots and Python values ----------------------------------------------------------------

cdef Ref check_ref(HeapCore core, value, str where):
    cdef Ref ref = <Ref>value
    if ref.core is not core:
        raise ForeignRef(f"{where}: {shown(value)} belongs to another heap; copy its contents "
                         f"instead")
    return ref


cdef int write_slot(HeapCore core, Shape shape, Ref owner, uint64_t offset, value,
                    str where) except -1:
    """Stores None, a Ref of this heap or a Tagged into the slot at `offset` of owner's object."""
    cdef MutatorState* m
    cdef word new = 0, obj
    cdef uint64_t mask, bits
    cdef uint32_t target = 0
    mask, bits = shape.tag
    if value is None:
        pass
    elif isinstance(value, Ref):
        target = check_ref(core, value, where).handle
    elif isinstance(value, Tagged):
        new = (<Tagged>value).word
        if is_reference(mask, bits, new):
            raise ValueError(f"{where}: {shown(value)} would be a reference under the tag rule "
                             f"(mask {mask:#x}, bits {bits:#x})")
    else:
        raise TypeError(f"{where}: a slot holds a Ref, None or Tagged, not {shown(value)}")
    m = core.enter()
    if target:
        new = handle_value(core.h, target)[0] | bits
    obj = handle_value(core.h, owner.handle)[0]
    store_slot(m, obj, <word*>(obj + offset), new)
    leave_running(m)
    return 0


cdef object read_slot(HeapCore core, Shape shape, Ref owner, uint64_t offset):
    """A Ref, None or Tagged."""
    cdef MutatorState* m
    cdef word value, target
    cdef uint64_t mask, bits, length = 0
    cdef uint32_t handle = 0, shape_id = 0
    mask, bits = shape.tag
    m = core.enter()
    value = load64_relaxed(<word*>(handle_value(core.h, owner.handle)[0] + offset))
    if is_reference(mask, bits, value):
        target = value & ~mask
        shape_id = shape_of_header((<word*>target)[0])
        if core.h.shapes[shape_id].kind != SHAPE_FIXED:
            length = (<word*>target)[1]
        handle = take_handle(core.h, m, target)
        leave_running(m)
        if handle == 0:
            raise MemoryError("gcheap: no memory for another handle")
        return new_ref(core, handle, shape_id, length)
    leave_running(m)
    return None if value == 0 else Tagged(value)


# new_ref is making one: nobody else may.  Under the GIL, and without a collection of Python's garbage,
# in which a Ref has no part (see SEAL in mutator.pyx).
cdef bint making = False


cdef Ref new_ref(HeapCore core, uint32_t handle, uint32_t shape_id, uint64_t length):
    """Wraps a handle that the caller has just taken."""
    cdef Ref ref
    cdef Shape shape
    cdef SlotArray slots
    cdef RawArray raw
    cdef uint32_t kind = core.h.shapes[shape_id].kind
    global making
    making = True
    try:
        if kind == SHAPE_FIXED:
            ref = Ref.__new__(Ref)
        elif kind == SHAPE_SLOTS:
            slots = SlotArray.__new__(SlotArray)
            slots.length = length
            ref = slots
        else:
            raw = RawArray.__new__(RawArray)
            raw.length = length
            # The word may be a moving object's and change: that is never a pinned address.
            raw.is_pinned = is_pinned(core.h, load64_relaxed(handle_value(core.h, handle)))
            ref = raw
        shape = core.shapes[shape_id] if shape_id > SHAPE_BYTES else builtin_shape(core, shape_id)
        if kind == SHAPE_RAW and shape.element is None:
            complete(shape)
    except BaseException:
        making = False
        drop_observer(core.h, handle)       # whichever it is
        raise
    ref.core = core
    ref.handle = handle
    ref.layout = shape
    return ref


# ---- fields ----------------------------------------------------------------------------------

cdef object no_such_field(Ref ref, name):
    return AttributeError(f"shape {shown(ref.layout.name)} has no field {shown(name)}; it has "
                          f"{', '.join(ref.layout.fields) or 'none'}")


cdef object get_field(Ref ref, Field f):
    cdef MutatorState* m
    cdef char small[SMALL]
    cdef char* into = small
    cdef bytes large
    if f.is_ref:
        return read_slot(ref.core, ref.layout, ref, f.offset)
    if f.size > SMALL:
        large = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>f.size)
        into = PyBytes_AS_STRING(large)
    m = ref.core.enter()
    memcpy(into, <char*>(handle_value(ref.core.h, ref.handle)[0] + f.offset), f.size)
    leave_running(m)
    return read_value(into, f.code, f.dtype)


cdef int set_field(Ref ref, str name, value) except -1:
    cdef MutatorState* m
    cdef char small[SMALL]
    cdef char* data = small
    cdef bytes large
    cdef Field f = ref.layout.find(name)
    if f is None:
        raise no_such_field(ref, name)
    if f.is_ref:
        return write_slot(ref.core, ref.layout, ref, f.offset, value,
                          f"{ref.layout.title}.{name}")
    if f.size > SMALL:
        large = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>f.size)
        data = PyBytes_AS_STRING(large)
    write_value(data, f.size, f.code, f.dtype, value, f"{ref.layout.title}.{name}")
    m = ref.core.enter()
    memcpy(<char*>(handle_value(ref.core.h, ref.handle)[0] + f.offset), data, f.size)
    leave_running(m)
    return 0


cdef uint32_t hash_of(HeapCore core, uint32_t handle) except 0:
    """The hash in the object's header; drawn when first asked for, the same for ever after."""
    cdef MutatorState* m = core.enter()
    cdef uint32_t hash = identity_hash(m, handle_value(core.h, handle)[0], 0)
    leave_running(m)
    return hash


# No part in cyclic garbage collection: nothing a Ref holds ever refers back to it, and clearing
# `core` before __dealloc__ would leak the root.
@cython.no_gc
cdef class Ref:
    """A reference to an object of a fixed shape: its fields are attributes.

    Fields come before methods: a field named `shape` hides the attribute of that name.
    Reading, writing, comparing and hashing need an attached thread (NotAttached otherwise);
    a Ref may be kept, passed on and dropped anywhere.
    """

    def __cinit__(self):
        global making
        if not making:
            raise TypeError("refs are made by a Mutator: m.new(shape), m.new_slots(n), …")
        making = False

    def __dealloc__(self):
        if self.handle and self.core is not None:
            if self.observer:
                drop_observer(self.core.h, self.handle)
            else:
                drop_handle(self.core.h, self.handle)

    def __getattribute__(self, name):
        cdef Field f = self.layout.find(<str>name)
        if f is not None:
            return get_field(self, f)
        try:
            return object.__getattribute__(self, name)
        except AttributeError:
            raise no_such_field(self, name) from None

    def __setattr__(self, name, value):
        set_field(self, name, value)

    def __delattr__(self, name):
        cdef Field f = self.layout.find(<str>name)
        if f is None:
            raise no_such_field(self, name)
        raise AttributeError(f"{self.layout.title}.{name}: an object always has all its fields; "
                             f"{'set it to None' if f.is_ref else 'set it to another value'}")

    @property
    def shape(self):
        """The object's Shape."""
        return self.layout

    def __eq__(self, other):
        cdef Ref b
        cdef MutatorState* m
        cdef bint same
        if self is other:
            return True
        if not isinstance(other, Ref):
            return NotImplemented
        b = <Ref>other
        if self.core is not b.core:
            return False
        m = self.core.enter()
        same = handle_value(self.core.h, self.handle)[0] == handle_value(b.core.h, b.handle)[0]
        leave_running(m)
        return same

    def __hash__(self):
        if not self.hashed:
            self.cached_hash = hash_of(self.core, self.handle)
            self.hashed = True
        return self.cached_hash

    def __repr__(self):
        return f"<gcheap.{type(self).__name__} {self.layout.title}>"

    def __reduce__(self):
        raise TypeError("a Ref cannot be pickled: it means something in its own heap only")


# ---- arrays ----------------------------------------------------------------------------------

cdef object place_of(index, uint64_t length, str what):
    """`index` as a place in [0, length); negative ones count from the end."""
    i = whole_number(index, what, "an integer index")
    if i < 0:
        i += length
    if not 0 <= i < length:
        raise IndexError(f"{what}: index {shown(index)} is out of range for length {length}")
    return i


@cython.no_gc
cdef class SlotArray(Ref):
    """A reference to an array of slots: a[i] is a Ref, None or Tagged; len(a); iteration."""

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        cdef uint64_t i = place_of(index, self.length, "slots")
        return read_slot(self.core, self.layout, self, 16 + 8 * i)

    def __setitem__(self, index, value):
        cdef uint64_t i = place_of(index, self.length, "slots")
        write_slot(self.core, self.layout, self, 16 + 8 * i, value, f"slots[{i}]")

    def __iter__(self):
        for i in range(self.length):
            yield self[i]

    def __repr__(self):
        return f"<gcheap.SlotArray of {self.length}>"


cdef int fill(RawArray array, const char* data, uint64_t first, uint64_t nbytes) except -1:
    """Copies bytes into the array, in pieces with a safepoint between them."""
    cdef uint64_t done = 0, n
    cdef MutatorState* m
    cdef HeapCore core = array.core
    while done < nbytes:
        n = min(nbytes - done, <uint64_t>PIECE)
        m = core.enter()
        memcpy(<char*>(handle_value(core.h, array.handle)[0] + 16 + first + done), data + done, n)
        leave_running(m)
        done += n
    return 0


cdef bytes snapshot(RawArray array, uint64_t first, uint64_t nbytes):
    """A copy of bytes of the array, in pieces with a safepoint between them."""
    cdef uint64_t done = 0, n
    cdef MutatorState* m
    cdef HeapCore core = array.core
    cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>nbytes)
    cdef char* to = PyBytes_AS_STRING(out)
    while done < nbytes:
        n = min(nbytes - done, <uint64_t>PIECE)
        m = core.enter()
        memcpy(to + done, <char*>(handle_value(core.h, array.handle)[0] + 16 + first + done), n)
        leave_running(m)
        done += n
    return out


@cython.no_gc
cdef class RawArray(Ref):
    """A reference to an array of raw elements.

    a[i] is one element, a[i:j] a copy (`bytes` of a byte array, else a numpy array).  An array that
    is not pinned moves and shows no address, so there is no view of it, and np.asarray(a) raises
    TypeError: copy_out and copy_in move data.  A pinned one exports the buffer protocol:
    np.asarray(a) and memoryview(a) are writable views that keep it alive, also when the heap is
    closed.
    """

    def __getbuffer__(self, Py_buffer* view, int flags):
        if not self.is_pinned:
            raise BufferError(
                "a view needs an array that does not move: m.new_array(dtype, n, pinned=True); "
                "this one moves, copy_out() makes a copy of it")
        if self.format is None:
            try:
                self.format = memoryview(np.empty(0, self.layout.raw)).format.encode()
            except (ValueError, NotImplementedError):
                raise BufferError(f"numpy has no buffer format for {self.layout.raw}; pin an "
                                  f"array of bytes and view that") from None
        # No Python code from here on: another thread might close the heap under the address.
        self.core.check_open()
        view.buf = <char*>load64_relaxed(handle_value(self.core.h, self.handle)) + 16
        view.obj = self
        view.len = self.length * self.layout.item
        view.itemsize = self.layout.item
        view.readonly = 0
        view.ndim = 1
        view.format = PyBytes_AS_STRING(self.format) if flags & PyBUF_FORMAT else NULL
        self.extent[0] = <Py_ssize_t>self.length
        view.shape = self.extent
        view.strides = &view.itemsize
        view.suboffsets = NULL
        view.internal = NULL
        self.core.exports += 1

    def __array__(self, dtype=None, copy=None):
        """What numpy asks for where there is no buffer, and without which it would copy element by
        element.  Of a pinned array its view, as `np.array` has it; TypeError where there is none.
        """
        try:
            view = memoryview(self)
        except BufferError as error:
            raise TypeError(f"{error}") from None
        return np.array(view, dtype=dtype, copy=copy)

    def __releasebuffer__(self, Py_buffer* view):
        self.core.exports -= 1
        if self.core.exports == 0 and self.core.h.blocks == NULL:
            release_pinned(self.core.h)         # the heap was closed before its last view

    @property
    def pinned(self):
        """Whether the array stays at one address, which views may show."""
        return bool(self.is_pinned)

    @property
    def dtype(self):
        """The numpy.dtype of an element."""
        return self.layout.raw

    def __len__(self):
        return self.length

    cdef tuple span(self, index):
        first, last, step = index.indices(self.length)
        if step != 1:
            raise ValueError(f"array[{shown(index)}]: only slices with step 1 can be copied")
        return first, max(first, last)

    def __getitem__(self, index):
        cdef uint64_t i
        if isinstance(index, slice):
            first, last = self.span(index)
            raw = snapshot(self, first * self.layout.item, (last - first) * self.layout.item)
            return raw if self.layout.id == SHAPE_BYTES else (
                np.frombuffer(raw, self.layout.raw).copy())
        i = place_of(index, self.length, "array")
        raw = snapshot(self, i * self.layout.item, self.layout.item)
        return read_value(PyBytes_AS_STRING(raw), self.layout.element.code, self.layout.raw)

    def __setitem__(self, index, value):
        cdef uint64_t i
        cdef bytes raw
        if isinstance(index, slice):
            first, last = self.span(index)
            source = self.convert(value).reshape(-1)
            if len(source) != last - first:
                raise ValueError(f"array[{shown(index)}]: {len(source)} elements do not fit the "
                                 f"place of {last - first}")
            self.copy_in(source, first)
            return
        i = place_of(index, self.length, "array")
        raw = bytes(self.layout.item)
        write_value(PyBytes_AS_STRING(raw), self.layout.item, self.layout.element.code,
                    self.layout.raw, value, f"array[{i}]")
        fill(self, PyBytes_AS_STRING(raw), i * self.layout.item, self.layout.item)

    def convert(self, values):
        """`values` as a contiguous numpy array of this dtype; refuses what would be cut."""
        if isinstance(values, RawArray):
            values = values.copy_out()
        if isinstance(values, (bytes, bytearray, memoryview)) and self.layout.item == 1:
            return np.frombuffer(values, self.layout.raw)
        return to_array(values, self.layout.raw)

    def copy_in(self, values, start=0):
        """Copies `values` (anything numpy takes, or bytes) into elements start, start + 1, …"""
        cdef bytes raw
        start = whole_number(start, "copy_in", "the index of an element")
        source = self.convert(values).reshape(-1)
        if not 0 <= start <= self.length or len(source) > self.length - start:
            raise IndexError(f"{len(source)} elements from {shown(start)} on do not fit an array "
                             f"of {self.length}")
        raw = source.tobytes()
        fill(self, PyBytes_AS_STRING(raw), start * self.layout.item, len(raw))

    def copy_out(self):
        """A numpy array with a copy of all elements."""
        raw = snapshot(self, 0, self.length * self.layout.item)
        return np.frombuffer(raw, self.layout.raw).copy()

    def __bytes__(self):
        return snapshot(self, 0, self.length * self.layout.item)

    def __iter__(self):
        for i in range(self.length):
            yield self[i]

    def __repr__(self):
        return f"<gcheap.RawArray of {self.length} {self.layout.raw}>"
