"""Frozen objects: roots until they are unfrozen.  See frozen.pyx."""
from gcheap.core.layout cimport AddressSet, HeapState
from gcheap.core.mark cimport Marker
from gcheap.core.roots cimport RootReader
from libc.stdint cimport uint64_t

cdef int freeze_members(HeapState* h, AddressSet* members, uint64_t count) noexcept nogil   # errno
cdef void unfreeze_all(HeapState* h) noexcept nogil
cdef void mark_frozen(Marker* k) noexcept nogil
cdef void forward_frozen(HeapState* h) noexcept nogil
cdef void read_frozen(HeapState* h, RootReader read, void* context) noexcept nogil
cdef void drop_frozen(HeapState* h) noexcept nogil
