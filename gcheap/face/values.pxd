"""Raw values: from Python to bytes and back."""
from libc.stdint cimport uint64_t

cdef int value_code(dtype)
cdef object read_value(const char* at, int code, dtype)
cdef int write_value(char* at, uint64_t size, int code, dtype, value, str where) except -1
cdef object whole_number(value, str where, str expected)
