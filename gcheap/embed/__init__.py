"""gcheap for programs in C and Cython: what stands behind gcheap.h.  See capi.pyx."""
