"""The owner of a heap's native state, and the entry and exit of every Python call."""
from gcheap.core.layout cimport HeapState, MutatorState
from libc.stdint cimport uint64_t

cdef class HeapCore:
    cdef HeapState* h
    cdef object __weakref__
    cdef readonly object options        # name -> value, as resolved
    cdef readonly str why
    cdef list shapes                    # by shape id; None where there is none
    cdef dict shapes_by_name
    cdef dict array_shapes              # dtype -> Shape
    cdef uint64_t exports               # views of pinned arrays; under the GIL
    cdef public object finalizers       # face/finalize.py; None until there is one
    # Serializes shape definitions and close; reentrant, for what garbage collection or a signal
    # runs meanwhile.
    cdef object guard
    cdef public list followers          # face/observers.py
    cdef readonly object number         # of this heap, from 1; face/observers.py
    cdef object callbacks               # None until asked for: face/callbacks.pyx
    cdef build(self, given)
    cdef choose_backend(self, str wanted, str faults)
    cdef serve_faults(self, str faults)
    cdef set_geometry(self, options)
    cdef define_own_shapes(self)
    cdef tear_down(self)
    cdef int check_open(self) except -1
    cdef int check_engine(self) except -1
    cdef str reason(self)
    cdef MutatorState* enter(self) except NULL
