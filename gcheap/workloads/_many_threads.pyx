"""`many-threads`: 2 to 64 attached threads, of which few run without a rest.

A pause has to reach every mutator, visits the shadow stack of each, and retires its TLAB.  Here
`--mutators` threads replace rows of a table of their own back to back; all others do one
operation and then rest for a millisecond outside the heap, as threads of a server do, so that a
pause meets them in every state.  Their rest is no part of an operation.
"""
from libc.stdint cimport uint64_t

from gcheap._fastpath cimport gc_enter, gc_leave
from gcheap.core.native cimport clock_ns, sleep_ns
from gcheap.workloads._rows cimport Rows

import os

from gcheap.errors import OptionError
from gcheap.options import TLAB_BYTES, format_size

cdef enum:
    REST_NS = 1000000

MOST = 64


def room(config):
    """Live bytes that a thread should have: four TLABs, of which one lies idle."""
    return 4 * max(config.unit_pages * os.sysconf("SC_PAGE_SIZE"), TLAB_BYTES)


def threads(config):
    """How many threads are attached."""
    return config.settings["threads"] or max(
        2, config.mutators, min(MOST, config.live // room(config)))


def check(config):
    """OptionError for fewer threads than mutators, or more than there is room for."""
    count = config.settings["threads"]
    if count is None:
        return
    if count < config.mutators:
        raise OptionError(
            f"threads {count}: fewer than the {config.mutators} mutators that are among them")
    if count * room(config) > 2 * config.live:
        raise OptionError(
            f"threads {count}: so many need {format_size(count * room(config) // 2)} of live "
            f"bytes, because each keeps a TLAB; live is {format_size(config.live)}")


cdef class ManyThreads(Rows):
    """One thread of `many-threads`."""
    cdef bint rests

    def __cinit__(self, heap, part):
        self.rests = self.index >= <uint64_t>part.busy

    cdef bint operation(self) noexcept nogil:
        if self.rests and self.operations:
            gc_leave(self.m)
            sleep_ns(REST_NS)
            gc_enter(self.m)
            self.r.last_ns = clock_ns()
        return self.turn_over(1)

    def sizes(self):
        return super().sizes() | {"threads": self.mutators}
