"""Random numbers for workloads: splitmix64 (S. Vigna), one 64-bit word of state."""
from libc.stdint cimport uint32_t, uint64_t


cdef inline uint64_t mix64(uint64_t z) noexcept nogil:
    """A bijection of 64-bit words under which near words land far apart."""
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint64_t random64(uint64_t* state) noexcept nogil:
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    return mix64(state[0])


cdef inline uint64_t scaled(uint64_t bits32, uint64_t n) noexcept nogil:
    """The lower 32 bits as a number below n (n < 2**32; a bias of n / 2**32)."""
    return <uint64_t><uint32_t>bits32 * n >> 32
