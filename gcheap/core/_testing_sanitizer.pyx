"""Which sanitizer the native code was built with, and faults of the kind that it must report.

For the tests of the sanitizer builds themselves: an instrumented run that finds nothing proves
nothing unless the same run finds what was planted.
"""
from gcheap.core.native cimport add32_relaxed, load32_relaxed
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef extern from *:
    """
    #ifndef __has_feature
    #define __has_feature(x) 0
    #endif
    static const char *gcheap_sanitizer(void) {
    #if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
        return "thread";
    #elif defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
        return "address";
    #else
        return "";
    #endif
    }
    """
    const char* gcheap_sanitizer()

cdef uint32_t _racers
cdef uint64_t _raced


def sanitizer():
    """"thread" or "address" (which has UBSan with it); None for an ordinary build."""
    return gcheap_sanitizer().decode() or None


def race():
    """Adds to a word that another thread adds to at the same time: two threads call this."""
    global _raced
    cdef int _i
    with nogil:
        add32_relaxed(&_racers, 1)
        while load32_relaxed(&_racers) < 2:         # relaxed: it orders nothing
            pass
        for _i in range(1000):
            _raced += 1


def overrun(uint64_t nbytes=8):
    """Reads the byte behind as many of calloc's."""
    cdef unsigned char* at = <unsigned char*>calloc(nbytes, 1)
    cdef unsigned char found = at[nbytes]
    free(at)
    return found


def shift(int bits=64):
    """Shifts a word of 64 bits by as many."""
    return (<uint64_t>1) << bits
