"""The data model: every structure that more than one part of the core reads or writes.

Addresses are `word`s; an object is 8-byte aligned: one header word, then reference slots,
then raw bytes.  An array has its length (elements) in a second word before its elements.

A heap owns two equal halves of address space.  One holds the objects; a cycle slides the
live ones into the other.  `unit` is the grain of TLABs, claiming, assembly and placement;
`block` (512 bytes, 64 words) is the grain of the live bitmap and its prefix sums.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

ctypedef uint64_t word

cdef enum:
    WORD = 8                    # bytes
    BLOCK_WORDS = 64
    BLOCK_BYTES = 512
    NO_START = 64               # Block.first_start: no object starts in this block

# ---- objects ---------------------------------------------------------------------------

cdef enum ShapeKind:
    SHAPE_FIXED = 0             # header, `refs` slots, raw bytes
    SHAPE_SLOTS = 1             # header, length, length slots
    SHAPE_RAW = 2               # header, length, length * item bytes

cdef struct ShapeInfo:
    uint64_t bytes              # SHAPE_FIXED: whole object, a multiple of 8, at least 16
    uint32_t kind
    uint32_t refs               # SHAPE_FIXED: slots
    uint64_t item               # SHAPE_RAW: bytes per element
    uint64_t tag_mask           # a slot word w is a reference when (w & mask) == bits
    uint64_t tag_bits           # ... and w & ~mask is not 0; its address is w & ~mask

cdef enum:
    MAX_SHAPES = 65536
    SHAPE_SLOT_ARRAY = 1        # predefined: m.new_slots
    SHAPE_BYTES = 2             # predefined: m.new_bytes

# ---- side tables of one cycle ------------------------------------------------------------

cdef struct Block:              # 512 bytes of from-space; one cache line holds four
    uint64_t live               # a bit per word of a live object
    uint32_t before             # live words in all blocks below
    uint32_t first_start        # word offset of the lowest live object start, or NO_START

cdef struct Straddle:           # what lies at the start of a unit when an object runs into it
    uint64_t words              # words of that object in this unit
    uint64_t slots              # how many of them, from the first, are slots
    uint32_t shape
    uint32_t skip               # words before the first slot: 1 when it is cut after its header

cdef struct UnitPlan:           # how to build one slid unit of to-space
    uint64_t first              # from-space word index of its first live word
    uint32_t words              # that it holds; the rest is zero
    uint32_t whole              # 1: a dense chunk of from-space that moves as it is
    Straddle straddle

# ---- large objects: core/large.pyx -----------------------------------------------------------

cdef enum:                      # HeapState.large
    LARGE_RUNS = 0              # slot arrays, and raw ones below HUGE_LEAST; grain: a unit
    LARGE_HUGE = 1              # raw arrays of HUGE_LEAST bytes and more; grain: 2 MiB
    LARGE_SPACES = 2

cdef enum:
    HUGE = 2 << 20              # bytes of a huge page
    HUGE_LEAST = 8 << 20        # rounding to huge pages costs at most a quarter

cdef struct LargeRun:           # one a grain; all but `first` mean something at an object's first
    uint64_t bytes              # of the object that starts at this grain; 0: none does
    uint32_t shape
    uint32_t epoch              # atomic: of the last marking that reached it
    uint32_t first              # the grain at which the object that covers this one starts
    uint32_t other              # from-space: the grain it goes to; to-space: where it comes from
    uint32_t seen               # verification's own
    uint32_t unused

cdef struct LargeSpace:         # two halves of its own; grains are counted from a half's base
    uint64_t top                # atomic: grains handed out in the current half
    uint64_t limit              # atomic: mutators wait for the flip beyond it
    uint64_t half_bytes
    uint64_t half_grains
    uint64_t first_state        # where its grains begin in HeapState.states
    uint32_t shift              # log2(bytes of a grain)
    uint32_t unused
    word base[2]
    LargeRun* runs[2]
    # One cycle's relocation.
    word from_base
    word to_base
    LargeRun* from_runs
    LargeRun* to_runs
    uint64_t tams               # top at mark start
    uint64_t from_grains        # top at the flip: what forwarding maps
    uint64_t slid               # grains of marked objects
    uint64_t grains             # slid and black: planned for placement
    uint64_t black_shift        # to-space minus from-space grain of black objects, modulo 2^64
    uint64_t registered         # grains

cdef struct PinnedSpace:        # core/pinned.pyx; one entry a page
    word base
    uint64_t nbytes
    uint64_t pages
    LargeRun* runs
    uint32_t shift              # log2(bytes of a page)
    uint32_t lock               # guards the entries, cursor and top
    uint64_t cursor             # where the search for a place begins
    uint64_t top                # no object lies above this page
    uint64_t raised             # nor one that was placed since the last sweep began above this one
    uint64_t used               # atomic: bytes, whole pages

cdef enum UnitState:            # see core/units.pyx for the protocol
    UNCLAIMED = 0
    ASSEMBLING = 1
    ASSEMBLED = 2
    PLACING = 3
    PLACED = 4

cdef enum ChunkState:           # a unit-sized, aligned chunk of from-space
    CHUNK_IN_USE = 0            # some unit that reads from it is not PLACED
    CHUNK_FREE = 1              # evacuated: may be a buffer, or be released
    CHUNK_TAKEN = 2             # somebody's assembly buffer, or moved away

cdef enum Backend:
    BACKEND_MOVE = 0
    BACKEND_COPY = 1
    BACKEND_STW = 2

cdef enum Phase:
    PHASE_IDLE = 0
    PHASE_MARK = 1
    PHASE_PLAN = 2
    PHASE_RELOCATE = 3          # from the flip until every unit is PLACED
    PHASE_FINISH = 4

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

cdef struct PauseRecord:
    uint64_t cycle
    uint64_t start_ns           # CLOCK_MONOTONIC, when the stop was asked for
    uint64_t reach_ns           # time to safepoint
    uint64_t work_ns            # from the last mutator's stop until they are released
    uint64_t cpu_ns             # thread-CPU time of the work
    uint32_t kind
    uint32_t mutators           # attached when the pause began

cdef struct CycleRecord:
    uint64_t cycle
    uint64_t start_ns
    uint64_t cycle_ns
    uint64_t mark_ns
    uint64_t plan_ns
    uint64_t relocate_ns        # from the flip until placed and the source released
    uint64_t used_before
    uint64_t live_bytes         # slid bytes: live below TAMS
    uint64_t black_bytes        # allocated between mark and flip, carried whole
    uint64_t dense_bytes        # of slid units that moved whole, without assembly
    uint64_t wasted_bytes       # garbage kept in them, and padding
    uint64_t relocated          # 0: nothing to win, objects stayed

cdef enum:
    RECORDS = 16384             # the ring of each kind of record

cdef struct Events:
    uint32_t lock
    uint32_t unused
    uint64_t pauses             # ever recorded; the ring keeps the last RECORDS
    uint64_t cycles
    PauseRecord pause[RECORDS]
    CycleRecord cycle[RECORDS]

# ---- the write barrier's log ---------------------------------------------------------------

cdef enum:
    SATB_ENTRIES = 1022

cdef struct SatbBuffer:         # old values of overwritten slots; see core/satb.pyx
    SatbBuffer* next
    uint64_t count
    word entry[SATB_ENTRIES]

# ---- mutators ----------------------------------------------------------------------------

cdef struct HeapState           # below; mutators point back to it

cdef enum MutatorRun:           # MutatorState.run
    OUTSIDE = 0                 # not in the heap: may block, may hold the GIL, does not count
    RUNNING = 1                 # may touch objects; every pause waits for it
    PARKED = 2                  # stopped at a safepoint inside a running stretch

cdef enum:
    SHADOW_WORDS = 1 << 20      # capacity of one shadow stack (address space; touched lazily)

cdef struct MutatorState:
    # The hot line: what inline allocation touches.
    word tlab_top
    word tlab_end               # end of the current unit: no small object crosses it
    word tlab_limit             # end of the TLAB (whole units)
    HeapState* heap
    word* shadow_top
    uint32_t run                # MutatorRun; see core/safepoint.pyx
    uint32_t detached
    word tlab_start             # where tlab_top stood when allocation was last accounted
    SatbBuffer* satb            # old values logged while marking is on, or NULL
    # Cold.
    word* shadow
    word* shadow_end
    word bounce                 # a unit-sized, pre-faulted buffer of this mutator's own (I3)
    uint64_t allocated          # bytes of objects, accounted up to tlab_start
    uint32_t handle_free        # private chain of free handles, 0 = none
    uint32_t tlab_changes       # odd while the TLAB is being replaced: a seqlock for stats()
    uint32_t owners             # atomic: the thread and the Python object; the last frees it
    uint64_t faults
    uint64_t fault_pages        # pages this mutator placed in faults
    uint64_t fault_waits        # faults on a unit somebody else owned
    uint64_t stalls
    uint64_t stall_ns
    uint64_t stall_max_ns
    Histogram* fault_hist       # ns in the fault path
    uint64_t hash_state         # of the generator of identity hashes
    int64_t thread_id
    MutatorState* next          # the heap's list
    MutatorState* thread_next   # the thread's list: one mutator a heap
    char name[32]

# ---- handles -----------------------------------------------------------------------------

cdef enum:
    HANDLE_CHUNK = 4096
    HANDLE_CHUNKS = 65536
    HANDLE_DROPPED = 0x80000000     # HandleChunk.link: free; the low bits link the chain

cdef struct HandleChunk:
    word value[HANDLE_CHUNK]        # an address; meaningless while the handle is free
    uint32_t link[HANDLE_CHUNK]     # 0: live; else HANDLE_DROPPED | next free index

# ---- one cycle's relocation ----------------------------------------------------------------

cdef struct Relocation:
    word from_base
    uint64_t from_bytes         # [from_base, from_base + from_bytes) is what forwarding maps
    uint64_t tams_bytes         # top at mark start, relative to from_base; unit-aligned
    uint64_t black_shift        # to_base-relative minus from_base-relative offset of black units
    word to_base
    uint64_t slid_words         # live words below TAMS, and wasted ones
    uint64_t wasted_words       # garbage inside dense runs, padding before them
    uint64_t dense_units        # slid units that move whole
    uint64_t slid_units
    uint64_t units              # slid + black units: planned for assembly
    uint64_t registered_bytes   # R - to_base
    uint32_t backend            # this cycle's: stw when to-space could not be registered
    uint64_t chunks             # from-space chunks that may be recycled: those below TAMS
    uint64_t take_cursor        # compactor only: below it nothing is FREE any more
    uint64_t release_cursor     # compactor only
    uint64_t free_hint          # atomic: a chunk that was freed lately
    uint32_t waiters            # atomic: threads waiting for any unit; a batch ends early for them
    uint32_t unused

cdef enum:
    WAIT_SHARDS = 64

# ---- the heap ----------------------------------------------------------------------------

cdef struct HeapState:
    # Read-mostly.
    uint32_t pause              # futex word: 1 while mutators must stop
    uint32_t phase              # Phase; atomic
    uint32_t marking            # 1: the write barrier logs; changes only inside pauses
    uint64_t unit_bytes
    uint64_t unit_words
    uint64_t tlab_bytes
    ShapeInfo* shapes
    uint64_t tag_mask           # the heap's rule, for roots in shadow stacks
    uint64_t tag_bits
    uint64_t page
    uint64_t unit_pages
    uint32_t unit_shift         # log2(unit_bytes)
    uint32_t backend
    uint32_t verify
    uint32_t batch_units        # most units placed by one ioctl of the compactor
    uint64_t capacity
    uint64_t half_bytes
    uint64_t half_units
    int huge_advice             # madvise for LARGE_HUGE, -1: none
    uint64_t large_bytes        # objects above this live in a large space
    word reservation            # guard | half | guard | half | guard
    uint64_t reservation_bytes
    word base[2]
    int fd                      # the userfaultfd, -1 under stw
    uint32_t closed
    uint32_t forked             # this is a forked child: nothing works any more

    # Side tables.
    Block* blocks
    UnitPlan* plan
    uint8_t* states             # UnitState per to-space unit, then per grain of the large
                                # spaces; atomic
    uint8_t* chunk_states       # ChunkState per from-space chunk; atomic
    uint32_t* readers           # per from-space chunk: units that read it and are not PLACED
    word* mark_stack
    uint64_t* visited           # verification's own bitmaps: words covered, then object starts
    uint64_t side_bytes         # address space of the tables above
    word staging                # the compactor's own buffer, batch_units long

    # Allocation (atomic).
    uint32_t current            # which half holds the objects
    uint32_t shape_count
    uint64_t top                # bytes handed out in the current half
    uint64_t alloc_limit        # mutators wait for the flip beyond it
    uint64_t used               # bytes of objects, as capacity counts them
    uint64_t goal               # a cycle starts when `used` passes it
    uint64_t live_bytes         # after the last cycle
    uint64_t wasted_bytes       # garbage and padding that the last relocation kept
    uint64_t handed_out         # bytes ever given to TLABs and large runs

    Relocation r
    LargeSpace large[LARGE_SPACES]
    PinnedSpace pinned
    uint32_t epoch              # of the last marking begun; changes only inside pauses

    uint64_t satb_full          # SatbBuffer*: lock-free chain of buffers for the marker

    # Safepoints and the mutator list.
    uint32_t list_lock          # futex mutex; protects `mutators`; held for a whole pause
    uint32_t arrivals           # futex word: bumped when a mutator stops during a pause
    MutatorState* mutators
    MutatorState retired        # their fault and stall counters
    Histogram* reach_hist       # time to safepoint

    # Handles.
    HandleChunk** handles
    uint32_t handle_lock
    uint32_t handle_high        # indices below it exist; index 0 is never used
    uint32_t handle_dropped     # head of the lock-free chain of dropped handles

    # Collector thread.
    uint64_t requested          # cycle tickets
    uint64_t started
    uint64_t finished
    uint32_t kick               # futex word: the collector sleeps on it
    uint32_t progress           # futex word: bumped at every flip and finish
    uint32_t stop_collector
    uint32_t collector_alive
    unsigned long collector_thread
    uint64_t full_ticket        # cycles up to this one compact whatever they win

    # Waiting for units: sharded futex words.
    uint32_t unit_event[WAIT_SHARDS]
    uint32_t unit_waiters[WAIT_SHARDS]

    # Counters (atomic unless the collector alone writes them).
    uint64_t relocations
    uint64_t moved_bytes
    uint64_t copied_bytes
    uint64_t zeroed_bytes
    uint64_t recycled_bytes     # evacuated from-space pages used again as buffers
    uint64_t released_bytes     # given back by madvise
    uint64_t stray_pages
    uint64_t hole_faults
    uint64_t register_refusals  # cycles that relocated inside a pause for want of REGISTER
    uint64_t foreign_faults     # faults of threads that are not mutators of this heap
    uint64_t handler_reinstalls
    uint64_t batch_flushes      # batches cut short for a waiter
    IoctlCounts ioctls[IOCTL_KINDS]

    Events* events
    uint32_t refs               # atomic: the Python object and each attached mutator
