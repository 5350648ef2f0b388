"""The data model of what is measured and told: histograms, counts of the kernel's answers, records
of pauses, phases, stalls and cycles, and a trace's rings.

Plain data without a pointer into the heap: core/layout.pxd builds on it, not the other way round.
Times are nanoseconds of CLOCK_MONOTONIC_RAW.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

# ---- measurement -------------------------------------------------------------------------

cdef enum:
    HISTOGRAM_SLOTS = 40960     # log-linear, 3 significant digits, up to 2^49 ns
    ERRNO_SLOTS = 134

cdef struct Histogram:
    uint64_t count
    uint64_t total
    uint64_t max
    uint64_t counts[HISTOGRAM_SLOTS]

cdef struct IoctlCounts:
    uint64_t calls
    uint64_t pages
    uint64_t refused[ERRNO_SLOTS]   # by errno

cdef enum IoctlKind:
    IOCTL_MOVE = 0
    IOCTL_COPY = 1
    IOCTL_ZEROPAGE = 2
    IOCTL_KINDS = 3

cdef enum PauseKind:
    PAUSE_MARK_START = 0
    PAUSE_MARK_END = 1
    PAUSE_RELOCATE_START = 2
    PAUSE_VERIFY = 3
    PAUSE_FULL = 4              # stw: mark, plan and relocation in one pause
    PAUSE_INSPECT = 5           # somebody looks at the graph; belongs to no cycle
    PAUSE_FORK = 6              # a fork, in the parent; `cycle` is the last one that finished

cdef enum Cause:                # of a cycle; when several asked for it, the greatest
    CAUSE_GOAL = 0              # `used` passed the goal
    CAUSE_IDLE = 1              # nothing was allocated for a while
    CAUSE_STALL = 2             # an allocation found no room
    CAUSE_EXPLICIT = 3          # somebody called for it
    CAUSES = 4

cdef struct PauseRecord:
    uint64_t cycle
    uint64_t start_ns           # when the stop was asked for
    uint64_t reach_ns           # time to safepoint
    uint64_t work_ns            # from the last mutator's stop until they are released
    uint64_t cpu_ns             # thread-CPU time of the work
    uint32_t kind
    uint32_t mutators           # attached when the pause began

cdef struct Tally:              # what a heap has counted so far
    uint64_t calls[3]           # of ioctls, by IoctlKind
    uint64_t pages[3]
    uint64_t refused[3]
    uint64_t faults
    uint64_t fault_pages
    uint64_t fault_waits
    uint64_t hole_faults
    uint64_t foreign_faults
    uint64_t recycled_bytes

cdef struct CycleRecord:
    uint64_t cycle
    uint64_t start_ns
    uint64_t cycle_ns
    uint64_t mark_ns
    uint64_t weak_ns            # processing of weak references, weak tables and guardians
    uint64_t plan_ns
    uint64_t relocate_ns        # from the flip until placed and the source released
    uint64_t used_before
    uint64_t live_bytes         # slid bytes: live below TAMS
    uint64_t black_bytes        # allocated between mark and flip, carried whole
    uint64_t dense_bytes        # of slid units that moved whole, without assembly
    uint64_t wasted_bytes       # garbage kept in them, and padding
    uint64_t relocated          # 0: nothing to win, objects stayed
    uint64_t limit_bytes        # the soft heap size when it began
    uint64_t used_after
    uint64_t collected_bytes    # what `used` lost by the flip
    uint64_t cause              # Cause
    uint64_t cpu_ns             # thread-CPU time of the collector thread
    uint64_t used_mark_end
    uint64_t used_relocate_start
    # Counted since the heap was made, as of the end of the cycle.
    Tally tally

cdef enum PhaseKind:            # of the work between pauses; under stw inside the pause
    PHASE_RESET = 0             # the marks of the last cycle, which forwarding read, are cleared
    PHASE_CONCURRENT_MARK = 1
    PHASE_MARK_CONTINUE = 2     # ... again, when Mark End found too much left
    PHASE_NON_STRONG = 3
    PHASE_SELECT = 4            # planning
    PHASE_REGISTER = 5          # to-space is registered and emptied, roots are fetched
    PHASE_CONCURRENT_RELOCATE = 6

cdef struct PhaseRecord:
    uint64_t cycle
    uint64_t start_ns
    uint64_t end_ns
    uint32_t kind               # PhaseKind
    uint32_t in_pause           # 1: mutators stood still

cdef struct StallRecord:        # one allocation stall
    uint64_t start_ns
    uint64_t wait_ns
    uint64_t bytes              # what was to be allocated
    int64_t thread_id
    char name[32]               # of the mutator

cdef struct CauseTotals:        # of all cycles with one cause; atomic
    uint64_t cycles
    uint64_t relocations
    uint64_t collected_bytes
    uint64_t cycle_ns

cdef enum:
    RECORDS = 16384             # the ring of each kind of record

cdef struct Events:
    uint32_t lock
    uint32_t unused
    uint64_t pauses             # ever recorded; the ring keeps the last RECORDS
    uint64_t cycles
    uint64_t phases
    uint64_t stalls
    PauseRecord pause[RECORDS]
    CycleRecord cycle[RECORDS]
    PhaseRecord phase[RECORDS]
    StallRecord stall[RECORDS]
    CycleRecord current         # as of its start; of the cycle that began last

# ---- tracing: core/trace.pyx ------------------------------------------------------------------

cdef enum:
    TRACE_EVENTS = 8192         # of one ring: 256 KiB

cdef enum TraceKind:
    TRACE_RUNNING = 0           # a mutator is in the heap
    TRACE_SAFEPOINT = 1         # ... stopped
    TRACE_STALL = 2             # ... waits for room: amount bytes
    TRACE_FAULT = 3             # amount: pages that it placed; detail: a FaultEnd
    TRACE_BATCH = 4             # the compactor: amount pages; detail: a BatchOf
    TRACE_PLACE = 5             # ... the part of it that is the kernel's

cdef enum FaultEnd:
    FAULT_BUILT = 0
    FAULT_WAITED = 1            # somebody else had the unit
    FAULT_HOLE = 2              # or it was there already, or the range unregistered

cdef enum BatchOf:
    BATCH_SLIDE = 0             # units that were assembled
    BATCH_WHOLE = 1             # units that move as they are
    BATCH_LARGE = 2             # grains of large objects

cdef struct TraceEvent:         # a slice of time
    uint64_t start_ns
    uint64_t end_ns
    uint32_t kind
    uint32_t detail
    uint64_t amount

cdef enum RingState:
    RING_FREE = 0
    RING_OWNED = 1
    RING_ENDED = 2              # its thread is gone; the reader frees it

cdef struct TraceRing:
    # Read-mostly.
    TraceRing* next
    uint32_t state              # atomic
    uint32_t unused
    uint64_t owner              # a number for each thread that ever had it
    int64_t thread_id
    char name[32]
    # The writer's.
    uint64_t head               # atomic: events ever written
    uint64_t lost               # atomic
    uint64_t open_ns            # start of the running slice that has not ended; 0: none
    uint64_t seen_ns            # when its thread was last known to be inside
    uint64_t seen_tick
    uint64_t inside             # 1: it has not left the heap since
    uint64_t pad[8]             # a cache line between writer and reader
    # The reader's.
    uint64_t tail               # atomic: events ever read
    uint64_t said               # of `lost`, told so far
    TraceEvent event[TRACE_EVENTS]

cdef struct Tracing:
    uint32_t on                 # atomic
    uint32_t lock               # futex mutex: the list of rings
    uint64_t tick               # atomic: the reader bumps it
    uint64_t owners
    TraceRing* rings
    TraceRing* compactor        # atomic
