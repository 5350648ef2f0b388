"""Trying the kernel in a forked child: one fault or event, and the thread that answers it.

A child ends at the first thing that is not as it should be: `need` for a call that failed,
`expect` for a fact that does not hold.  They return only when there is nothing to complain of, and
a try that returns has come to a good end.  No Python, no malloc; of one process.
"""
from gcheap.core.layout cimport word
from gcheap.core.uffd cimport Progress
from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef enum Outcome:
    UNFINISHED
    WORKS
    REFUSED                     # a call failed: `what` and `error`
    WRONG                       # every call worked, and `what` is not as it should be

# In memory that parent and child share.  `what` is a literal: the same address in both.
cdef struct Report:
    uint32_t outcome
    int32_t error
    const char* what
    uint64_t page, huge         # bytes, given by the parent
    uint64_t hugetlb            # bytes of a page of hugetlbfs, 0: unknown

cdef enum Memory:
    ANONYMOUS
    SHMEM
    HUGETLBFS

cdef enum Answer:
    BY_COPY
    BY_COPY_AND_WAKE
    BY_CONTINUE
    BY_UNPROTECTING
    BY_NOTING                   # events that want no answer

# One fault (or event) and how it is to be answered; the reader thread works from it.
cdef struct Case:
    Report* report
    int fd
    int memory
    int answer
    uint64_t bytes              # of one page
    word page                   # the address that is touched
    word alias                  # a second mapping of the same memory, 0 for anonymous
    word buffer                 # what COPY copies
    uint64_t flags              # the event must have these
    uint64_t exact              # 0, or the address that the event must name
    uint32_t thread             # 0, or the thread that the event must name
    uint32_t passed             # the touching thread went on
    uint32_t seen               # bit per event that was read

ctypedef void (*Try)(Report*) noexcept nogil

cdef enum:
    PATTERN = 0x6763686561700001        # in the first word of a page that has arrived

cdef void end(Report* r, uint32_t outcome, const char* what, int error) noexcept nogil
cdef void need(Report* r, int error, const char* what) noexcept nogil
cdef void expect(Report* r, bint fact, const char* what) noexcept nogil
cdef void placed(Report* r, Progress p, uint64_t nbytes, const char* what) noexcept nogil

cdef int open_any() noexcept nogil
cdef int handshaken(Report* r, int fd, uint64_t features) noexcept nogil
cdef word anonymous(Report* r, uint64_t nbytes) noexcept nogil
cdef Case* new_case(Report* r, int how) noexcept nogil      # the child's one, zero but for these
cdef Case* case_tried() noexcept nogil      # the same, for a signal handler
cdef void map_case(Case* c) noexcept nogil
cdef void register_case(Case* c, uint64_t features, uint64_t modes) noexcept nogil
# All three: a page of anonymous memory, registered.
cdef Case* open_case(Report* r, int how, uint64_t features, uint64_t modes) noexcept nogil

cdef void start_reader(Case* c) noexcept nogil
cdef bint wait_seen(Case* c, uint32_t events) noexcept nogil
cdef void touch_and_compare(Case* c) noexcept nogil
