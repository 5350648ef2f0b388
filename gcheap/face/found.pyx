"""From a word found in native memory to what Python sees."""
from gcheap.face.ref cimport Tagged, new_ref
from gcheap.face.state cimport HeapCore


cdef object found_value(HeapCore core, Found* f):
    """A Ref for the handle that keep_found took, a Tagged, or None."""
    if not f.refers:
        return None if f.value == 0 else Tagged(f.value)
    if f.handle == 0:
        raise MemoryError("gcheap: no memory for another handle")
    return new_ref(core, f.handle, f.shape, f.length)
