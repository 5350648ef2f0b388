"""The two lock-free steps that several places take: pushing on a chain, bumping below a limit."""
from gcheap.core.native cimport cas64, load64_relaxed
from libc.stdint cimport uint64_t


cdef inline void push_link(uint64_t* head, void* item, uint64_t* link) noexcept nogil:
    """Pushes `item`, whose link to the next is at `link`, on the chain that starts at `head`.
    Any thread.  Release: whoever finds the item by an acquiring load finds what it holds."""
    cdef uint64_t seen
    while True:
        seen = load64_relaxed(head)
        link[0] = seen
        if cas64(head, seen, <uint64_t>item):
            return


cdef inline bint bump_below(uint64_t* top, uint64_t count, const uint64_t* limit,
                            uint64_t* was) noexcept nogil:
    """Raises `top` by `count` and says where it stood.  False: that would pass the limit.  Any
    thread; relaxed, so that it hands over nothing but the numbers."""
    while True:
        was[0] = load64_relaxed(top)
        if was[0] + count > load64_relaxed(limit):
            return False
        if cas64(top, was[0], was[0] + count):
            return True
