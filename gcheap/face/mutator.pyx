# cython: nonecheck=True
"""Mutators: a thread's licence to touch objects."""
import threading

from cpython.bytes cimport PyBytes_AS_STRING
from gcheap._fastpath cimport alloc_try, wait_for_cycle, wait_for_room
from gcheap.core.layout cimport (
    MutatorState, SHAPE_BYTES, SHAPE_FIXED, SHAPE_SLOT_ARRAY, word)
from gcheap.core.native cimport unlikely
from gcheap.core.objects cimport array_bytes, header_of_shape
from gcheap.core.pinned cimport pinned_charge, take_pinned
from gcheap.core.roots cimport take_handle
from gcheap.core.safepoint cimport (
    attach_mutator, detach_mutator, drop_owner, leave_running, thread_mutator)
from gcheap.core.signals cimport unblock_sigbus
from gcheap.core.stress cimport cycle_due, wait_for_flip
from gcheap.core.tlab cimport NO_PLACE, TAKEN
from gcheap.errors import ForeignRef, HeapExhausted, NotAttached
from gcheap.face.exhaustion cimport exhausted
from gcheap.face.limits import mapping_advice
from gcheap.face.ref cimport RawArray, Ref, fill, new_ref, set_field
from gcheap.face.shape cimport Shape, array_shape
from gcheap.face.state cimport HeapCore
from gcheap.face.values cimport whole_number
from gcheap.face.weakref cimport new_weak
from gcheap.options import format_size
from gcheap.text import shown
from libc.stdint cimport uint32_t, uint64_t, uintptr_t


cdef uint32_t leave_with(MutatorState* m, word at) except 0:
    """Ends the running stretch in which an object was made; a handle to it."""
    cdef uint32_t handle = take_handle(m.heap, m, at)
    leave_running(m)
    if unlikely(handle == 0):
        raise MemoryError("gcheap: no memory for another handle")
    return handle


