"""Object headers, tagged values and sizes: how to read an object, given its address.

Header word:   bit 0 is always 1, so that a zero word means "no object here" and a unit can
               be walked from its start to its first zero header;
               bits 1-7 are flags (bit 7: HEADER_KEY), bits 8-23 the shape, bits 24-31 reserved
               (age);
               bits 32-63 the identity hash, 0 until somebody asks for it.  Never an address.
"""
from gcheap.core.layout cimport MAX_SHAPES, SHAPE_FIXED, SHAPE_SLOTS, ShapeInfo, WORD, word
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    HEADER_KEY = 0x80           # was a key of an ephemeron table: the marker looks there


cdef inline word header_of_shape(uint32_t shape) noexcept nogil:
    return (<word>shape << 8) | 1


cdef inline uint32_t shape_of_header(word header) noexcept nogil:
    return <uint32_t>(header >> 8) & (MAX_SHAPES - 1)


cdef inline uint64_t array_bytes(uint64_t item, uint64_t length) noexcept nogil:
    """Whole size of an array: header, length, elements, rounded up to words."""
    return 2 * WORD + ((item * length + WORD - 1) & ~<uint64_t>(WORD - 1))


cdef inline uint64_t object_bytes(const ShapeInfo* shape, word obj) noexcept nogil:
    if shape.kind == SHAPE_FIXED:
        return shape.bytes
    return array_bytes(WORD if shape.kind == SHAPE_SLOTS else shape.item, (<word*>obj)[1])


cdef inline uint64_t object_slots(const ShapeInfo* shape, word obj) noexcept nogil:
    if shape.kind == SHAPE_FIXED:
        return shape.refs
    return (<word*>obj)[1] if shape.kind == SHAPE_SLOTS else 0


cdef inline uint64_t header_words(const ShapeInfo* shape) noexcept nogil:
    """Words before the first slot or element."""
    return 1 if shape.kind == SHAPE_FIXED else 2


cdef inline bint is_reference(uint64_t mask, uint64_t bits, word value) noexcept nogil:
    return (value & mask) == bits and (value & ~mask) != 0
