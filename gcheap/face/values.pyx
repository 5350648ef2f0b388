# cython: nonecheck=True
"""Raw values: from Python to bytes and back.

Native-endian scalars of up to 8 bytes take a direct path; every other dtype goes through
numpy, with a check that nothing was silently cut or wrapped (exactly.py).
"""
import math

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.float cimport PyFloat_AsDouble, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.number cimport PyNumber_Index
from gcheap.face.exactly import to_bytes
from gcheap.late import np
from gcheap.text import shown
from libc.stdint cimport (
    int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t)
from libc.string cimport memcpy

cdef enum:
    GENERIC, U1, U2, U4, U8, I1, I2, I4, I8, F4, F8, BOOL

_CODES = {"u1": U1, "u2": U2, "u4": U4, "u8": U8, "i1": I1, "i2": I2, "i4": I4, "i8": I8,
          "f4": F4, "f8": F8, "b1": BOOL}


cdef int value_code(dtype):
    """The direct path for a dtype, or GENERIC."""
    if dtype.subdtype is not None or dtype.names is not None or not dtype.isnative:
        return GENERIC
    return _CODES.get(dtype.kind + str(dtype.itemsize), GENERIC)


cdef object read_value(const char* at, int code, dtype):
    """The value at `at`, which is private memory: a Python scalar, or what numpy makes of it."""
    cdef uint16_t u2
    cdef uint32_t u4
    cdef uint64_t u8
    cdef int16_t i2
    cdef int32_t i4
    cdef int64_t i8
    cdef float f4
    cdef double f8
    if code == U1:
        return (<uint8_t*>at)[0]
    if code == U2:
        memcpy(&u2, at, 2)
        return u2
    if code == U4:
        memcpy(&u4, at, 4)
        return u4
    if code == U8:
        memcpy(&u8, at, 8)
        return u8
    if code == I1:
        return (<int8_t*>at)[0]
    if code == I2:
        memcpy(&i2, at, 2)
        return i2
    if code == I4:
        memcpy(&i4, at, 4)
        return i4
    if code == I8:
        memcpy(&i8, at, 8)
        return i8
    if code == F4:
        memcpy(&f4, at, 4)
        return <double>f4
    if code == F8:
        memcpy(&f8, at, 8)
        return f8
    if code == BOOL:
        return at[0] != 0
    found = np.frombuffer(PyBytes_FromStringAndSize(at, dtype.itemsize), dtype=dtype)[0]
    return found.copy() if isinstance(found, np.ndarray) else found


cdef object whole_number(value, str where, str expected):
    """`value` as an int, of that type exactly: a subclass may lie when it is compared."""
    try:
        return PyNumber_Index(value)
    except TypeError:
        raise TypeError(f"{where}: expected {expected}, got {shown(value)}") from None


cdef int write_integer(char* at, uint64_t size, int code, value, str where) except -1:
    """A range check against the dtype, then the low bytes (little or big endian alike, because
    the value is stored through an integer of its own size)."""
    cdef object bits = 8 * size, one = 1, low, high     # Python integers: 1 << 64 must not wrap
    cdef uint64_t u8
    cdef uint8_t u1
    cdef uint16_t u2
    cdef uint32_t u4
    cdef bint signed = code >= I1
    number = whole_number(value, where, "an integer")
    if signed:
        low, high = -(one << (bits - 1)), (one << (bits - 1)) - 1
    else:
        low, high = 0, (one << bits) - 1
    if not low <= number <= high:
        raise OverflowError(f"{where}: {shown(value)} does not fit {'iu'[not signed]}{size}, which "
                            f"holds {low} to {high}")
    u8 = <uint64_t>(number & 0xFFFFFFFFFFFFFFFF)
    if size == 1:
        u1 = <uint8_t>u8
        memcpy(at, &u1, 1)
    elif size == 2:
        u2 = <uint16_t>u8
        memcpy(at, &u2, 2)
    elif size == 4:
        u4 = <uint32_t>u8
        memcpy(at, &u4, 4)
    else:
        memcpy(at, &u8, 8)
    return 0


cdef int write_value(char* at, uint64_t size, int code, dtype, value, str where) except -1:
    """Writes `value` to private memory at `at`.  OverflowError, TypeError or ValueError when it
    does not fit, naming `where`."""
    cdef double f8
    cdef float f4
    if U1 <= code <= I8:
        return write_integer(at, size, code, value, where)
    if code == F4 or code == F8:
        try:
            # numpy's complex numbers lose their imaginary part, with no more than a warning.
            if (not PyFloat_CheckExact(value) and not PyLong_CheckExact(value)
                    and isinstance(value, np.complexfloating)):
                raise TypeError
            f8 = PyFloat_AsDouble(value)
        except TypeError:
            raise TypeError(f"{where}: expected a number, got {shown(value)}") from None
        except OverflowError:
            raise OverflowError(f"{where}: {shown(value)} does not fit f{size}") from None
        if code == F8:
            memcpy(at, &f8, 8)
            return 0
        f4 = <float>f8
        if math.isinf(f4) and not math.isinf(f8):
            raise OverflowError(f"{where}: {shown(value)} does not fit f4")
        memcpy(at, &f4, 4)
        return 0
    if code == BOOL:
        if not isinstance(value, (bool, np.bool_)) and value not in (0, 1):
            raise TypeError(f"{where}: expected a bool, got {shown(value)}")
        at[0] = 1 if value else 0
        return 0
    return write_generic(at, size, dtype, value, where)


cdef int write_generic(char* at, uint64_t size, dtype, value, str where) except -1:
    cdef bytes raw = to_bytes(value, dtype, where)
    memcpy(at, <const char*>raw, size)
    return 0
