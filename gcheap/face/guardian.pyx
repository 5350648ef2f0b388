# cython: nonecheck=True
"""Guardians: objects that nothing else reaches any more, handed back."""
import time

cimport cython
from gcheap.core.guardian cimport drop_guardian, guard, guardian_poll, new_guardian
from gcheap.core.layout cimport MutatorState
from gcheap.core.native cimport futex_wait, load32_seq, load64_relaxed
from gcheap.core.roots cimport handle_value
from gcheap.core.safepoint cimport leave_running
from gcheap.core.weakdata cimport Guardian as NativeGuardian
from gcheap.face.found cimport Found, found_value, keep_object
from gcheap.face.ref cimport Ref, check_ref
from gcheap.face.state cimport HeapCore
from gcheap.text import shown
from gcheap.timeouts import checked_timeout
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "<Python.h>":
    int PyErr_CheckSignals() except -1

cdef enum:
    SIGNAL_SLICE_NS = 50000000  # how often a waiting main thread looks for Ctrl-C


@cython.no_gc
cdef class Guardian:
    """A guardian, made by `Heap.guardian`: registered objects come back once nothing else
    reaches them (Dybvig, Bruggeman, Eby 1993).

    g.register(ref) holds the object weakly; after a cycle has found it unreachable, g() returns
    it, alive again, once for each registration.  Weak references to the object, and entries of
    weak tables whose key it was, are gone by then.  g() returns None when there is nothing (yet).
    Between objects found by the same cycle no order is promised.  A dropped guardian drops
    its registrations.  Any attached thread may register and ask; two never get the same
    registration.
    """

    cdef HeapCore core
    cdef NativeGuardian* g
    cdef object __weakref__

    def __cinit__(self, HeapCore core not None):
        core.check_open()
        self.g = new_guardian(core.h)
        if self.g == NULL:
            raise MemoryError("gcheap: no memory for another guardian")
        self.core = core

    def __dealloc__(self):
        if self.g != NULL:
            drop_guardian(self.g)

    def register(self, ref, value=None):
        """Registers the object of `ref`, again if it was registered before.

        With `value`, a Ref to another object (an agent), that is kept alive and returned in the
        object's place, and the object itself dies.  An agent that refers to the object keeps it
        alive for ever.
        """
        cdef MutatorState* m
        cdef uint32_t agent = 0
        cdef uint32_t handle
        cdef bint done
        if not isinstance(ref, Ref):
            raise TypeError(f"register: expected a Ref, not {shown(ref)}")
        handle = check_ref(self.core, ref, "register").handle
        if value is not None:
            if not isinstance(value, Ref):
                raise TypeError(f"register: expected a Ref or None as value, not {shown(value)}")
            agent = check_ref(self.core, value, "register").handle
        m = self.core.enter()
        done = guard(m, self.g, handle_value(self.core.h, handle)[0],
                     handle_value(self.core.h, agent)[0] if agent else 0)
        leave_running(m)
        if not done:
            raise MemoryError("gcheap: no memory for another registration")

    def poll(self):
        """The next object (or agent) that was found unreachable, or None.  g() is the same."""
        cdef Found found
        cdef MutatorState* m = self.core.enter()
        keep_object(m, guardian_poll(m, self.g), &found)
        leave_running(m)
        return found_value(self.core, &found)

    def __call__(self):
        """The next object (or agent) that was found unreachable, or None."""
        return self.poll()

    def __iter__(self):
        """What was found unreachable so far, until there is nothing left."""
        while (ref := self.poll()) is not None:
            yield ref

    def wait(self, timeout=None):
        """The same as poll(), but waits for a cycle to find something: at most `timeout`
        seconds, None: as long as it takes; then None.  Starts no cycle itself.  Served by
        Ctrl-C meanwhile; raises HeapClosed when the heap is closed, TypeError or ValueError for
        what is no such timeout."""
        cdef uint32_t seen
        cdef uint64_t slice_ns
        deadline = None
        if timeout is not None:
            deadline = time.monotonic() + checked_timeout(timeout, "wait")
        while True:
            seen = load32_seq(&self.g.event)
            ref = self.poll()
            if ref is not None:
                return ref
            slice_ns = SIGNAL_SLICE_NS
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                if left * 1e9 < SIGNAL_SLICE_NS:
                    slice_ns = <uint64_t>(left * 1e9) + 1
            with nogil:
                futex_wait(&self.g.event, seen, slice_ns)
            PyErr_CheckSignals()

    @property
    def registered(self):
        """Registrations whose objects were not found unreachable yet."""
        return load64_relaxed(&self.g.held)

    @property
    def ready(self):
        """Registrations that poll() would return now."""
        return load64_relaxed(&self.g.ready)

    def __reduce__(self):
        raise TypeError("a Guardian cannot be pickled: it means something in its own heap only")

    def __repr__(self):
        return f"<gcheap.Guardian of {self.registered}, {self.ready} ready>"
