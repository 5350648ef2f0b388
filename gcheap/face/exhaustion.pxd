"""What a full heap says of itself.  See exhaustion.pyx."""
from gcheap.face.state cimport HeapCore
from libc.stdint cimport uint64_t

cdef object exhausted(HeapCore core, uint64_t asked)