cdef class Mutator:
    """The calling thread, attached to a heap: it may allocate, and read and write objects.

    Made by `Heap.attach`.  Belongs to the thread that made it; every method raises NotAttached
    in any other.  Between calls the thread is outside the heap and may block as it likes.
    As a context manager it detaches at the end; a thread that ends is detached as well.
    """

    def __cinit__(self, object seal=None):
        if seal is not SEAL:
            raise TypeError("mutators are made by Heap.attach()")

    def __dealloc__(self):
        if self.m != NULL:
            drop_owner(self.m)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if not self.left:
            self.detach()

    cdef int check(self) except -1:
        self.core.check_open()
        if self.left or self.m.detached or thread_mutator(self.core.h) != self.m:
            raise NotAttached(
                f"this Mutator was detached or belongs to another thread than "
                f"{threading.current_thread().name!r}; call heap.attach() in the thread that "
                f"uses it")
        return 0

    def detach(self):
        """Ends the attachment.  Refs stay valid.  Raises NotAttached when it has ended."""
        cdef MutatorState* m = self.m
        if self.core.h.forked:
            self.left = True
            return
        if self.left or m.detached or thread_mutator(self.core.h) != m:
            raise NotAttached("this Mutator is detached already or belongs to another thread")
        self.left = True
        with nogil:
            detach_mutator(m)

    def native(self):
        """The address of the native mutator (`MutatorState*` of gcheap/core/layout.pxd), for
        code that cimports gcheap.heap."""
        self.check()
        return <uintptr_t>self.m

    cdef int begin_allocation(self) except -1:
        """Before every allocation: may this thread, and does a stress mode want a cycle first?"""
        cdef uint64_t ticket
        self.check()
        if unlikely(self.core.h.stress.collect_every):
            ticket = cycle_due(self.m)
            if ticket:
                with nogil:
                    wait_for_flip(self.core.h, ticket)
                self.check()
        return 0

    cdef uint32_t allocate(self, uint32_t shape, uint64_t nbytes, uint64_t length) except 0:
        """A handle to a new, zeroed object.  Stalls without the GIL while a cycle makes room."""
        cdef MutatorState* m
        cdef word at
        cdef bint found
        self.begin_allocation()
        while True:
            m = self.core.enter()
            at = alloc_try(m, nbytes, header_of_shape(shape), length)
            if at:
                return leave_with(m, at)
            leave_running(m)
            with nogil:
                found = wait_for_room(m, nbytes, False)
            if not found:
                self.core.check_open()
                self.core.check_engine()
                raise exhausted(self.core, nbytes)

    def new(self, Shape shape not None, /, **fields):
        """A new object of `shape`; fields not given are zero or None.

        Raises HeapExhausted when a finished cycle could not make room, AttributeError for a
        field that the shape lacks, OverflowError, TypeError or ValueError for a value that does
        not fit, ForeignRef for a Ref or Shape of another heap.
        """
        cdef Ref ref
        if shape.core is not self.core:
            raise ForeignRef(f"{shape!r} belongs to another heap; declare it here with heap.shape")
        if shape.kind != SHAPE_FIXED:
            raise TypeError(f"{shape!r} is an array's; use new_slots, new_bytes or new_array")
        ref = new_ref(self.core, self.allocate(shape.id, shape.size, 0), shape.id, 0)
        for name in fields:
            set_field(ref, name, fields[name])
        return ref

    cdef uint64_t checked_length(self, n, uint64_t item, str what) except? <uint64_t>-1:
        length = whole_number(n, what, "a number of elements")
        if length < 0:
            raise ValueError(f"{what}: {shown(length)} elements; expected 0 or more")
        if length * item > self.core.h.capacity:
            raise exhausted(self.core, min(length * item, 2**63))
        return length

    def new_slots(self, n):
        """A new array of `n` reference slots, all None."""
        cdef uint64_t length = self.checked_length(n, 8, "new_slots")
        return new_ref(self.core, self.allocate(SHAPE_SLOT_ARRAY, array_bytes(8, length), length),
                       SHAPE_SLOT_ARRAY, length)

    def new_bytes(self, data):
        """A new byte array with a copy of `data` (bytes-like)."""
        cdef bytes source = bytes(memoryview(data))
        cdef uint64_t length = self.checked_length(len(source), 1, "new_bytes")
        cdef RawArray ref = new_ref(
            self.core, self.allocate(SHAPE_BYTES, array_bytes(1, length), length), SHAPE_BYTES,
            length)
        fill(ref, PyBytes_AS_STRING(source), 0, length)
        return ref

    cdef uint32_t allocate_pinned(self, uint32_t shape, uint64_t nbytes,
                                  uint64_t length) except 0:
        """A handle to a new pinned array; as `allocate`."""
        cdef MutatorState* m
        cdef word at
        cdef int taken
        cdef bint found, scattered = False
        self.begin_allocation()
        while True:
            m = self.core.enter()
            taken = take_pinned(self.core.h, m, nbytes, shape, length, &at)
            if taken == TAKEN:
                return leave_with(m, at)
            leave_running(m)
            if taken == NO_PLACE and scattered:
                raise HeapExhausted(
                    f"no {format_size(nbytes)} of adjacent pages are free for a pinned array: "
                    f"{format_size(self.core.h.pinned.used)} of pinned arrays lie scattered; drop "
                    f"some of them, or raise capacity")
            with nogil:
                if taken == NO_PLACE:
                    scattered = True
                    found = wait_for_cycle(m)
                else:
                    found = wait_for_room(m, pinned_charge(self.core.h, nbytes), True)
            if not found:
                self.core.check_open()
                self.core.check_engine()
                raise exhausted(self.core, nbytes)

    def new_array(self, dtype, n, pinned=False):
        """A new array of `n` elements of `dtype` (anything numpy.dtype() takes), all zero.

        pinned  it never moves and takes whole pages: np.asarray() of it is a view, and its
                address may be given to system calls and C

        Raises HeapExhausted, ShapeError for a dtype that cannot be an element, and ValueError or
        TypeError for an `n` that is no count.
        """
        cdef Shape shape
        cdef uint64_t length
        self.check()
        shape = array_shape(self.core, dtype)
        length = self.checked_length(n, shape.item, "new_array")
        if pinned:
            return new_ref(self.core, self.allocate_pinned(
                shape.id, array_bytes(shape.item, length), length), shape.id, length)
        return new_ref(self.core,
                       self.allocate(shape.id, array_bytes(shape.item, length), length),
                       shape.id, length)

    def weak(self, ref):
        """A `WeakRef` to the object of `ref`: it does not keep the object alive.  Dropping one is
        lock-free, on any thread.  Raises ForeignRef for a Ref of another heap."""
        self.check()
        return new_weak(self.core, ref)

    def __repr__(self):
        return f"<gcheap.Mutator {'detached' if self.left else 'attached'}>"


# What attach has and nobody else.  No flag: making an object may collect Python's garbage, and so run
# anything, in other threads too.
cdef object SEAL = object()


cdef bytes label_of(str name):
    """A name as the native side keeps it: at most 31 bytes, whole printable characters."""
    text = "".join([c if c.isprintable() else "?" for c in name[:31]])
    return text.encode()[:31].decode(errors="ignore").encode()


cdef Mutator attach(HeapCore core, str name):
    cdef Mutator mutator
    cdef MutatorState* m = NULL
    cdef bytes label = label_of(name)
    cdef const char* text = label
    cdef int error
    core.check_open()
    if thread_mutator(core.h) != NULL:
        raise NotAttached(
            f"thread {threading.current_thread().name!r} is attached to this heap already; detach "
            f"its Mutator first")
    if core.h.server == NULL:
        unblock_sigbus()
    with nogil:
        error = attach_mutator(core.h, text, &m)
    if error:
        raise MemoryError(f"gcheap: no memory for the shadow stack and buffers of a mutator: "
                          f"{mapping_advice(error)}")
    mutator = Mutator.__new__(Mutator, SEAL)
    mutator.core = core
    mutator.m = m
    return mutator
