# cython: nonecheck=True
"""Weak references to heap objects, and the notices on which finalizers run."""
cimport cython
from gcheap.core.layout cimport HeapState, MutatorState
from gcheap.core.native cimport (
    add32_seq, add64_relaxed, futex_wait, futex_wake_all, load32_acquire,
    load32_seq, load64_relaxed, store32_seq)
from gcheap.core.roots cimport handle_value
from gcheap.core.safepoint cimport leave_running
from gcheap.core.space cimport release_heap
from gcheap.core.weak cimport drop_weak, take_notices, take_weak, weak_cell, weak_read
from gcheap.core.weakdata cimport NOTICE_NONE, NOTICE_TAKEN, NOTICE_WANTED, WEAK_SHARDS, weak_state
from gcheap.face.found cimport Found, found_value, keep_object
from gcheap.face.ref cimport Ref, check_ref
from gcheap.face.state cimport HeapCore
from gcheap.text import shown
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    ROOM = 64                   # notices taken at once


cdef uint32_t new_cell(HeapCore core, Ref ref, uint32_t notice) except 0:
    cdef MutatorState* m = core.enter()
    cdef uint32_t cell = take_weak(m, handle_value(core.h, ref.handle)[0], notice)
    leave_running(m)
    if cell == 0:
        raise MemoryError("gcheap: no memory for another weak reference")
    return cell


cdef object read_cell(HeapCore core, uint32_t cell):
    cdef Found found
    cdef MutatorState* m = core.enter()
    keep_object(m, weak_read(m, cell), &found)
    leave_running(m)
    return found_value(core, &found)


# No part in cyclic garbage collection, as a Ref: nothing it holds refers back to it.
@cython.no_gc
cdef class WeakRef:
    """A weak reference, made by `Mutator.weak`: w() is a Ref to the object, or None once it died.

    Equality is that of `weakref.ref`: of the objects while both live, else of the weak
    references themselves.  The hash is the object's identity hash; TypeError when it is first
    asked for after the object has died.  Cannot be pickled; a copy is the same object.
    Calling, comparing and hashing need an attached thread (NotAttached otherwise); a WeakRef
    may be kept, passed on and dropped anywhere, which is lock-free.
    """

    def __cinit__(self):
        global making
        if not making:
            raise TypeError("weak references are made by a Mutator: m.weak(ref)")
        making = False

    def __dealloc__(self):
        if self.cell and self.core is not None:
            drop_weak(self.core.h, self.cell)

    cdef target(self):
        return read_cell(self.core, self.cell)

    def __call__(self):
        """A Ref to the object, or None: it has died, or was found dead and is being cleared."""
        return self.target()

    def __eq__(self, other):
        if self is other:
            return True
        if not isinstance(other, WeakRef):
            return NotImplemented
        if self.core is not (<WeakRef>other).core:
            return False
        mine, theirs = self.target(), (<WeakRef>other).target()
        return mine is not None and theirs is not None and mine == theirs

    def __hash__(self):
        if not self.hashed:
            ref = self.target()
            if ref is None:
                raise TypeError("the object of this weak reference died before it was hashed")
            self.cached_hash = hash(ref)
            self.hashed = True
        return self.cached_hash

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        raise TypeError("a WeakRef cannot be pickled: it means something in its own heap only")

    @property
    def cleared(self):
        """Whether a cycle has found the object dead and has cleared this reference.  Unlike a
        call it needs no attached thread and never keeps the object alive."""
        return load64_relaxed(&weak_cell(self.core.h, self.cell).target) == 0

    def __repr__(self):
        return f"<gcheap.WeakRef {'cleared' if self.cleared else 'not cleared'}>"


cdef bint making = False       # new_weak is making one: nobody else may; as in ref.pyx


cdef WeakRef new_weak(HeapCore core, ref):
    global making
    cdef WeakRef weak
    if not isinstance(ref, Ref):
        raise TypeError(f"weak: expected a Ref, not {shown(ref)}")
    check_ref(core, ref, "weak")
    making = True
    weak = WeakRef.__new__(WeakRef)
    weak.cell = new_cell(core, ref, NOTICE_NONE)
    weak.core = core
    return weak


# ---- notices ---------------------------------------------------------------------------------

@cython.no_gc
cdef class Notices:
    """The native side of a heap's finalizers (face/finalize.py): weak cells that tell when they
    were cleared.

    Keeps the heap's state, but not its HeapCore, so that waiting for notices, and finalizers
    that nobody called yet, leave a heap that is garbage to the collector of Python.
    """

    def __cinit__(self, HeapCore core not None):
        add32_seq(&core.h.refs, 1)
        self.h = core.h

    def __dealloc__(self):
        if self.h != NULL:
            release_heap(self.h)

    def watch(self, HeapCore core not None, Ref ref not None):
        """A cell for the object of `ref`; drop() frees it."""
        return new_cell(core, check_ref(core, ref, "finalize"), NOTICE_WANTED)

    def drop(self, uint32_t cell):
        """Frees a cell.  Any thread."""
        drop_weak(self.h, cell)

    def read(self, HeapCore core not None, uint32_t cell):
        """A Ref to the object of a cell, or None."""
        return read_cell(core, cell)

    def told(self, uint32_t cell):
        """Whether take() has told that this cell was cleared."""
        return load32_acquire(&weak_cell(self.h, cell).notice) == NOTICE_TAKEN

    def take(self):
        """Up to 64 cells that were cleared, each told once; empty: that is all for now."""
        cdef uint32_t cells[ROOM]
        cdef uint64_t n, i
        with nogil:
            n = take_notices(self.h, &self.cursor, cells, ROOM)
        if n < ROOM:
            self.cursor = 1     # the end was reached: begin anew the next time
        return [cells[i] for i in range(n)]

    def begin_anew(self):
        """The next take() begins with the first cell: in a forked child the thread that was halfway
        may not exist."""
        self.cursor = 1

    def event(self):
        """What wait() compares with: read before take()."""
        return load32_seq(&weak_state(self.h).notice_event)

    def wait(self, uint32_t seen):
        """Sleeps, without the GIL, until there may be more.  False: stop() was called."""
        if not load32_acquire(&self.stopped):
            with nogil:
                futex_wait(&weak_state(self.h).notice_event, seen, 0)
        return not load32_acquire(&self.stopped)

    def closed(self):
        """Whether the heap was closed, or did not come along into this forked child."""
        return bool(load32_acquire(&self.h.closed))

    def stop(self):
        """Ends the wait of the thread that serves them, now and for ever."""
        store32_seq(&self.stopped, 1)
        add32_seq(&weak_state(self.h).notice_event, 1)
        futex_wake_all(&weak_state(self.h).notice_event)

    def count(self):
        """A callback was run: counted for Heap.stats()."""
        add64_relaxed(&weak_state(self.h).finalized, 1)


def weak(HeapCore core not None, ref):
    """See Mutator.weak."""
    return new_weak(core, ref)


cdef dict weak_counts(HeapState* h):
    """The fields of HeapStats about weak references, weak tables, guardians and finalizers."""
    cdef uint64_t entries = 0, i
    for i in range(WEAK_SHARDS):
        entries += load64_relaxed(&weak_state(h).shard[i].entries)
    return {
        "weak_refs": load64_relaxed(&weak_state(h).weak_refs),
        "weak_entries": entries,
        "guarded": load64_relaxed(&weak_state(h).guarded),
        "cleared": load64_relaxed(&weak_state(h).cleared),
        "resurrected": load64_relaxed(&weak_state(h).resurrected),
        "finalized": load64_relaxed(&weak_state(h).finalized),
    }


def run_unraisable(function, args, kwargs):
    """Calls function; an exception goes to sys.unraisablehook, whatever it is."""
    try:
        function(*args, **kwargs)
    except BaseException:
        report_unraisable(function)


cdef extern from *:
    """
    /* Gives the exception that is being handled to sys.unraisablehook. */
    static void gcheap_report_unraisable(PyObject *where) {
        PyObject *type, *value, *traceback;
        PyErr_GetExcInfo(&type, &value, &traceback);
        PyErr_Restore(type, value, traceback);
        PyErr_WriteUnraisable(where);
    }
    """
    void gcheap_report_unraisable(object)


cdef report_unraisable(function):
    gcheap_report_unraisable(function)
